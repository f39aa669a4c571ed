"""Data sets that the command line can put on disk: the embedded sample and the official STL-10 archive."""
