"""What people look at: meshes, skeletons, the connectome, a viewer and the report of a run."""
