"""Pictures of ``foveal explain`` as a section of a page, each with the command that draws it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from foveal.explain import EffectiveReceptiveField, depth_profile, watch_attention
from foveal.plotting import encoded_reproducibly
from foveal.report.explanation.activation import activation_picture
from foveal.report.explanation.attention import PROFILE_GRID, depth_picture
from foveal.report.explanation.field import field_picture
from foveal.report.explanation.picture import Picture as Drawn
from foveal.report.explanation.subject import open_subject
from foveal.report.page import Child, Picture, command_line, el
from foveal.report.page_attention import CREDITS

EVIDENCE_STAGE, FLOWER_SIDE = 1, 256  # counted from 0; pixels
DPI = 110


@dataclass(frozen=True)
class Explained:
    """One picture: what it shows in a few words, the bytes of a PNG file, and the command that draws it again."""

    title: str
    png: bytes
    command: str


def explained(checkpoint: Path, digit: Path, flower: Path, moved: Callable[[Path], Path]) -> list[Explained]:
    """Draw the evidence for a digit, and attention by depth and receptive fields on a flower.

    Args:
        checkpoint: of a small TransNeXt that reads digits.
        digit: an image file.
        flower: scikit-learn's photograph, as a file.
        moved: returns where one of these files will be when the page is read.
    """

    def shown(picture: Drawn, title: str, image: Path, options: str) -> Explained:
        paths = shlex.join(["foveal", "explain", str(moved(image)), "--checkpoint", str(moved(checkpoint))])
        return Explained(title, encoded_reproducibly(picture.figure, "png", DPI), f"{paths} {options}")

    reader, viewer = open_subject(checkpoint), open_subject(checkpoint, size=FLOWER_SIDE)
    evidence = activation_picture(reader, reader.look_at(digit), (), EVIDENCE_STAGE, "grad")
    photo = replace(viewer.look_at(flower), credit=CREDITS["flower"])
    depth = depth_picture(viewer, photo, depth_profile(watch_attention(viewer.model, photo.tensor), PROFILE_GRID))
    field = EffectiveReceptiveField(viewer.model)
    field.add(photo.tensor[None])
    size = f"--size {FLOWER_SIDE}"
    return [
        shown(evidence, "What speaks for the digit", digit, f"--what gradcam --stage {EVIDENCE_STAGE + 1}"),
        shown(depth, "How attention changes with depth", flower, f"--what attention {size}"),
        shown(field_picture("erf", [(viewer, field.result())]), "What each stage sees", flower, f"--what erf {size}"),
    ]


def explained_pictures(pictures: Iterable[Explained]) -> Child:
    """Return the pictures with their commands."""
    return [
        el(
            "figure",
            el("h3", one.title),
            el("div", Picture(one.png, one.title).html(loading="lazy"), class_="scroll"),
            command_line(one.command),
            class_="explained",
        )
        for one in pictures
    ]
