"""Exported files in the runtimes that read them: no network of PyTorch, and no torch."""
