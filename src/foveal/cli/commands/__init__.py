"""What each command takes: its options and their help. Nothing is imported that a wrong word need not wait for."""
