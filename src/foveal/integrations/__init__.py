"""The backbones in other libraries: one folder per library, each imported by its own name."""
