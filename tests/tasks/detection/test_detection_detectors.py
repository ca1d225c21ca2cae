"""Both detectors as wholes: every parameter learns, sizes mix, images may be empty, known answers are decoded."""

import pytest
import torch
from torch import nn

from foveal.tasks.detection.images import ImageList
from support.detectors import noise, small_detector, target

DETECTORS = ("mask_rcnn", "retinanet")
SIZE, OTHER = (64, 96), (48, 64)


def batch(objects=True):
    """Two images of different sizes."""
    rows = ([[8, 8, 40, 40], [30, 20, 90, 60]], [0, 2]), ([[4, 10, 40, 44]], [1])
    targets = [target(*(of if objects else ([], [])), size) for of, size in zip(rows, (SIZE, OTHER), strict=True)]
    return [noise(*SIZE), noise(*OTHER, seed=1)], targets


@pytest.mark.parametrize("objects", [True, False], ids=["objects", "none"])
@pytest.mark.parametrize("backbone", ["transnext_atto", "transxnet_atto"])
@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_has_a_gradient(name, backbone, objects):
    detector = small_detector(name, backbone)
    losses = detector(*batch(objects))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    without = [n for n, p in detector.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    if objects:
        assert all(loss > 0 for loss in losses.values())


@pytest.mark.parametrize("name", DETECTORS)
def test_losses_follow_from_the_seed(name):
    detector = small_detector(name)
    found = []
    for seed in (3, 3):
        torch.manual_seed(seed)
        found.append({n: loss.item() for n, loss in detector(*batch()).items()})
    assert found[0] == found[1]


def test_names_of_losses_are_torchvisions():
    assert set(small_detector("mask_rcnn")(*batch())) == {
        *("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")
    }
    assert set(small_detector("retinanet")(*batch())) == {"loss_classifier", "loss_box_reg"}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(32, 32), (33, 95)])
def test_detections_are_boxes_within_their_image_best_first(name, size):
    detector = small_detector(name, score=0.0, short=size[0], long=200).eval()
    with torch.no_grad():
        found, other = detector([noise(*size), noise(*OTHER)])
    assert len(found["boxes"]) == len(other["boxes"]) == 10
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"][:, 2:] <= torch.tensor([size[1], size[0]]) + 1e-3).all()
    assert torch.equal(found["scores"], found["scores"].sort(descending=True).values)
    assert set(found["labels"].tolist()) <= {0, 1, 2}
    if name == "mask_rcnn":
        assert found["masks"].shape == (10, 1, *size)
        assert (found["masks"] >= 0).all()
        assert (found["masks"] <= 1).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_found_is_nothing(name):
    detector = small_detector(name, score=0.9999).eval()
    with torch.no_grad():
        (found,) = detector([noise(*SIZE)])
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)
    if name == "mask_rcnn":
        assert found["masks"].shape == (0, 1, *SIZE)


def maps_of(sizes, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 8, *size, generator=draw) for size in sizes]


@pytest.fixture
def alone_and_beside():
    """Maps of a 32 x 64 image by itself, and as the first of a batch as large as 96 x 128; levels of both detectors."""
    small, large = (
        [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1), (1, 1)],
        [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2), (1, 1)],
    )
    alone, around, other = maps_of(small, 1), maps_of(large, 2), maps_of(large, 3)
    for inner, outer in zip(alone, around, strict=True):
        outer[..., : inner.shape[2], : inner.shape[3]] = inner
    return alone, [torch.cat(pair) for pair in zip(around, other, strict=True)]


def look_at_single_positions(head):
    """Leave of 3 x 3 kernels the middle, so that padding is not seen."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            with torch.no_grad():
                layer.weight *= torch.tensor([[0, 0, 0], [0, 30, 0], [0, 0, 0]])


ALONE = ImageList(torch.zeros(1, 3, 32, 64), [(32, 64)])
BESIDE = ImageList(torch.zeros(2, 3, 96, 128), [(32, 64), (96, 128)])


def test_proposals_do_not_depend_on_the_batch(alone_and_beside):
    rpn = small_detector("mask_rcnn").eval().rpn
    look_at_single_positions(rpn.head)
    (alone,), (beside, other) = (
        rpn(batch, maps[:5])[0] for batch, maps in zip((ALONE, BESIDE), alone_and_beside, strict=True)
    )
    assert len(alone) == len(other) == 20
    torch.testing.assert_close(alone, beside)


def test_retinanets_detections_do_not_depend_on_the_batch(alone_and_beside):
    detector = small_detector("retinanet", score=0.0, most=100).eval()
    look_at_single_positions(detector.head)
    found = []
    for batch, maps in zip((ALONE, BESIDE), alone_and_beside, strict=True):
        detector.backbone, detector.pyramid = nn.Identity(), Fixed(maps[1:])
        found.append(detector.detections(batch)[0])
    assert len(found[0]["boxes"]) > 20
    torch.testing.assert_close(*found)


class Fixed(nn.Module):
    """Answers what it is told, whatever it is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, _):
        return self.answer


def test_retinanet_decodes_a_known_answer():
    """At cell (2, 3) of stride 8 the tall anchor of the second scale, moved by a quarter width, twice as wide."""
    detector = small_detector("retinanet", num_classes=2)
    anchor, row, column = 2 * 3 + 1, 2, 3  # ratios outside, scales inside
    logits = [torch.full((1, h * w * 9, 2), -9.0) for h, w in ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))]
    codes = [torch.zeros(1, m.shape[1], 4) for m in logits]
    place = (row * 12 + column) * 9 + anchor
    logits[0][0, place, 1] = 2.0
    codes[0][0, place] = torch.tensor([0.25, 0, 0.6931472, 0])
    detector.head = Fixed((logits, codes))
    detector.eval()
    with torch.no_grad():
        (found,) = detector([noise(*SIZE)])
    side = 8 * 4 * 2 ** (1 / 3)
    width, height = side / 2**0.5, side * 2**0.5
    x, y = 24 + width / 4, 16
    expected = torch.tensor([[x - width, y - height / 2, x + width, y + height / 2]]).clamp(min=0)
    torch.testing.assert_close(found["boxes"], expected)
    assert found["labels"].tolist() == [1]
    torch.testing.assert_close(found["scores"], torch.tensor([2.0]).sigmoid())


def test_of_boxes_of_one_class_that_overlap_the_best_is_shown():
    detector = small_detector("retinanet", overlap=0.5)
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 9], [90, 0, 120, 10], [97, 0, 99, 9]]
    )
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.95]), torch.tensor([0, 0, 0, 1, 0, 0])
    found = detector.selection(boxes, scores, labels, SIZE)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6, 0.5])  # 0.9 covers 0.8; 0.95 lies outside
    assert found["boxes"][-1].tolist() == [90, 0, 96, 10]


def test_targets_without_masks_are_refused_by_mask_rcnn_alone():
    images, targets = batch()
    bare = [{k: v for k, v in t.items() if k != "masks"} for t in targets]
    with pytest.raises(ValueError, match="masks"):
        small_detector("mask_rcnn")(images, bare)
    assert small_detector("retinanet")(images, bare)
