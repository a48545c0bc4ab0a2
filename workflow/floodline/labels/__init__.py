"""Labels to training sites: partitions by the local fraction of the object, then balanced coordinates."""
