"""Studies of the training: how it scales with the number of workers."""
