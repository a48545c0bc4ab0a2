"""Training of the flood-filling network by synchronous workers."""
