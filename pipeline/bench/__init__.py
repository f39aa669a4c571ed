"""How fast training is on this machine, and what limits it: `nnclr bench`."""
