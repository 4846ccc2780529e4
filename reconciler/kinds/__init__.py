"""What each resource means: one file per kind, siblings of the same shape."""
