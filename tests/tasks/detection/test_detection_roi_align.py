"""Features and masks of boxes: level assignment, and values on maps that are known at every point."""

import pytest
import torch
import torch.nn.functional as F

from foveal.tasks.detection.roi_align import RoIAlign, crop_masks, paste_masks

STRIDES = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("side", "level"), [(10, 0), (56, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (2000, 3)]
)
def test_the_level_is_determined_by_the_box_size(side, level):
    """With a finest scale of 56, as in MMDetection, the next maps start at 112, 224 and 448."""
    boxes = torch.tensor([[3.0, 5.0, 3 + 2 * side, 5 + side / 2]])
    assert RoIAlign(7, STRIDES, 56).levels(boxes).tolist() == [level]


def ramp(height, width, stride, offset=0.0):
    """A map of pixel coordinates of cell centres: x in the first channel, y in the second."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([(x + 0.5) * stride, (y + 0.5) * stride]).double() + offset


def test_cells_have_the_value_at_their_centre():
    """With half-pixel alignment a linear map is sampled exactly on every level."""
    maps = [ramp(512 // s, 512 // s, s)[None] for s in STRIDES]
    boxes = torch.tensor([[100.0, 60, 128, 102], [40, 80, 180, 220], [100, 100, 350, 400], [30, 20, 480, 490]]).double()
    assert RoIAlign(7, STRIDES, 56).levels(boxes).tolist() == [0, 1, 2, 3]
    features = RoIAlign(7, STRIDES, 56)(maps, [boxes])
    steps = (torch.arange(7) + 0.5) / 7
    x = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])
    y = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])
    torch.testing.assert_close(features[:, 0], x[:, None].expand(-1, 7, -1))
    torch.testing.assert_close(features[:, 1], y[..., None].expand(-1, -1, 7))


def test_a_cell_is_the_mean_of_the_positions_it_covers():
    """For 20 x 20 positions and 2 x 2 cells, each cell has ten samples per direction, one at each position."""
    maps = [torch.randn(1, 3, 32, 32).double(), *(torch.zeros(1, 3, 32 // n, 32 // n).double() for n in (2, 4, 8))]
    (features,) = RoIAlign(2, STRIDES, 56)(maps, [torch.tensor([[8.0, 16, 88, 96]]).double()])
    torch.testing.assert_close(
        features, maps[0][0, :, 4:24, 2:22].unflatten(2, (2, 10)).unflatten(1, (2, 10)).mean((2, 4))
    )


def test_features_are_in_the_order_of_the_boxes():
    """Boxes of mixed levels and images, distinguished by an offset per image."""
    maps = [torch.stack([ramp(256 // s, 256 // s, s, 1000.0 * i) for i in range(3)]) for s in STRIDES]
    large, small = [20.0, 20, 220, 240], [100.0, 100, 130, 140]
    boxes = [torch.tensor(rows).double().reshape(-1, 4) for rows in ([large, small], [], [small, large, small])]
    middle = RoIAlign(1, STRIDES, 56)(maps, boxes)[:, 0, 0, 0]
    expected = torch.tensor([120.0, 115, 2115, 2120, 2115]).double()
    torch.testing.assert_close(middle, expected)


def test_no_boxes_give_no_features():
    maps = [torch.rand(1, 2, 8, 8) for _ in STRIDES]
    assert RoIAlign(7, STRIDES, 56)(maps, [torch.zeros(0, 4)]).shape == (0, 2, 7, 7)


def test_coordinates_keep_their_precision_with_half_precision_maps():
    maps = [torch.zeros(1, 2, 512 // s, 512 // s).bfloat16() for s in STRIDES]
    maps[0][0, :, :, 100:] = 1
    boxes = torch.tensor([[389.0, 40, 397, 48], [403.0, 40, 411, 48]])  # left and right of the edge, x = 400
    features = RoIAlign(7, STRIDES, 56)(maps, [boxes])
    assert features.dtype == torch.bfloat16
    assert (features[0] == 0).all()
    assert (features[1] == 1).all()


def test_mask_targets_match_a_manual_computation():
    """A mask of the left half of [10, 10, 38, 38], cropped by that box and by one with cells across its edge."""
    masks = torch.zeros(2, 50, 50, dtype=torch.uint8)
    masks[1, 10:38, 10:24] = 1
    boxes = torch.tensor([[10.0, 10, 38, 38], [16.5, 10, 30.5, 38]])
    targets = crop_masks(masks, torch.tensor([1, 1]), boxes, 28)
    assert targets[0].tolist() == [[1.0] * 14 + [0.0] * 14] * 28
    assert targets[1].sum(1).tolist() == [15.0] * 28  # cells of half a pixel, 16.5 to 24, including the one at the edge
    assert crop_masks(masks, torch.tensor([0]), boxes[:1], 28).sum() == 0
    assert crop_masks(masks, torch.tensor([], dtype=torch.long), boxes[:0], 28).shape == (0, 28, 28)


def test_masks_may_have_any_nonzero_value():
    masks = torch.zeros(1, 60, 60, dtype=torch.uint8)
    masks[0, 10:30, 10:30] = 1
    which, boxes = torch.tensor([0]), torch.tensor([[5.0, 5, 45, 45]])
    expected = crop_masks(masks, which, boxes, 28)
    for same in (masks * 255, masks.bool()):
        assert torch.equal(crop_masks(same, which, boxes, 28), expected)


def test_masks_are_pasted_in_float32_under_autocast():
    masks, boxes = torch.rand(2, 1, 28, 28), torch.tensor([[3.2, 4.7, 400.1, 300.9], [200.0, 100, 612.5, 511.5]])
    expected = paste_masks(masks, boxes, (512, 640))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(paste_masks(masks, boxes, (512, 640)), expected)


def test_pasting_equals_sampling_the_mask_at_pixel_centres():
    masks = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    boxes = torch.tensor([[3.2, 4.7, 40.1, 30.9], [-5, -5, 60, 50], [10, 10, 12.5, 11.5], [20, 5, 47.9, 39.9]]).double()
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    x = (x.double() - boxes[:, 0, None, None]) / (boxes[:, 2] - boxes[:, 0])[:, None, None] * 2 - 1
    y = (y.double() - boxes[:, 1, None, None]) / (boxes[:, 3] - boxes[:, 1])[:, None, None] * 2 - 1
    expected = F.grid_sample(masks, torch.stack([x, y], dim=-1), align_corners=False)
    torch.testing.assert_close(paste_masks(masks, boxes, (40, 48)), expected)


def test_a_full_mask_covers_exactly_its_box():
    pasted = paste_masks(torch.ones(1, 1, 28, 28), torch.tensor([[8.0, 4, 24, 20]]), (32, 32))
    assert (pasted[0, 0] >= 0.5).nonzero().aminmax(dim=0).min.tolist() == [4, 8]
    assert (pasted >= 0.5).sum() == 16 * 16


def test_pasting_no_masks_gives_an_empty_tensor():
    assert paste_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (7, 9)).shape == (0, 1, 7, 9)
