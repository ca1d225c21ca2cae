"""The command line: one short file a command, read only when its command is called."""
