"""Windows see every pixel, and each counts as much as the others."""

import numpy as np
import pytest
import torch

from foveal.tasks.segmentation.inference import sliding_window, window_starts


def mean_red(images):
    """One score for all pixels of a window: the mean of its red."""
    return images[:, :1].mean((2, 3), keepdim=True).expand(-1, 1, *images.shape[-2:])


def row(*reds):
    return torch.tensor(reds, dtype=torch.float32).expand(3, 1, -1)


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (1, [0]),
        (511, [0]),
        (512, [0]),
        (513, [0, 1]),  # pushed back inside
        (683, [0, 171]),
        (512 + 341, [0, 341]),
        (512 + 342, [0, 341, 342]),
        (2048, [0, 341, 682, 1023, 1364, 1536]),
    ],
)
def test_the_last_window_is_pushed_back_inside(length, starts):
    assert window_starts(length, 512, 341) == starts


def test_where_two_windows_overlap_each_counts_a_half():
    """Windows (0 1 2 3) and (2 3 4 5), of means 1.5 and 3.5."""
    found = sliding_window(mean_red, row(0, 1, 2, 3, 4, 5), window=4, stride=2)
    assert found.tolist() == [[[1.5, 1.5, 2.5, 2.5, 3.5, 3.5]]]


def test_where_four_windows_overlap_each_counts_a_quarter():
    image = torch.tensor([[0.0, 4, 8], [4, 8, 12], [8, 12, 64]]).expand(3, -1, -1)
    # the means of the four windows of 2 x 2: 4, 8, 8 and 24
    wanted = [[4, 6, 8], [6, 11, 16], [8, 16, 24]]
    assert sliding_window(mean_red, image, window=2, stride=1).tolist() == [wanted]


def test_an_image_of_whole_windows_is_seen_once():
    assert sliding_window(mean_red, row(0, 1, 2, 6, 7, 8), window=3, stride=3).tolist() == [[[1, 1, 1, 7, 7, 7]]]


def test_a_pixel_beyond_the_last_window_is_seen_by_one_more_that_ends_with_the_image():
    """Windows (0 1 2), (6 7 8) and (7 8 12)."""
    found = sliding_window(mean_red, row(0, 1, 2, 6, 7, 8, 12), window=3, stride=3)
    assert found.tolist() == [[[1, 1, 1, 7, 8, 8, 9]]]


def test_an_image_smaller_than_the_window_is_seen_whole_and_without_padding():
    sizes = []

    def scores(images):
        sizes.append(images.shape)
        return mean_red(images)

    assert sliding_window(scores, row(1, 2, 6), window=4, stride=2).tolist() == [[[3, 3, 3]]]
    assert sliding_window(scores, row(1, 2, 6, 3, 6), window=4, stride=3).tolist() == [[[3, 3.625, 3.625, 3.625, 4.25]]]
    assert sizes == [(1, 3, 1, 3), (1, 3, 1, 4), (1, 3, 1, 4)]


@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_several_windows_at_once_give_the_same(at_once):
    batches = []

    def scores(images):
        batches.append(len(images))
        return mean_red(images)

    image = torch.randint(0, 16, (3, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    found = sliding_window(scores, image, 4, 3, at_once)  # 3 x 4 windows
    assert batches == {2: [2] * 6, 3: [3] * 4, 100: [12]}[at_once]
    assert torch.equal(found, sliding_window(mean_red, image, 4, 3))


def plain(image, window, stride):
    """The rule once more, pixel by pixel: grids as many as are needed, windows cut at the border and moved back."""
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


def test_any_size_is_put_together_by_the_rule():
    draw = np.random.default_rng(0)
    for _ in range(60):
        height, width, window = draw.integers(1, 24, 3)
        stride = draw.integers(1, window + 1)
        image = draw.random((height, width)).astype(np.float32)
        found = sliding_window(mean_red, torch.from_numpy(image).expand(3, -1, -1), int(window), int(stride), 5)
        assert found[0].numpy() == pytest.approx(plain(image.astype(np.float64), window, stride), abs=1e-6)


def test_scores_of_half_precision_are_summed_in_float32():
    """Windows of 1 and 1 + 1/128, next to each other in bfloat16, which has no number between."""
    found = sliding_window(lambda images: mean_red(images).bfloat16(), row(1, 1, 1 + 1 / 64), window=2, stride=1)
    assert found.dtype == torch.float32
    assert found.tolist() == [[[1, 1 + 1 / 256, 1 + 1 / 128]]]
