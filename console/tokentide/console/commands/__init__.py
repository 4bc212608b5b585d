"""The commands, one module a group; what is slow to import is imported inside the functions."""
