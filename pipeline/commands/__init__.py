"""The command line: one module a group of commands, and the options that several of them share."""
