"""The process of a command: its standard streams, its progress display, its imports."""
