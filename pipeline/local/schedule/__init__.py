"""The schedule of a machine without Kubernetes: `nnclr run` at fixed times."""
