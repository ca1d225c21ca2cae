"""Sliding windows cover every pixel, and overlapping windows have equal weights."""

import numpy as np
import pytest
import torch

from foveal.tasks.segmentation.inference import sliding_window, window_starts


def mean_red(images):
    """The mean of red as the score of all pixels of a window."""
    return images[:, :1].mean((2, 3), keepdim=True).expand(-1, 1, *images.shape[-2:])


def row(*reds):
    return torch.tensor(reds, dtype=torch.float32).expand(3, 1, -1)


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (1, [0]),
        (511, [0]),
        (512, [0]),
        (513, [0, 1]),  # shifted back inside
        (683, [0, 171]),
        (512 + 341, [0, 341]),
        (512 + 342, [0, 341, 342]),
        (2048, [0, 341, 682, 1023, 1364, 1536]),
    ],
)
def test_the_last_window_is_shifted_back_inside(length, starts):
    assert window_starts(length, 512, 341) == starts


def test_two_overlapping_windows_have_weights_of_one_half():
    """Windows (0 1 2 3) and (2 3 4 5) with means 1.5 and 3.5."""
    found = sliding_window(mean_red, row(0, 1, 2, 3, 4, 5), window=4, stride=2)
    assert found.tolist() == [[[1.5, 1.5, 2.5, 2.5, 3.5, 3.5]]]


def test_four_overlapping_windows_have_weights_of_one_quarter():
    image = torch.tensor([[0.0, 4, 8], [4, 8, 12], [8, 12, 64]]).expand(3, -1, -1)
    # the means of the four windows of 2 x 2: 4, 8, 8 and 24
    wanted = [[4, 6, 8], [6, 11, 16], [8, 16, 24]]
    assert sliding_window(mean_red, image, window=2, stride=1).tolist() == [wanted]


def test_disjoint_windows_are_not_averaged():
    assert sliding_window(mean_red, row(0, 1, 2, 6, 7, 8), window=3, stride=3).tolist() == [[[1, 1, 1, 7, 7, 7]]]


def test_remaining_pixels_get_a_window_at_the_end_of_the_image():
    """Windows (0 1 2), (6 7 8) and (7 8 12)."""
    found = sliding_window(mean_red, row(0, 1, 2, 6, 7, 8, 12), window=3, stride=3)
    assert found.tolist() == [[[1, 1, 1, 7, 8, 8, 9]]]


def test_an_image_smaller_than_the_window_is_not_padded():
    sizes = []

    def scores(images):
        sizes.append(images.shape)
        return mean_red(images)

    assert sliding_window(scores, row(1, 2, 6), window=4, stride=2).tolist() == [[[3, 3, 3]]]
    assert sliding_window(scores, row(1, 2, 6, 3, 6), window=4, stride=3).tolist() == [[[3, 3.625, 3.625, 3.625, 4.25]]]
    assert sizes == [(1, 3, 1, 3), (1, 3, 1, 4), (1, 3, 1, 4)]


@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_batching_windows_does_not_change_scores(at_once):
    batches = []

    def scores(images):
        batches.append(len(images))
        return mean_red(images)

    image = torch.randint(0, 16, (3, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    found = sliding_window(scores, image, 4, 3, at_once)  # 3 x 4 windows
    assert batches == {2: [2] * 6, 3: [3] * 4, 100: [12]}[at_once]
    assert torch.equal(found, sliding_window(mean_red, image, 4, 3))


def plain(image, window, stride):
    """Plain implementation, pixel by pixel: windows on a grid, shifted back at the border."""
    height, width = image.shape
    total, seen = np.zeros((height, width)), np.zeros((height, width))
    for down in range(max(height - window + stride - 1, 0) // stride + 1):
        for across in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(down * stride + window, height), min(across * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            score = image[top:bottom, left:right].mean()
            for y in range(top, bottom):
                for x in range(left, right):
                    total[y, x] += score
                    seen[y, x] += 1
    return total / seen


def test_any_size_matches_the_plain_implementation():
    draw = np.random.default_rng(0)
    for _ in range(60):
        height, width, window = draw.integers(1, 24, 3)
        stride = draw.integers(1, window + 1)
        image = draw.random((height, width)).astype(np.float32)
        found = sliding_window(mean_red, torch.from_numpy(image).expand(3, -1, -1), int(window), int(stride), 5)
        assert found[0].numpy() == pytest.approx(plain(image.astype(np.float64), window, stride), abs=1e-6)


def test_half_precision_scores_are_summed_in_float32():
    """The window scores 1 and 1 + 1/128 are adjacent values in bfloat16."""
    found = sliding_window(lambda images: mean_red(images).bfloat16(), row(1, 1, 1 + 1 / 64), window=2, stride=1)
    assert found.dtype == torch.float32
    assert found.tolist() == [[[1, 1 + 1 / 256, 1 + 1 / 128]]]
