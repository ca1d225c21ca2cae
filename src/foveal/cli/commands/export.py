"""The options of ``foveal export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from foveal.cli.console import Json
from foveal.cli.paths import check_checkpoint


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        checkpoint: File of weights: best.pt of a run, or released ones.
        model: Model, with its released weights unless --checkpoint has others. Of a checkpoint without metadata, the
            model it was saved from; of a released detector or segmenter, its recipe (coco.NAME, ade20k.NAME).
        pretrained: Without --checkpoint: download the released weights, the default. --no-pretrained exports random
            weights, to measure speed.
        format: onnx for ONNX Runtime and others, openvino, aoti (AOTInductor: compiled for machines like this one), or
            torch (torch.export). A list such as onnx,openvino writes one file per format.
        size: Side of the square images in pixels, or height and width; the training size by default. Detectors and
            segmenters take images of other shapes padded to it; with --dynamic size they take every image in its own.
        dynamic: What the file leaves free: batch, size (height and width), or batch,size.
        batch: Images per call, 1 by default. Not with --dynamic batch.
        precision: fp32, bf16, fp16 or int8, where the format has it.
        calibration: For int8: a folder of images like those that the network was trained on, in subfolders or not.
        calibration_images: Images to draw from it, evenly, 128 by default; every fourth checks the file.
        features: Export the feature maps of the four stages instead of classes.
        out: File to write. With several formats, its ending is replaced by that of each.
    """

    checkpoint: Path | None = None
    model: str | None = None
    pretrained: bool = True
    format: str = "onnx"
    size: tuple[int, ...] = ()
    dynamic: str | None = None
    batch: int | None = None
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    calibration: Path | None = None
    calibration_images: int | None = None
    features: bool = False
    out: Annotated[Path | None, arg(metavar="FILE")] = None


def main(options: Annotated[ExportOptions, arg(name="")], *, json: Json = False) -> None:
    """Export a network for ONNX Runtime, OpenVINO, or PyTorch without Python.

    The file is compared with the network before it gets its name.
    """
    check_checkpoint(options.checkpoint)
    from foveal.cli.export import run

    run(options, json=json)
