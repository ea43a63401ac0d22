"""The command lines of the core."""
