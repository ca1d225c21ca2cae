"""Type aliases that every package uses."""

from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels or tokens."""
