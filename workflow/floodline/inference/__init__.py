"""Inference: floods every sub-volume into the block store."""
