"""Data sets that `nnclr data` writes to disk: the embedded sample and the official STL-10 archive."""
