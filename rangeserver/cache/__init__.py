"""A cache of blocks on disk, which every process of a machine shares."""
