"""Photometric distortion compared with formulas and with Python's colorsys."""

import colorsys

import pytest
import torch

from foveal.tasks.segmentation.data.augment import PhotometricDistortion, multiply_saturation, shift_hue

NONE = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
#: All orders of the three channels, ties, greys, black and white.
COLOURS = [(r / 4, g / 4, b / 4) for r in range(5) for g in range(5) for b in range(5)]


def picture():
    noise = torch.rand(400, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.cat([torch.tensor(COLOURS, dtype=torch.float64), noise]).T.reshape(3, 5, -1)


def by_pixel(image, change):
    """Apply ``change`` to hue, saturation and value of every pixel."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in image.flatten(1).T.tolist()]
    return torch.tensor(pixels, dtype=image.dtype).T.reshape(image.shape)


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.93, 1.0, 1.2, 1.5])
def test_saturation_is_multiplied_and_clamped_to_one(factor):
    expected = by_pixel(picture(), lambda h, s, v: (h, min(s * factor, 1.0), v))
    torch.testing.assert_close(multiply_saturation(picture(), factor), expected)


@pytest.mark.parametrize("degrees", [-60.0, -36.0, -7.5, 0.0, 13.0, 36.0, 60.0])
def test_hue_is_shifted_cyclically(degrees):
    expected = by_pixel(picture(), lambda h, s, v: ((h + degrees / 360) % 1, s, v))
    torch.testing.assert_close(shift_hue(picture(), degrees), expected)


def drawn(words, image, count=400):
    """Many random results of ``PhotometricDistortion`` for an image."""
    photometric = PhotometricDistortion(**{**NONE, **words})
    return torch.stack([photometric(image) for _ in range(count)])


def grey(level):
    return torch.full((3, 1, 1), level)


def test_half_of_the_images_change_brightness_by_up_to_32_levels():
    change = 255 * (drawn({"brightness": 32.0}, grey(0.5)) - 0.5)[:, 0].flatten()
    touched = change[change != 0]
    assert 160 <= len(touched) <= 240
    assert -32 <= touched.min() < -28
    assert 28 < touched.max() <= 32


def test_half_of_the_images_change_contrast():
    image = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1)
    factors = drawn({"contrast": 0.5}, image) / image
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    touched = factors[:, 0].flatten()[(factors[:, 0] != 1).flatten()]
    assert 160 <= len(touched) <= 240
    assert 0.5 <= touched.min() < 0.55
    assert 1.45 < touched.max() <= 1.5


def test_contrast_is_applied_before_or_after_saturation():
    """Clamping of red in between reveals the order; the first eight random numbers determine what is applied."""
    image = torch.tensor([0.9, 0.6, 0.6]).view(3, 1, 1)
    ends = set()
    for seed in range(300):
        torch.manual_seed(seed)
        applied, amounts = torch.rand(4) < 0.5, 2 * torch.rand(4) - 1
        torch.manual_seed(seed)
        result = PhotometricDistortion(**{**NONE, "contrast": 0.5, "saturation": 0.5})(image)
        contrast, saturation = (1 + 0.5 * amounts[1:3]).tolist()
        if not (applied[1] and applied[2] and contrast > 1.2):
            continue
        first = multiply_saturation((image * contrast).clamp(0, 1), saturation)
        last = (multiply_saturation(image, saturation) * contrast).clamp(0, 1)
        assert not torch.allclose(first, last)
        ends |= {name for name, end in (("first", first), ("last", last)) if torch.allclose(result, end)}
    assert ends == {"first", "last"}


def test_results_are_clamped_and_the_input_is_unchanged():
    image = torch.rand(3, 16, 16)
    before = image.clone()
    results = drawn({"brightness": 255.0, "contrast": 1.0, "saturation": 1.0, "hue": 60.0}, image, 60)
    assert results.min() >= 0
    assert results.max() <= 1
    assert torch.equal(image, before)


def test_without_distortions_the_image_is_unchanged():
    image = torch.rand(3, 4, 5)
    assert torch.equal(drawn({}, image, 5), image.expand(5, -1, -1, -1))
