"""The backbones as other libraries want them: one folder a library, each imported by its own name."""
