"""Images as the input of an exported file: what timm's transform makes of them, to the last bit."""

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.runtime.card import Resizing
from foveal.runtime.images import preprocess
from foveal.tasks.classification.preprocessing import Preprocessing
from support.exported import card

SIZES = [
    (1, 1),
    (1, 9),
    (64, 64),
    (73, 73),
    (74, 73),
    (37, 100),
    (100, 37),
    (333, 500),
    (641, 480),
    (60, 64),
    (20, 300),
]

CROPPED = Resizing(0.875, False, "bilinear", (0.5,) * 3, (0.5,) * 3)


def photograph(height, width):
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def both(image, fit):
    """The image by timm's transform, and by ours."""
    resizing = Resizing(fit.crop, fit.takes_whole_image, fit.interpolation, fit.mean, fit.std)
    return fit.transform()(image).numpy(), preprocess(image, card(size=fit.size, resizing=resizing))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
@pytest.mark.parametrize("whole_from", [None, 1], ids=["crop", "whole"])
@pytest.mark.parametrize("size", [(64, 64), (63, 63), (48, 80)])
def test_images_become_what_timm_makes_of_them_bit_for_bit(interpolation, whole_from, size):
    for height, width in SIZES:
        fit = Preprocessing(size, whole_from=whole_from, interpolation=interpolation)
        theirs, ours = both(photograph(height, width), fit)
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        assert np.array_equal(theirs, ours), (height, width)


@pytest.mark.parametrize("crop", [0.9, 0.95, 1.0, 1.3])
def test_other_crops_are_timms_too_also_beyond_the_image(crop):
    """With 1.3 the image is smaller than the crop, and its edge is black."""
    for height, width in SIZES:
        for side in (64, 65):
            fit = Preprocessing((side, side), crop=crop, whole_from=None)
            theirs, ours = both(photograph(height, width), fit)
            assert np.array_equal(theirs, ours), (height, width, side)


def test_other_means_are_applied():
    theirs, ours = both(photograph(70, 90), Preprocessing((64, 64), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.7)))
    assert np.array_equal(theirs, ours)


def test_another_size_than_the_files_is_that_of_the_network_at_this_size():
    fit, image = Preprocessing((96, 96)), photograph(120, 70)
    assert np.array_equal(preprocess(image, card(any_size=True), (96, 96)), fit.transform()(image).numpy())


def test_what_a_photograph_cannot_be_made_into_is_one_sentence():
    with pytest.raises(FovealError, match="takes images of 1 channels"):
        preprocess(photograph(9, 9), card(channels=1))
    with pytest.raises(FovealError, match="The interpolation 'random' is unknown"):
        preprocess(photograph(9, 9), card(resizing=Resizing(1, False, "random", (0,) * 3, (1,) * 3)))


def test_an_image_that_would_grow_without_bound_is_refused_before_it_is_resized():
    """Its short side becomes 73 pixels, and 73 * 73 * 18,765 = 99,998,685."""
    resized = card(size=(64, 64), resizing=CROPPED)
    with pytest.raises(FovealError, match="too narrow: it would be resized to 73 x 1369918 pixels, so crop it"):
        preprocess(Image.new("RGB", (1, 18766)), resized)
    assert preprocess(Image.new("RGB", (1, 18765)), resized).shape == (3, 64, 64)
