"""The layers of both architectures, on the operators: one file per layer of the papers."""
