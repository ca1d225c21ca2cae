"""What was put into int8, and what it changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Int8Report:
    """What was put into int8, and what it changed.

    Attributes:
        products: number of products with constant weights in the file.
        in_int8: how many of them are in int8.
        weights: share of the products' weights in int8.
        images: number of images that were calibrated on; ``cosine``: mean cosine between the file's outputs and the
            network's on these.
        held_out: number of images that were not calibrated on; ``held_out_cosine``: the same on these.
        agreement: share of all these images whose most probable class is that of the network; None if it is not a
            classifier.
    """

    products: int
    in_int8: int
    weights: float
    images: int
    cosine: float
    held_out: int
    held_out_cosine: float
    agreement: float | None

    def __str__(self) -> str:
        """The figures in one line."""
        text = (
            f"{self.in_int8} of {self.products} products in int8 ({self.weights:.0%} of their weights); cosine "
            f"{self.cosine:.5f} on {self.images} images, {self.held_out_cosine:.5f} on {self.held_out} held out"
        )
        return text if self.agreement is None else f"{text}; same class for {self.agreement:.1%}"
