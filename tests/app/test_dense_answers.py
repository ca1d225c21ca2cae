"""Detectors and segmenters in the explorer: their answers on the whole image, and the evidence for each."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from foveal.app import look
from foveal.app.download import shown
from foveal.app.networks import Network
from foveal.app.seen import Seen
from foveal.explain import Layer, box_score, cam_layer, region_score, watch_scores
from foveal.report.explanation.subject import Subject
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.detection import create_detector
from foveal.tasks.segmentation import create_segmenter
from support.explorer import noise

IMAGE = noise(0, 64, 96)


def seen_by(kind, net, short=None):
    fit = Preprocessing(size=(64, 64))
    subject = Subject("net", "random weights", kind, net.eval(), net.backbone.body, ["cat", "dog"], fit, short)
    return Seen(Network("net", subject), "a", IMAGE)


def test_boxes_are_those_of_the_detector_and_explained_one_by_one(monkeypatch):
    monkeypatch.setattr(look, "LOWEST_SCORE", 0.0)
    torch.manual_seed(0)
    net = create_detector("retinanet", "transnext_atto", num_classes=2, score=0.0).eval()
    net.images.min_size, net.images.max_size = (64,), 96
    seen = seen_by("detection", net)
    items = look.answers(seen)["items"]
    with torch.no_grad():
        (found,) = net([to_tensor(IMAGE)])
    assert items
    for item in items:
        assert item["value"] == pytest.approx(float(found["scores"][item["index"]]), rel=1e-4)
        assert item["box"] == pytest.approx(found["boxes"][item["index"]].tolist(), abs=0.01)
    scores = watch_scores(net, [to_tensor(IMAGE)], Layer(cam_layer(net.backbone.body, 2)))
    expected = scores.map(box_score(items[1]["index"])).on_image((64, 96), 16)
    np.testing.assert_allclose(look.evidence(seen, items[1]["index"], 2), expected, rtol=1e-3, atol=1e-9)


def test_classes_of_pixels_are_those_of_the_segmenter_with_their_colours():
    torch.manual_seed(0)
    net = create_segmenter("semantic_fpn", "transnext_atto", num_classes=2).eval()
    seen = seen_by("segmentation", net, short=64)
    x = to_tensor(IMAGE)[None]
    with torch.no_grad():
        labels = net(x)[0].argmax(0).numpy()
    items = look.answers(seen)["items"]
    assert {item["index"]: item["value"] for item in items} == {
        int(label): pytest.approx((labels == label).mean()) for label in np.unique(labels)
    }
    label = items[0]["index"]
    expected = watch_scores(net, x, Layer(cam_layer(net.backbone.body, -1))).map(region_score(label))
    np.testing.assert_allclose(
        look.evidence(seen, label), expected.on_image((64, 96), 32), rtol=1e-3, atol=1e-7 * expected.heat.max() + 1e-12
    )
    _, size = shown(seen, "labels")
    assert size == (64, 96)
