"""`make soak`: real processes on real disks that are disturbed, and a table of what came of it."""
