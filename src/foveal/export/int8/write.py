"""Turn an ONNX file in fp32 into a file with products in int8: calibrate, choose, write, and check."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.runtime.card import KEY, Card
from foveal.runtime.session import Session, open_session

from .calibration import calibrate
from .images import Batches
from .products import products_of
from .qdq import Rewriting
from .report import Int8Report
from .selection import candidates, largest

if TYPE_CHECKING:
    import onnx

SMALLEST_COSINE = 0.99  # on images that were not calibrated on, below which a file is not kept
_TRIED = 32  # images on which sets of products are tried
Outputs = list[np.ndarray]
Save = Callable[["onnx.ModelProto", Path], int]


def write_int8(
    net: nn.Module, exact: Path, card: Card, path: Path, images: tuple[Batches, Batches], *, openvino: bool
) -> tuple[int, Int8Report]:
    """Write a network's file with its products in int8; return the number of nodes or operations, and a report.

    Args:
        net: the network, in fp32.
        exact: the ONNX file of it in fp32.
        card: of the file to write.
        path: of the file to write, FILE.onnx or with ``openvino`` FILE.xml.
        images: to calibrate on, and held out.

    Raises:
        FovealError: no product can be in int8, or the file is not accurate on the held-out images.
    """
    import onnx

    seen, held_out = images
    model = onnx.load(exact)
    products = products_of(model)
    found = calibrate(model, products, seen, outputs=not openvino)
    rewriting = Rewriting(model, products, found, outputs=not openvino)
    save = save_openvino if openvino else save_onnx
    few = seen.first(_TRIED)
    expected = [_expected(net, batch) for batch in few]

    def cosine(names: Sequence[str]) -> float:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            tried = Path(folder, path.name)
            save(rewriting.model(names), tried)
            return float(np.mean(_cosines(_answers(open_session(tried), few), expected)))

    chosen = set(largest(candidates(products, found), cosine))
    if not chosen:
        raise FovealError(
            "No product of this network is accurate enough in int8 on these images: calibrate on images like those "
            "that it was trained on, or leave --precision int8 out."
        )
    operators = save(rewriting.model(chosen), path)
    weights = sum(one.weight.size for one in products if one.node in chosen) / sum(one.weight.size for one in products)
    return operators, _report(net, path, card, seen, held_out, len(products), len(chosen), weights)


def save_onnx(model: onnx.ModelProto, path: Path) -> int:
    """Write FILE.onnx, and return the number of its nodes."""
    import onnx

    onnx.save(model, path)
    return len(model.graph.node)


def save_openvino(model: onnx.ModelProto, path: Path) -> int:
    """Write FILE.xml and FILE.bin, and return the number of their operations.

    OpenVINO reads ONNX's pairs as its own. NNCF, its tool for int8, rounds what lies between the products as well.
    """
    from ..openvino_file import convert

    text = next(one.value for one in model.metadata_props if one.key == KEY)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx_file = Path(folder, "network.onnx")
        save_onnx(model, onnx_file)
        return convert(onnx_file, text, path)


def _report(
    net: nn.Module,
    path: Path,
    card: Card,
    seen: Batches,
    held_out: Batches,
    products: int,
    in_int8: int,
    weights: float,
) -> Int8Report:
    cosines, same, session = [], [], open_session(path)
    for images in (seen, held_out):
        found, expected = _answers(session, images), [_expected(net, batch) for batch in images]
        cosines.append(float(np.mean(_cosines(found, expected))))
        same += [ours[0].argmax(1) == theirs[0].argmax(1) for ours, theirs in zip(found, expected, strict=True)]
    if not cosines[1] >= SMALLEST_COSINE:  # NaN is not
        raise FovealError(
            f"In int8 the outputs have a mean cosine of {cosines[1]:.4f} to those in fp32 on images that were not "
            f"calibrated on, below {SMALLEST_COSINE}: the file was not kept; calibrate on more images."
        )
    agreement = float(np.concatenate(same).mean()) if card.task == "classification" else None
    return Int8Report(products, in_int8, weights, len(seen), cosines[0], len(held_out), cosines[1], agreement)


def _expected(net: nn.Module, batch: np.ndarray) -> Outputs:
    with torch.no_grad():
        returned = net(torch.from_numpy(batch))
    return [tensor.numpy() for tensor in ((returned,) if isinstance(returned, Tensor) else returned)]


def _answers(session: Session, images: Batches) -> list[Outputs]:
    """Return the outputs of a file, batch by batch."""
    return [list(session.run(batch).values()) for batch in images]


def _cosines(found: list[Outputs], expected: list[Outputs]) -> np.ndarray:
    """Return the cosine of every output of every image."""
    cosines = []
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines.append((a * b).sum(1) / np.maximum(norms, 1e-30))
    return np.concatenate(cosines)
