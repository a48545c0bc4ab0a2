"""Ingest: sources of image and labels to precomputed layers."""
