"""Volumes: one interface over every storage, and the layers that the stages exchange."""
