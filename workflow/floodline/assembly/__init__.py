"""Assembly: from the objects of overlapping sub-volumes to one label space, the supervoxels."""
