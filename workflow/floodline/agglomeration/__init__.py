"""Agglomeration: from supervoxels to neurons, over the graph of their contacts."""
