"""Which classes a set has. The lists are files beside this one: a synset a line, what it is and its source on top."""

from functools import cache
from pathlib import Path
from typing import Literal

ClassList = Literal["imagenet_1k", "imagenet_a", "imagenet_r"]


@cache
def synsets(name: ClassList) -> tuple[str, ...]:
    """WordNet's names of a set's classes ("n01440764"), in the order of ImageNet-1K's logits."""
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="ascii").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def indices(name: ClassList) -> tuple[int, ...]:
    """The logits (0 to 999) of a set's classes, in ascending order."""
    place = {synset: index for index, synset in enumerate(synsets("imagenet_1k"))}
    return tuple(place[synset] for synset in synsets(name))
