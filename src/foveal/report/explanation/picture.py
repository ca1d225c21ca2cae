"""A picture with its numbers, and how both are written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from foveal.plotting import encoded_reproducibly, save_reproducibly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["png", "svg", "pdf"]


@dataclass(frozen=True)
class Picture:
    """One figure and what it shows.

    Attributes:
        name: of its files, without an ending.
        figure: matplotlib's.
        arrays: the numbers, by name.
        facts: what a person or program would read of them, in plain types.
    """

    name: str
    figure: Figure
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def files(self, forms: Sequence[Form]) -> list[str]:
        """Return the names of the files that ``write`` creates."""
        return [f"{self.name}.{form}" for form in forms] + ([f"{self.name}.npz"] if self.arrays else [])

    def write(self, folder: Path, forms: Sequence[Form], dpi: int = 300) -> None:
        """Write the figure in each form, and the arrays as .npz: the same picture gives the same bytes.

        Args:
            folder: where.
            forms: of the figure.
            dpi: pixels per inch of a PNG file.
        """
        for form in forms:
            save_reproducibly(self.figure, folder / f"{self.name}.{form}", dpi)
        if self.arrays:
            (folder / f"{self.name}.npz").write_bytes(self.content("npz"))

    def content(self, form: Form | Literal["npz"]) -> bytes:
        """Return the content of one of these files."""
        if form != "npz":
            return encoded_reproducibly(self.figure, form)
        file = io.BytesIO()
        np.savez_compressed(file, **cast(Any, self.arrays))
        return file.getvalue()
