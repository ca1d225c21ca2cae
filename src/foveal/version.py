"""The version, in a file that installing can read without importing PyTorch."""

__version__ = "0.1.0"
