"""The losses of both detectors in float64, compared with plain formulas over every anchor and box."""

import math

import pytest
import torch
from torch import nn

from foveal.tasks.detection.anchors import BACKGROUND, IGNORED, AnchorGenerator
from foveal.tasks.detection.boxes import BoxSelection
from foveal.tasks.detection.detector import ImageList
from foveal.tasks.detection.roi_heads import RoIHeads
from foveal.tasks.detection.rpn import ProposalNetwork
from support.detectors import small_detector, target


def plain_code(box, base, stds=(1, 1, 1, 1)):
    """Encoding of a box relative to another."""
    w, h = base[2] - base[0], base[3] - base[1]
    dx = ((box[0] + box[2]) / 2 - (base[0] + base[2]) / 2) / w
    dy = ((box[1] + box[3]) / 2 - (base[1] + base[3]) / 2) / h
    code = (dx, dy, math.log((box[2] - box[0]) / w), math.log((box[3] - box[1]) / h))
    return [c / std for c, std in zip(code, stds, strict=True)]


def in_double(of_image):
    return {**of_image, "boxes": of_image["boxes"].double()}


def l1(code, wanted):
    return sum(abs(float(a) - b) for a, b in zip(code, wanted, strict=True))


@pytest.fixture
def scene():
    """Anchors of one level, and targets of two images, the second without objects."""
    anchors = torch.tensor([[0, 0, 32, 32], [2, 0, 34, 30], [20, 0, 60, 32], [40, 40, 60, 60]]).double()
    of_first = in_double(target([[0, 0, 32, 32], [41, 40, 60, 60]], [1, 2], (64, 64)))
    return anchors, [of_first, in_double(target([], [], (64, 64)))]


def test_losses_of_the_proposal_network_equal_plain_formulas(scene):
    """All anchors are sampled; the third anchor of the second image is in the padding."""
    anchors, targets = scene
    rpn = ProposalNetwork(nn.Identity(), AnchorGenerator((4,), (8,)), 32, samples=8, candidates=(9, 9), proposals=5)
    match = rpn.matcher(targets[0]["boxes"], anchors).tolist()
    assert match == [0, 0, BACKGROUND, 1]
    logits, codes = torch.randn(2, 4).double(), torch.randn(2, 4, 4).double()
    inside = torch.tensor([[True] * 4, [True, True, False, True]])
    losses = rpn.losses(logits, codes, anchors, inside, targets)
    objectness = boxes = 0.0
    for i, numbers in ((0, (0, 1, 2, 3)), (1, (0, 1, 3))):
        for n in numbers:
            found = i == 0 and match[n] >= 0
            p = 1 / (1 + math.exp(-float(logits[i, n])))
            objectness -= math.log(p if found else 1 - p)
            if found:
                boxes += l1(codes[i, n], plain_code(targets[0]["boxes"][match[n]].tolist(), anchors[n].tolist()))
    drawn = (3 + 1) + (1 + 3)  # an image without objects counts as one
    assert losses["loss_objectness"].item() == pytest.approx(objectness / drawn)
    assert losses["loss_rpn_box_reg"].item() == pytest.approx(boxes / drawn)


class Fixed(nn.Module):
    """A head with a fixed output."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = answers

    def forward(self, features):
        return self.answers if len(self.answers) > 1 else self.answers[0]


class Asked:
    """Replaces RoIAlign and records the requested boxes."""

    def __call__(self, maps, boxes):
        self.boxes = [of_image.tolist() for of_image in boxes]


def test_losses_of_the_second_stage_equal_plain_formulas(scene):
    _, targets = scene
    heads = RoIHeads(2, 3, (4, 8, 16, 32), 56, 4, 1, 100, BoxSelection(0.05, 0.5, 10)).double()
    proposals = [torch.tensor([[2.0, 0, 34, 30], [20, 0, 60, 32]]).double(), torch.tensor([[5.0, 5, 20, 20]]).double()]
    boxes = [[0, 0, 32, 32], [41, 40, 60, 60], [2, 0, 34, 30], [20, 0, 60, 32], [5, 5, 20, 20]]  # in sampling order
    labels, objects = [1, 2, 1, 3, 3], [0, 1, 0]  # 3 is the background
    logits, codes, masks = torch.randn(5, 4).double(), torch.randn(5, 3, 4).double(), torch.randn(3, 3, 28, 28).double()
    heads.box_head, heads.mask_head = Fixed(logits, codes), Fixed(masks)
    heads.box_align, heads.mask_align = Asked(), Asked()
    losses = heads.losses([], proposals, targets)
    assert heads.box_align.boxes == [boxes[:4], boxes[4:]]
    assert heads.mask_align.boxes == [boxes[:3], []]
    classes = -sum(float(logits[i].log_softmax(0)[label]) for i, label in enumerate(labels)) / 5
    distance = 0.0
    for i, number in enumerate(objects):
        wanted = plain_code(targets[0]["boxes"][number].tolist(), boxes[i], (0.1, 0.1, 0.2, 0.2))
        distance += l1(codes[i, labels[i]], wanted)
    own = torch.stack([masks[i, labels[i]] for i in range(3)])
    wanted = torch.ones(3, 28, 28).double()
    wanted[2, :, 27] = 0  # the object ends at 32 in [2, 0, 34, 30]: the cell from 32.86 on is outside
    wanted[2, :, 26] = (torch.tensor(2 + 26.5 / 28 * 32) < 32).double()
    entropy = -(wanted * own.sigmoid().log() + (1 - wanted) * (-own).sigmoid().log()).mean()
    assert losses["loss_classifier"].item() == pytest.approx(classes)
    assert losses["loss_box_reg"].item() == pytest.approx(distance / 5)
    assert losses["loss_mask"].item() == pytest.approx(entropy.item())


def test_detections_of_the_second_stage():
    """Boxes and masks of their own class, sorted by score; masks are computed for the detected boxes."""
    heads = RoIHeads(2, 3, (4, 8, 16, 32), 56, 4, 1, 100, BoxSelection(0.4, 0.5, 10))
    proposals = [torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 60]]), torch.tensor([[10.0, 10, 30, 30]])]
    logits, codes, masks = torch.zeros(3, 4), torch.zeros(3, 3, 4), torch.randn(3, 3, 28, 28)
    logits[0, 1], logits[1, 0], logits[2, 2] = 2, 3, 4
    codes[1, 0] = torch.tensor([1.0, 0, 0, 0])  # moves the box to the right by a tenth of 20 pixels
    heads.box_head, heads.mask_head = Fixed(logits, codes), Fixed(masks)
    heads.box_align, heads.mask_align = Asked(), Asked()
    first, second = heads.detections([], proposals, [(64, 64), (64, 64)])
    assert heads.box_align.boxes == [of_image.tolist() for of_image in proposals]
    assert heads.mask_align.boxes == [first["boxes"].tolist(), second["boxes"].tolist()]
    torch.testing.assert_close(first["boxes"], torch.tensor([[32.0, 30, 52, 60], [0, 0, 20, 20]]))
    torch.testing.assert_close(second["boxes"], proposals[1])
    assert [first["labels"].tolist(), second["labels"].tolist()] == [[0, 1], [2]]
    torch.testing.assert_close(
        first["scores"], torch.tensor([math.e**3 / (math.e**3 + 3), math.e**2 / (math.e**2 + 3)])
    )
    torch.testing.assert_close(first["masks"][:, 0], torch.stack([masks[0, 0], masks[1, 1]]).sigmoid())
    torch.testing.assert_close(second["masks"][:, 0], masks[2:, 2].sigmoid())


def test_images_without_objects_have_no_box_and_no_mask_loss():
    heads = RoIHeads(2, 3, (4, 8, 16, 32), 56, 4, 1, 100, BoxSelection(0.05, 0.5, 10))
    empty, maps = target([], [], (64, 64)), [torch.randn(1, 2, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    losses = heads.losses(maps, [torch.tensor([[5.0, 5, 20, 20]])], [empty])
    assert losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert losses["loss_classifier"] > 0
    assert heads.losses(maps, [torch.zeros(0, 4)], [empty])["loss_classifier"] == 0  # no proposals either


def test_losses_of_retinanet_equal_plain_formulas(scene):
    """The third anchor of the first image is ignored; the last anchor of the second is in the padding."""
    anchors, targets = scene
    anchors[2] = torch.tensor([0.0, 0, 32, 14])  # overlap 14 / 32, between 0.4 and 0.5
    detector = small_detector("retinanet").double()
    match = detector.matcher(targets[0]["boxes"], anchors).tolist()
    assert match == [0, 0, IGNORED, 1]
    logits, codes = torch.randn(2, 4, 3).double(), torch.randn(2, 4, 4).double()
    inside = torch.tensor([[True] * 4, [True, True, True, False]])
    focal = distance = 0.0
    results = [detector._losses_of(logits[i], codes[i], inside[i], targets[i], anchors) for i in range(2)]
    for i, numbers in ((0, (0, 1, 3)), (1, (0, 1, 2))):
        for n in numbers:
            for c in range(3):
                p = 1 / (1 + math.exp(-float(logits[i, n, c])))
                if i == 0 and targets[0]["labels"][match[n]] == c:
                    focal -= 0.25 * (1 - p) ** 2 * math.log(p)
                else:
                    focal -= 0.75 * p**2 * math.log(1 - p)
            if i == 0:
                distance += l1(codes[0, n], plain_code(targets[0]["boxes"][match[n]].tolist(), anchors[n].tolist()))
    assert float(results[0][0] + results[1][0]) == pytest.approx(focal)
    assert float(results[0][1] + results[1][1]) == pytest.approx(distance)
    assert [r[2] for r in results] == [3, 0]


class FixedAnchors(nn.Module):
    """Fixed anchors of one level, all of which are valid."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = boxes

    def forward(self, maps):
        return [self.boxes]

    def inside(self, maps, sizes, divisor):
        return torch.ones(len(sizes), len(self.boxes), dtype=torch.bool)


def test_losses_of_retinanet_are_divided_by_the_positive_anchors_of_the_batch(scene):
    """Three in the first image, and one for the second, which has none; every probability is 1/2."""
    anchors, targets = scene
    detector = small_detector("retinanet").double()
    detector.backbone = detector.pyramid = nn.Identity()
    detector.head = Fixed([torch.zeros(2, 4, 3).double()], [torch.zeros(2, 4, 4).double()])
    detector.anchors = FixedAnchors(anchors)
    losses = detector.losses(ImageList(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2), targets)
    of_object, of_none = 0.25 * 0.5**2 * math.log(2), 0.75 * 0.5**2 * math.log(2)
    assert losses["loss_classifier"].item() == pytest.approx((3 * of_object + 21 * of_none) / (3 + 1))
    first, second = targets[0]["boxes"].tolist()
    codes = [plain_code(box, anchors[n].tolist()) for n, box in ((0, first), (1, first), (3, second))]
    assert losses["loss_box_reg"].item() == pytest.approx(sum(abs(c) for code in codes for c in code) / (3 + 1))
