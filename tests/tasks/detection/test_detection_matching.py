"""Assignment of objects, box encoding and sampling: compared with manual results and torchvision."""

import math

import pytest
import torch
from torchvision.models.detection._utils import Matcher as Torchvision
from torchvision.ops import box_iou

from foveal.tasks.detection.anchors import BACKGROUND, IGNORED, Matcher, Sampler
from foveal.tasks.detection.boxes import BoxCoder


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def strip(start, end):
    """A box of height 10, so that overlaps are those of intervals."""
    return [start, 0, end, 10]


def test_matching_thresholds_match_a_manual_computation():
    """The overlaps with [0, 10] are 0.8, 0.7, 0.5, 0.3, 0.2 and 0."""
    candidates = boxes(strip(0, 8), strip(0, 7), strip(0, 5), strip(0, 3), strip(0, 2), strip(20, 30))
    match = Matcher(0.7, 0.3, minimum=0.3)(boxes(strip(0, 10)), candidates)
    assert match.tolist() == [0, 0, IGNORED, IGNORED, BACKGROUND, BACKGROUND]


def test_an_object_gets_all_its_best_candidates_above_the_minimum():
    objects = boxes(strip(0, 10), strip(100, 110))
    candidates = boxes(strip(0, 4), strip(6, 10), strip(0, 3), strip(100, 102))  # 0.4, 0.4, 0.3; 0.2
    assert Matcher(0.7, 0.3, minimum=0.3)(objects, candidates).tolist() == [0, 0, IGNORED, BACKGROUND]
    assert Matcher(0.7, 0.3, minimum=0.0)(objects, candidates).tolist() == [0, 0, IGNORED, 1]


def test_a_best_candidate_of_two_objects_is_assigned_to_the_later_one():
    """The candidate [0, 10] is the best of both objects, with overlaps 1 and 0.5."""
    objects, candidate = boxes(strip(0, 10), strip(0, 5)), boxes(strip(0, 10))
    assert Matcher(0.7, 0.3, minimum=0.3)(objects, candidate).tolist() == [1]
    assert Matcher(0.7, 0.3, minimum=0.3)(objects.flip(0), candidate).tolist() == [1]
    theirs = Torchvision(0.7, 0.3, allow_low_quality_matches=True)(box_iou(objects, candidate))
    assert theirs.tolist() == [0]  # torchvision differs


def test_an_object_without_overlap_gets_no_candidate():
    assert Matcher(0.5, 0.4, minimum=0.0)(boxes(strip(50, 60)), boxes(strip(0, 10))).tolist() == [BACKGROUND]


@pytest.mark.parametrize(("objects", "candidates"), [(0, 3), (2, 0), (0, 0)])
def test_without_objects_or_candidates_everything_is_background(objects, candidates):
    match = Matcher(0.5, 0.5, minimum=0.5)(torch.rand(objects, 4), torch.rand(candidates, 4))
    assert match.tolist() == [BACKGROUND] * candidates


def test_matching_equals_torchvision_without_conflicts():
    corners = torch.rand(400, 2, dtype=torch.float64) * 80
    candidates = torch.cat([corners, corners + 5 + torch.rand(400, 2) * 30], dim=1)
    objects = candidates[:6] + 1  # one candidate overlaps far better than any other
    ours = Matcher(0.7, 0.3, minimum=0.0)(objects, candidates)
    theirs = Torchvision(0.7, 0.3, allow_low_quality_matches=True)(box_iou(objects, candidates))
    assert (ours >= 0).sum() >= 6
    assert torch.equal(ours, theirs)


def test_box_codes_match_a_manual_computation():
    """From [10, 20, 30, 60], 20 x 40 around (20, 40), to 40 x 20 around (24, 44)."""
    code = BoxCoder().encode_single(boxes([4, 34, 44, 54]), boxes([10, 20, 30, 60]))
    expected = torch.tensor([[4 / 20, 4 / 40, math.log(2), -math.log(2)]], dtype=torch.float64)
    torch.testing.assert_close(code, expected)
    scaled = BoxCoder((0.1, 0.1, 0.2, 0.2)).encode_single(boxes([4, 34, 44, 54]), boxes([10, 20, 30, 60]))
    torch.testing.assert_close(scaled, expected / torch.tensor([0.1, 0.1, 0.2, 0.2]))


def test_decoding_inverts_encoding_for_every_class():
    coder, base = BoxCoder((0.1, 0.1, 0.2, 0.2)), boxes([10, 20, 30, 60], [0, 0, 5, 5])
    wanted = [boxes([4, 34, 44, 54], [1, 1, 9, 4]), boxes([11, 12, 13, 14], [-3, 2, 8, 3])]
    codes = torch.cat([coder.encode_single(w, base) for w in wanted], dim=1)
    torch.testing.assert_close(coder.decode_single(codes, base), torch.cat(wanted, dim=1))


def test_boxes_grow_and_shrink_by_at_most_62_5():
    codes = torch.tensor([[0, 0, 9, -9]], dtype=torch.float64)
    decoded = BoxCoder().decode_single(codes, boxes([0, 0, 2, 125]))
    torch.testing.assert_close(decoded, boxes([1 - 62.5, 62.5 - 1, 1 + 62.5, 62.5 + 1]))


def test_the_sampler_limits_positives_and_fills_up_with_background():
    match = torch.cat([torch.arange(30), torch.full((50,), BACKGROUND), torch.full((40,), IGNORED)])
    positive, negative = Sampler(40, 0.25)(match)
    assert len(positive) == 10
    assert len(negative) == 30
    assert (match[positive] >= 0).all()
    assert (match[negative] == BACKGROUND).all()
    few = Sampler(40, 0.25)(match[:3])
    assert [len(part) for part in few] == [3, 0]


def test_the_sampler_is_determined_by_the_seed():
    match = torch.cat([torch.arange(30), torch.full((50,), BACKGROUND)])
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat(Sampler(8, 0.5)(match)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
