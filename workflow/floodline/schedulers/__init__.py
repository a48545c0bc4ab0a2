"""Cobalt and PBS Pro for Snakemake: submit, look, cancel, and submit again what ran out of time."""
