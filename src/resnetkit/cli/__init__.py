"""The command line: one small file a command; each parses, calls and prints."""
