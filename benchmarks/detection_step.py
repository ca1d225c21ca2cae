"""Time and memory of one training step of Mask R-CNN, or of inference, on TransNeXt-T and on timm's Swin-T with the
same head.

    python benchmarks/detection_step.py --csv benchmarks/results
    python benchmarks/detection_step.py --mode inference --beside convnext_tiny

A step is forward, the sum of the losses, and backward, without an optimiser, on random images with eight objects each.
The peak of memory includes gradients. ``pair.py`` says how both are measured. Sizes are whole multiples of 32.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import pair
import torch
from torch import Tensor

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared
from foveal.tasks.detection import Detector, create_detector

OBJECTS = 8  # COCO's training images have 7.3 on average
DROP_PATH = 0.2
FIXED_SIZE = ("swin",)  # prefixes of models built for a fixed size


@dataclass(frozen=True)
class DetectorSubject:
    """A detector on a backbone, as a subject of ``foveal.bench``."""

    backbone: str
    detector: str = "mask_rcnn"
    form: str = "eager"

    @property
    def name(self) -> str:
        return f"{self.detector} {self.backbone}"

    def prepare(self, setting: Setting) -> Prepared:
        torch.manual_seed(0)
        size = (setting.height, setting.width)
        args = {"img_size": size} if self.backbone.startswith(FIXED_SIZE) else None
        net = create_detector(self.detector, self.backbone, drop_path=DROP_PATH, backbone_args=args)
        images = [torch.rand(3, *size) for _ in range(setting.batch)]
        if setting.mode == "inference":
            held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *images))
            return Prepared(_inference(net.eval(), images, setting), held)
        targets = [random_target(*size) for _ in images]
        inputs = [*images, *(value for target in targets for value in target.values())]
        held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *inputs))
        return Prepared(_step(net.train(), images, targets, setting), held)


def random_target(height: int, width: int) -> dict[str, Tensor]:
    """Return random objects between a tenth and half of the image's sides, whose masks fill their boxes."""
    size = torch.tensor([width, height])
    sides = size * (0.1 + 0.4 * torch.rand(OBJECTS, 2))
    corners = (size - sides) * torch.rand(OBJECTS, 2)
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return {"boxes": boxes, "labels": torch.randint(0, 80, (OBJECTS,)), "masks": masks}


def _step(net: Detector, images: list[Tensor], targets: list[dict[str, Tensor]], setting: Setting) -> Callable:
    def call() -> None:
        with setting.autocast():
            losses = net(images, targets)
        sum(losses.values()).backward()
        net.zero_grad(set_to_none=True)

    return call


def _inference(net: Detector, images: list[Tensor], setting: Setting) -> Callable:
    def call() -> None:
        with torch.inference_mode(), setting.autocast():
            net(images)

    return call


def main() -> None:
    """Measure, print, and append rows to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="transnext_tiny")
    parser.add_argument("--beside", default="swin_tiny_patch4_window7_224")
    parser.add_argument("--detector", default="mask_rcnn")
    parser.add_argument("--mode", choices=["training", "inference"], default="training")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    pair.add_options(parser, "800x1216")
    options = parser.parse_args()
    subjects = [DetectorSubject(name, options.detector) for name in (options.backbone, options.beside)]
    pair.run("detection", subjects, options.mode, options, parser.error, options.dtype)


if __name__ == "__main__":
    main()
