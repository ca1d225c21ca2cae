"""Shared test code: the error budget, operator calls, small models, and plain forms of both architectures."""
