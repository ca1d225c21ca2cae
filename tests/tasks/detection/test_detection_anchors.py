"""Anchors compared with manual results and torchvision."""

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator as Torchvision

from foveal.tasks.detection.anchors import AnchorGenerator
from support.detectors import small_detector


def maps(*sizes):
    return [torch.zeros(1, 1, *size) for size in sizes]


def test_anchors_of_a_cell_match_a_manual_computation():
    """Scale 8 at stride 4: a square of 32, and 32 * sqrt(2) = 45.2548 by 32 / sqrt(2) = 22.6274."""
    (anchors,) = AnchorGenerator((4,), (8,))(maps((2, 2)))
    half, long, short = 16.0, 22.627417, 11.313708
    cell = torch.tensor([[-long, -short, long, short], [-half, -half, half, half], [-short, -long, short, long]])
    shifts = torch.tensor([[0, 0], [4, 0], [0, 4], [4, 4]])  # x first: right, then down
    expected = torch.cat([cell + shift.repeat(2) for shift in shifts])
    torch.testing.assert_close(anchors, expected)


def test_anchors_match_torchvision_except_for_its_rounding():
    """torchvision rounds its base anchors; sizes and order are the same."""
    scales = [4 * 2 ** (i / 3) for i in range(3)]
    ours = AnchorGenerator((8, 16), scales)(maps((6, 5), (3, 3)))
    peer = Torchvision(tuple(tuple(stride * s for s in scales) for stride in (8, 16)), ((0.5, 1.0, 2.0),) * 2)
    theirs = peer.grid_anchors([[6, 5], [3, 3]], [[torch.tensor(8)] * 2, [torch.tensor(16)] * 2])
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 0.5


def test_strides_are_independent_of_the_map_size():
    """A map of 13 rows halves to 7: the anchors of the next level are still 64 pixels apart."""
    (coarse,) = AnchorGenerator((64,), (8,))(maps((7, 7)))
    squares = coarse[1::3]
    assert (squares[:7, :2] + squares[:7, 2:]).mul(0.5)[:, 0].tolist() == [0, 64, 128, 192, 256, 320, 384]


def test_anchors_beyond_the_padding_of_an_image_are_excluded():
    """40 x 70 pads to 64 x 96: 16 x 24 cells of stride 4 within the batch's 24 x 32."""
    generator = AnchorGenerator((4, 64), (8,))
    inside = generator.inside(maps((24, 32), (2, 2)), [(40, 70), (96, 128)], 32)
    assert inside.shape == (2, 3 * (24 * 32 + 4))
    fine = inside[0, : 3 * 24 * 32].view(24, 32, 3)
    assert fine[:16, :24].all()
    assert fine.sum() == 3 * 16 * 24
    assert inside[0, 3 * 24 * 32 :].view(2, 2, 3)[..., 0].tolist() == [[True, True], [False, False]]
    assert inside[1].all()


def test_detectors_have_the_published_anchors():
    rpn = small_detector("mask_rcnn", anchor_scale=8).rpn.anchor_generator
    assert rpn.strides == (4, 8, 16, 32, 64)
    assert rpn.cells[:, 1, 2].tolist() == [16, 32, 64, 128, 256]  # half the side of the square anchors
    dense = small_detector("retinanet").anchors
    assert dense.strides == (8, 16, 32, 64, 128)
    squares = 2 * dense.cells[:, 3:6, 2]  # the three scales of the second ratio
    expected = torch.tensor([32, 64, 128, 256, 512])[:, None] * torch.tensor([1, 2 ** (1 / 3), 2 ** (2 / 3)])
    torch.testing.assert_close(squares, expected)
