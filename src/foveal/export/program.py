"""A network as a program of torch.export, at one size or at many."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from foveal.errors import FovealError
from foveal.models.folded.parts import preparing
from foveal.ops import use_backend
from foveal.ops.standard import NAME, kept_whole
from foveal.types import Size

BATCH, SIZE = "batch", "size"  # what may be dynamic
# Pixels: below, pooled maps are one cell wide, which PyTorch's traces tell from others.
SMALLEST = 64
AXES: dict[str, tuple[int, ...]] = {BATCH: (0,), SIZE: (2, 3)}


def example(batch: int, channels: int, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the images that a program is traced with: noise, the same at each call."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0)).to(dtype)


def trace(
    net: nn.Module, images: Tensor, dynamic: frozenset[str], *, whole: bool, smallest: int = SMALLEST
) -> ExportedProgram:
    """Return the program of a folded network in PyTorch's own operators.

    Args:
        net: is changed: it keeps what the program takes ready-made.
        images: an example; two images at least if the batch is dynamic.
        dynamic: of "batch" and "size".
        whole: leave attention and per-sample convolutions whole, for an exporter that translates them itself.
        smallest: side in pixels, if sizes are dynamic.

    Raises:
        FovealError: the network cannot be traced so.
    """
    with torch.no_grad():
        try:
            with preparing(sizes=SIZE not in dynamic), use_backend(NAME):
                net(images)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            size = f"{images.shape[2]} x {images.shape[3]}"
            raise FovealError(f"This network cannot take images of {size} ({reason}): choose another size.") from error
        with kept_whole() if whole else nullcontext():
            try:
                program = torch.export.export(
                    net,
                    (images,),
                    dynamic_shapes=(_shapes(dynamic, smallest),) if dynamic else None,
                    prefer_deferred_runtime_asserts_over_guards=bool(dynamic),
                )
            except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # torch.export's have no class
                raise _refusal(error, dynamic) from error
    _remove_idle_blocks(program)
    return program


def _remove_idle_blocks(program: ExportedProgram) -> None:
    """Remove blocks without autocast whose results are not used, since prepared ones are: a file with one does not
    load in PyTorch 2.15."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.higher_order.wrap_with_autocast and not node.users:
            graph.erase_node(node)
            for block in node.all_input_nodes:
                if block.op == "get_attr" and not block.users:
                    graph.erase_node(block)
    program.graph_module.recompile()


def _shapes(dynamic: frozenset[str], smallest: int) -> dict[int, Dim]:
    names = {0: ("batch", 1), 2: ("height", smallest), 3: ("width", smallest)}
    axes = sorted(axis for what in dynamic for axis in AXES[what])
    return {axis: Dim(names[axis][0], min=names[axis][1]) for axis in axes}


def _refusal(error: Exception, dynamic: frozenset[str]) -> FovealError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    advice = "leave --dynamic out" if dynamic else "choose another format or network"
    return FovealError(f"This network cannot be traced for export ({reason}): {advice}.")
