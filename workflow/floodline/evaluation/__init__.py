"""Scores of the segmentations against the labels."""
