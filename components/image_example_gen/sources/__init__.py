"""Where images come from. One module a kind; `opening` tells which kind a path is."""
