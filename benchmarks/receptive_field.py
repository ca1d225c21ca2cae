"""Time and memory of the effective receptive fields of TransNeXt-T's four stages, and of timm's Swin-T.

    python benchmarks/receptive_field.py --csv benchmarks/results
    python benchmarks/receptive_field.py --images 100 --rounds 3

A call adds ``--images`` random images to a receptive field: one forward pass per batch, and one backward pass per stage
to the input. ``pair.py`` says how both are measured.
"""

import argparse
from dataclasses import dataclass

import pair
import timm
import torch

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared
from foveal.explain import EffectiveReceptiveField


@dataclass(frozen=True)
class FieldSubject:
    """The receptive fields of a network over a number of images, as a subject of ``foveal.bench``."""

    model: str
    images: int
    form: str = "eager"

    @property
    def name(self) -> str:
        return f"{self.model} images={self.images}"

    def prepare(self, setting: Setting) -> Prepared:
        torch.manual_seed(0)
        fixed = timm.get_pretrained_cfg(self.model).fixed_input_size
        options = {"img_size": (setting.height, setting.width)} if fixed else {}
        net = timm.create_model(self.model, **options).eval()
        batches = torch.randn(self.images, 3, setting.height, setting.width).split(setting.batch)
        held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *batches))

        def call() -> None:
            field = EffectiveReceptiveField(net)
            for batch in batches:
                field.add(batch)

        return Prepared(call, held)


def main() -> None:
    """Measure, print, and append rows to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transnext_tiny")
    parser.add_argument("--beside", default="swin_tiny_patch4_window7_224")
    parser.add_argument("--images", type=int, default=20, help="images per call")
    pair.add_options(parser, "224", batch=4)  # that of foveal explain
    options = parser.parse_args()
    subjects = [FieldSubject(name, options.images) for name in (options.model, options.beside)]
    pair.run("receptive field", subjects, "field", options, parser.error)


if __name__ == "__main__":
    main()
