"""Both detectors end to end: gradients, mixed sizes, images without objects, and decoding of known outputs."""

import pytest
import torch
from torch import nn

from foveal.tasks.detection import create_detector
from foveal.tasks.detection.anchors import Matcher
from foveal.tasks.detection.boxes import BoxSelection
from foveal.tasks.detection.detector import ImageList
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
def test_losses_are_determined_by_the_seed(name):
    detector = small_detector(name)
    found = []
    for seed in (3, 3):
        torch.manual_seed(seed)
        found.append({n: loss.item() for n, loss in detector(*batch()).items()})
    assert found[0] == found[1]


def test_loss_names_match_torchvision():
    assert set(small_detector("mask_rcnn")(*batch())) == {
        *("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")
    }
    assert set(small_detector("retinanet")(*batch())) == {"loss_classifier", "loss_box_reg"}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(32, 32), (33, 95)])
def test_detections_are_inside_the_image_and_sorted_by_score(name, size):
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
def test_no_detections_give_empty_tensors(name):
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
    """Maps of a 32 x 64 image alone and as the first of a batch padded to 96 x 128, with levels for both detectors."""
    small, large = (
        [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1), (1, 1)],
        [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2), (1, 1)],
    )
    alone, around, other = maps_of(small, 1), maps_of(large, 2), maps_of(large, 3)
    for inner, outer in zip(alone, around, strict=True):
        outer[..., : inner.shape[2], : inner.shape[3]] = inner
    return alone, [torch.cat(pair) for pair in zip(around, other, strict=True)]


def look_at_single_positions(head):
    """Keep only the centre of 3 x 3 kernels, so that padding has no effect."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            with torch.no_grad():
                layer.weight *= torch.tensor([[0, 0, 0], [0, 30, 0], [0, 0, 0]])


ALONE = ImageList(torch.zeros(1, 3, 32, 64), [(32, 64)])
BESIDE = ImageList(torch.zeros(2, 3, 96, 128), [(32, 64), (96, 128)])


@pytest.mark.parametrize(("candidates", "proposals"), [(12, 20), (5000, 5000)], ids=["best", "all"])
def test_proposals_do_not_depend_on_the_batch(alone_and_beside, candidates, proposals):
    """Anchors in the padding neither displace a level's best candidates nor are appended after the last."""
    rpn = small_detector("mask_rcnn", candidates=(candidates, candidates), proposals=proposals).eval().rpn
    look_at_single_positions(rpn.head)
    (alone,), (beside, other) = (
        rpn(batch, maps[:5])[0] for batch, maps in zip((ALONE, BESIDE), alone_and_beside, strict=True)
    )
    assert 20 <= len(alone) == len(beside) <= len(other)
    torch.testing.assert_close(alone[:20], beside[:20])
    apart = (alone[:, None] - beside).abs().amax(-1)  # the order of the last ones, with similar scores, may differ
    assert max(apart.amin(0).max(), apart.amin(1).max()) < 1e-3


def test_retinanet_detections_do_not_depend_on_the_batch(alone_and_beside):
    detector = small_detector("retinanet", score=0.0, most=100).eval()
    look_at_single_positions(detector.head)
    found = []
    for batch, maps in zip((ALONE, BESIDE), alone_and_beside, strict=True):
        detector.backbone, detector.pyramid = nn.Identity(), Fixed(maps[1:])
        found.append(detector.detections(batch)[0])
    assert len(found[0]["boxes"]) > 20
    torch.testing.assert_close(*found)


class Fixed(nn.Module):
    """Returns a fixed output for any input."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, _):
        return self.answer


def test_proposals_have_no_gradient():
    """The losses of the second stage do not propagate into the first stage through the proposals."""
    detector = small_detector("mask_rcnn")
    maps = maps_of([(8, 16), (4, 8), (2, 4), (1, 2), (1, 1)], 1)
    proposals, losses = detector.rpn(ALONE, maps, [target([], [], (32, 64))])
    assert not any(p.requires_grad for p in proposals)
    assert all(loss.requires_grad for loss in losses.values())


def test_published_settings_are_the_defaults():
    """From MMDetection's configurations of both detectors."""
    shallow = dict(backbone_args=dict(depths=(1, 1, 1, 1)))
    two_stages, dense = (create_detector(name, "transxnet_atto", **shallow) for name in DETECTORS)
    rpn, heads = two_stages.rpn, two_stages.roi_heads
    assert [rpn.pre_nms_top_n(), rpn.eval().pre_nms_top_n(), rpn.post_nms_top_n()] == [2000, 1000, 1000]
    assert rpn.nms_thresh == 0.7
    assert rpn.matcher == Matcher(0.7, 0.3, 0.3)
    assert heads.matcher == Matcher(0.5, 0.5, 0.5)
    assert dense.matcher == Matcher(0.5, 0.4, 0.0)
    assert heads.selection == dense.selection == BoxSelection(score=0.05, overlap=0.5, most=100)
    many = torch.cat([torch.arange(1000), torch.full((1000,), -1)])
    assert [len(part) for part in rpn.sampler(many)] == [128, 128]
    assert [len(part) for part in heads.sampler(many)] == [128, 384]
    assert [heads.box_align.finest, heads.box_align.size, heads.mask_align.size] == [56, 7, 14]
    assert heads.box_head.fc2.weight.shape == (1024, 1024)
    assert heads.box_head.classifier.out_features == 81
    assert heads.box_head.box.out_features == 320
    assert [len(heads.mask_head.convs), len(dense.head.class_tower), len(dense.head.box_tower)] == [4, 4, 4]


def test_retinanet_starts_with_a_probability_of_001_for_every_class():
    head = small_detector("retinanet").head
    torch.testing.assert_close(head.classifier.bias.sigmoid(), torch.full((27,), 0.01))


def test_retinanet_decodes_a_known_output():
    """The tall anchor of the second scale at cell (2, 3) of stride 8, moved by a quarter width, twice as wide."""
    detector = small_detector("retinanet", num_classes=2)
    anchor, row, column = 2 * 3 + 1, 2, 3  # ratios are the outer, scales the inner loop
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


def test_nms_keeps_the_best_of_overlapping_boxes_per_class():
    detector = small_detector("retinanet", overlap=0.5)
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 9], [90, 0, 120, 10], [97, 0, 99, 9]]
    )
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.95]), torch.tensor([0, 0, 0, 1, 0, 0])
    found = detector.selection(boxes, scores, labels, SIZE)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6, 0.5])  # 0.9 suppresses 0.8; 0.95 is outside
    assert found["boxes"][-1].tolist() == [90, 0, 96, 10]


def test_only_mask_rcnn_requires_masks():
    images, targets = batch()
    bare = [{k: v for k, v in t.items() if k != "masks"} for t in targets]
    with pytest.raises(ValueError, match="masks"):
        small_detector("mask_rcnn")(images, bare)
    assert small_detector("retinanet")(images, bare)
