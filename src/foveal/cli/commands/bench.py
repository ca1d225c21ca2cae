"""The options of ``foveal bench``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from foveal.cli.console import Json

_PEERS = ("tiny", "accuracy")
#: ``--peers`` alone means the first of them.
_PEERS_OR_NONE = PrimitiveConstructorSpec(
    nargs=(0, 1),
    metavar="[LIST]",
    instance_from_str=lambda words: words[0] if words else _PEERS[0],
    is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda value: [value],
)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of ``foveal bench``.

    Attributes:
        what: models; ops, the operators at the shapes of TransNeXt-Tiny and TransXNet-S; scaling, models at several
            image sizes in normal and linear mode; or a list.
        peers: Also measure networks of timm. List of tiny (ConvNeXt-T, Swin-T and PVTv2-B2; the default of --peers
            without a value) and accuracy (for each model, those with its published ImageNet-1K accuracy: the nearest
            of each family, within half a point).
        models: List of models. Default: transnext_tiny and transxnet_s; with --peers accuracy all seven with a
            published accuracy at 224 pixels.
        forms: List of eager, optimised (foveal.optimize), compiled (torch.compile), reference (the authors' form of the
            operators). Default: eager and optimised; for training eager, for scaling optimised. Peers are measured
            compiled if compiled is listed, and eager for all other forms.
        mode: List of inference (a forward pass) and training (forward, loss, backward, no optimiser).
        dtypes: List of fp32, bf16, fp16, int8. In half types the network is cast for inference, autocast for training.
            int8 is foveal.quantize on a CPU; peers have no such form and are measured in fp32 beside it.
        batches: List of images per call. Default: 8, for scaling 1.
        sizes: List of sides in pixels, or height x width as in 480x640. Default: 224, for scaling 224 to 1024.
        device: cpu, cuda, cuda:1, ...
        threads: PyTorch's threads on the CPU. Default: PyTorch's choice.
        rounds: Counted rounds, after two warm-up rounds.
        no_memory: Do not measure peak memory, which on a CPU takes a separate process for each subject.
        csv: File to append rows to; in a folder, a file named after the device.
        plot: Chart to draw, a .png, .svg or .pdf file; for scaling, lines against the image size; for models with
            --peers accuracy, published accuracy against speed.
    """

    what: Annotated[Positional[str], arg(metavar="models,ops,scaling")] = "models"
    peers: Annotated[str, _PEERS_OR_NONE] = "none"
    models: str | None = None
    forms: str | None = None
    mode: str = "inference"
    dtypes: str = "fp32"
    batches: str | None = None
    sizes: str | None = None
    device: str = "cpu"
    threads: int | None = None
    rounds: int = 7
    no_memory: bool = False
    csv: Path | None = None
    plot: Path | None = None
    json: Json = False


def main(options: Annotated[BenchOptions, arg(name="")]) -> None:
    """Measure speed and peak memory of models and operators, and their growth with the image size.

    All subjects are timed in turn, round by round: compare ratios, not seconds of different runs. Before any timing, a
    short test checks that every operator computes its formula. Options that say "list" take several values separated
    by commas; every combination is measured.
    """
    from foveal.cli.bench import run

    run(options)
