"""The options of ``foveal explain``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from foveal.cli.console import Json
from foveal.cli.paths import check_checkpoint

OUT = Path("foveal-explain")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The options of ``foveal explain``.

    Attributes:
        model: Network of foveal or timm, with random weights unless --pretrained is given; or the network of a file
            that does not say it.
        checkpoint: File of weights: best.pt of a run, or released ones.
        pretrained: Use the released weights of --model, which are downloaded.
        what: List of erf (effective receptive field, averaged over all images), attention (of one query; TransNeXt's
            by depth as well), gradcam (evidence for a class, box or region) and branches (dynamic kernels, energies and
            receptive fields of TransXNet's branches). Default: all that the network has.
        beside: For erf: networks of timm to show in the same figure, with released weights if --pretrained is given.
        stage: Stage to look at, from 1. Default: 3, for gradcam the last.
        block: Block of that stage, from 1. Default: the last.
        query: For attention: row and column in pixels of the image that the network sees. Default: the centre.
        classes: For gradcam: names or indices of classes; for a detector indices of its boxes, best first. Default: the
            most probable class, the best box, the class with the largest area.
        method: For gradcam: grad (Grad-CAM) or hires (HiRes-CAM).
        layer: For gradcam: name of a module of the backbone whose output is a map, instead of --stage.
        size: Side of the square images in pixels; for a segmenter's gradcam the short side, and for a detector's. By
            default that of training.
        sign: For erf: absolute derivatives as in the papers, or positive ones alone as in RepLKNet's script.
        batch_size: For erf: images per pass.
        seed: Of random weights.
        credit: Author and licence of the photographs, for the captions.
        out: Folder of the pictures. The sums of erf are kept there, so that an interrupted call continues.
        formats: List of png, svg and pdf.
        dpi: Pixels per inch of png files.
    """

    model: str | None = None
    checkpoint: Path | None = None
    pretrained: bool = False
    what: str | None = None
    beside: tuple[str, ...] = ()
    stage: int | None = None
    block: int | None = None
    query: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()
    method: Literal["grad", "hires"] = "grad"
    layer: str | None = None
    size: int | None = None
    sign: Literal["absolute", "positive"] = "absolute"
    batch_size: int = 4
    seed: int = 0
    credit: str = ""
    out: Path = OUT
    formats: str = "png"
    dpi: int = 300
    json: Json = False


def main(
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")],
    options: Annotated[ExplainOptions, arg(name="")],
) -> None:
    """Draw what a network sees: its effective receptive field, where it attends, the evidence for a class, and the
    branches of its mixer, as pictures and numbers.

    Args:
        images: Image files, or folders of them.
    """
    check_checkpoint(options.checkpoint)
    from foveal.cli.explain import run

    run(images, options)
