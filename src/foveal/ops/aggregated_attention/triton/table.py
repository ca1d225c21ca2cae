"""The Triton kernels as those of the operator that takes a table: the same, tried with tables at their first use."""

from __future__ import annotations

from . import backward as backward
from . import forward as forward
from . import unsupported as unsupported
from .trial import table_compiled_for as compiled_for
from .trial import table_trials as trials

__all__ = ["backward", "compiled_for", "forward", "trials", "unsupported"]
