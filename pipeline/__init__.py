"""What runs, in which order, and where: settings, the DAG, its runners and the command `nnclr`."""
