"""A small exported classifier with its card, and what ONNX Runtime answers for an image, for the tests of examples."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal.ops import use_backend
from foveal.runtime.card import KEY, Card, Input, Resizing
from foveal.version import __version__

SIZE = 64
CLASSES = tuple(f"class {digit}" for digit in range(10))
RESIZING = Resizing(
    crop=0.875, whole=False, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def export_classifier(path: Path, name: str = "transnext_atto", size: int = SIZE) -> Card:
    """Write an untrained classifier as ONNX, with its card in the metadata and in a JSON file beside it."""
    import onnx
    import timm

    import foveal  # noqa: F401

    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=len(CLASSES)).eval()
    with torch.no_grad():  # an untrained head gives all classes nearly the same probability
        net.get_classifier().weight.mul_(40)
    shapes = {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}}
    words = {"input_names": ["image"], "output_names": ["logits"], "opset_version": 20, "external_data": False}
    with use_backend("reference"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(2, 3, size, size),), path, dynamo=True, verbose=False, **shapes, **words)
    given = Input("image", None, (size, size))
    card = Card("classification", name, "fp32", given, RESIZING, ("logits",), CLASSES, "untrained", __version__)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {KEY: card.text()})
    onnx.save(model, path)
    path.with_suffix(".json").write_text(card.text())
    return card


def probabilities(path: Path, image: Image.Image) -> dict[str, float]:
    """Return the probability of every class, by torchvision's preprocessing and ONNX Runtime."""
    import onnxruntime
    from torchvision.transforms.functional import InterpolationMode, center_crop, normalize, resize, to_tensor

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    side, how = card["input"]["size"][0], card["resizing"]
    small = resize(image.convert("RGB"), int(side / how["crop"]), InterpolationMode.BICUBIC)
    x = normalize(to_tensor(center_crop(small, side)), how["mean"], how["std"])[None]
    (logits,) = session.run(None, {"image": x.numpy().astype(np.float32)})
    shares = torch.from_numpy(logits[0]).softmax(0)
    return dict(zip(card["classes"], shares.tolist(), strict=True))
