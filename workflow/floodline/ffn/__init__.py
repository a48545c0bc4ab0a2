"""The flood-filling network: the network, its weights, and the flood itself."""
