"""Pictures of what a network sees, with their numbers: one file for each kind of picture."""
