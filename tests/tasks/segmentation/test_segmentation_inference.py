"""Inference: resizing, sliding windows, scales and flipping, averaged as in MMSegmentation."""

from dataclasses import replace
from math import exp

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from foveal.errors import FovealError
from foveal.tasks.segmentation.inference import MULTI_SCALE, SLIDING, WHOLE, Inference, label_map, segment
from support.segmenters import KnownScores, by_red, tiny_segmenter

OWN_SIZE = Inference(short=None, long=10_000)


def row(*reds):
    return torch.tensor(reds, dtype=torch.float32).expand(3, 1, -1)


def noise(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def red_times_place(images):
    """Scores that depend on the position: red times x * x in column x."""
    return images[:, :1] * torch.arange(images.shape[-1]) ** 2


def width_everywhere(images):
    """The width of the model input, at every pixel."""
    return torch.full_like(images[:, :1], images.shape[-1])


@pytest.mark.parametrize(
    ("inference", "own", "seen"),
    [
        (WHOLE, (512, 683), (512, 683)),
        (WHOLE, (683, 512), (683, 512)),
        (WHOLE, (1000, 3000), (512, 1536)),
        (WHOLE, (300, 1500), (410, 2048)),  # limited by the long side: 300 * 2048 / 1500 = 409.6
        (WHOLE, (100, 133), (512, 681)),  # 680.96
        (WHOLE, (1, 9000), (1, 2048)),
        (replace(WHOLE, multiple=32), (512, 683), (512, 704)),
        (replace(WHOLE, multiple=32), (512, 704), (512, 704)),
        (OWN_SIZE, (37, 5), (37, 5)),
        (Inference(short=None, long=10), (20, 5), (10, 3)),  # 2.5, rounded up
    ],
)
def test_an_image_is_resized_with_its_aspect_ratio(inference, own, seen):
    assert inference.fitted(*own) == seen


def test_scales_apply_to_both_limits():
    """1.75 times 512, or 1.75 times 2048 if the long side is the limit."""
    assert WHOLE.fitted(512, 683, 1.75) == (896, 1195)
    assert WHOLE.fitted(300, 1500, 1.75) == (717, 3584)
    assert OWN_SIZE.fitted(10, 20, 0.5) == (5, 10)


def test_settings_match_the_published_ones():
    assert (WHOLE.short, WHOLE.long, WHOLE.window, WHOLE.views) == (512, 2048, None, [(1.0, False)])
    assert (SLIDING.short, SLIDING.window, SLIDING.stride) == (512, 512, 341)
    scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert MULTI_SCALE.views == [(scale, mirrored) for scale in scales for mirrored in (False, True)]


def test_the_model_gets_the_resized_image_and_scores_have_the_original_size():
    seen = []

    def answer(images):
        seen.append(tuple(images.shape))
        return images[:, :2]

    model = KnownScores(answer, num_classes=2)
    assert segment(model, noise(20, 10), Inference(short=16, long=24)).shape == (2, 20, 10)
    assert label_map(model, noise(20, 10), Inference(short=16, long=24, multiple=8)).shape == (20, 10)
    assert seen == [(1, 3, 24, 12), (1, 3, 24, 16)]


def test_images_are_downscaled_with_antialiasing_as_in_training():
    """From four columns to two: each is a mean of three with weights 3, 3 and 1."""
    seen = []

    def answer(images):
        seen.append(images[0, 0])
        return images[:, :1]

    segment(KnownScores(answer), row(7, 0, 0, 14), Inference(short=None, long=2))
    assert seen[0].tolist() == [pytest.approx([3, 6])]


def test_flipped_scores_are_flipped_back_before_averaging():
    """Reds 1, 2, 3, 4 give 0, 2, 12, 36; flipped 0, 3, 8, 9, and flipped back 9, 8, 3, 0."""
    model = KnownScores(red_times_place, softmax=False)
    assert segment(model, row(1, 2, 3, 4), OWN_SIZE).tolist() == [[[0, 2, 12, 36]]]
    assert segment(model, row(1, 2, 3, 4), replace(OWN_SIZE, flip=True)).tolist() == [[[4.5, 5, 7.5, 18]]]


def test_windows_of_a_flipped_image_start_at_its_left():
    """Five pixels with windows of 4 and a stride of 3: both windows share three pixels, also in the flipped image."""
    model = KnownScores(lambda images: images[:, :1].amax((2, 3), keepdim=True).expand(-1, 1, 1, 4), softmax=False)
    sliding = replace(OWN_SIZE, window=4, stride=3)
    assert segment(model, row(8, 0, 0, 0, 0), sliding).tolist() == [[[8, 4, 4, 4, 0]]]
    assert segment(model, row(8, 0, 0, 0, 0), replace(sliding, flip=True)).tolist() == [[[8, 4, 4, 4, 0]]]


def test_scales_are_averaged_with_equal_weights():
    model = KnownScores(width_everywhere, softmax=False)
    found = segment(model, noise(4, 8), replace(OWN_SIZE, scales=(0.5, 1.0, 2.0)))
    assert found == pytest.approx(torch.full((1, 4, 8), (4 + 8 + 16) / 3))


def test_probabilities_are_averaged_instead_of_scores():
    """Scores ln 4 and ln 16 against 0 have probabilities 4/5 and 16/17; the mean score ln 8 would give 8/9."""

    def answer(images):
        one = width_everywhere(images).log()
        return torch.cat([one, torch.zeros_like(one)], 1)

    found = segment(KnownScores(answer, num_classes=2), noise(4, 8), replace(OWN_SIZE, scales=(0.5, 2.0)))
    mean = (4 / 5 + 16 / 17) / 2
    assert found[:, 0, 0].tolist() == pytest.approx([mean, 1 - mean])


def test_scores_are_resized_instead_of_probabilities():
    """Scores 0 and 8 of two pixels become 0, 2, 6 and 8 for four."""

    def answer(images):
        ramp = torch.tensor([[[[0.0, 8.0]], [[0.0, 0.0]]]])
        assert images.shape[-1] == 2
        return ramp

    found = segment(KnownScores(answer, num_classes=2), noise(2, 4), replace(OWN_SIZE, scales=(0.5,)))
    assert found[0, 0].tolist() == pytest.approx([1 / (1 + exp(-score)) for score in (0, 2, 6, 8)])


def test_scores_are_downscaled_without_antialiasing():
    """As published: columns 0, 1, 2, 7 become two, midway between the first two and the last two."""
    ramp = torch.tensor([0.0, 1, 2, 7]).expand(1, 1, 2, 4)
    found = segment(KnownScores(lambda _: ramp, softmax=False), noise(1, 2), replace(OWN_SIZE, scales=(2.0,)))
    assert found.tolist() == [[[0.5, 4.5]]]


def test_windows_scales_and_flipping_can_be_combined():
    """Means over windows of 2 pixels, for an image of 3 columns at scales 1 and 2."""
    batches = []

    def mean(images):
        batches.append(len(images))
        return images[:, :1].mean((2, 3), keepdim=True).expand(-1, 1, *images.shape[-2:])

    inference = Inference(short=None, long=100, window=2, stride=1, scales=(1.0, 2.0), flip=True, windows_at_once=3)
    found = segment(KnownScores(mean, softmax=False), row(0, 0, 48), inference)
    # scale 1: window means 0, 24; scale 2: columns 0, 0, 0, 12, 36, 48, window means 0, 0, 6, 24, 42, so 0, 0, 3, 15,
    # 33, 42, averaged in pairs; flipping changes neither
    assert found[0, 0].tolist() == pytest.approx([(0 + 0) / 2, (12 + 9) / 2, (24 + 37.5) / 2])
    assert batches == [2, 2, 3, 2, 3, 2]


def test_the_output_of_the_segmenter_is_not_modified():
    kept = torch.ones(1, 1, 2, 2)
    segment(KnownScores(lambda _: kept, softmax=False), noise(2, 2), replace(OWN_SIZE, flip=True))
    assert kept.tolist() == [[[[1, 1], [1, 1]]]]


@pytest.mark.parametrize("inference", [replace(OWN_SIZE, scales=(0.7,)), replace(OWN_SIZE, scales=(0.7, 1.0))])
def test_the_label_map_is_the_most_probable_class(inference):
    """With 40 classes, more than are processed at once."""
    weights = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    model = KnownScores(lambda images: torch.einsum("kc,bchw->bkhw", weights, images - 0.5), num_classes=40)
    found = label_map(model, noise(17, 23), inference)
    assert found.dtype == torch.int64
    assert torch.equal(found, segment(model, noise(17, 23), inference).argmax(0))
    assert {int(label) // 16 for label in found.unique()} == {0, 1, 2}


def test_ties_are_resolved_to_the_first_class():
    model = KnownScores(lambda images: torch.ones(1, 40, 2, 2), num_classes=40)
    assert label_map(model, noise(2, 2), OWN_SIZE).eq(0).all()


def test_label_maps_of_large_images_never_allocate_all_classes_at_full_size():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                self.numel = max(self.numel, one.numel() if isinstance(one, torch.Tensor) else 0)
            return out

    model = KnownScores(lambda images: images[:, :1].expand(-1, 150, -1, -1), num_classes=150)
    with Largest() as largest:
        label_map(model, noise(200, 300), Inference(short=20, long=100))
    assert largest.numel == 16 * 200 * 300


@pytest.mark.parametrize("inference", [OWN_SIZE, replace(OWN_SIZE, flip=True)])
@pytest.mark.parametrize("broken", [0, 39])
def test_nan_scores_raise_an_error(inference, broken):
    """For any class and pixel."""

    def answer(images):
        scores = torch.zeros(1, 40, 3, 3)
        scores[0, broken, 2, 2] = float("nan")
        return scores

    with pytest.raises(FovealError, match="scores are NaN: its weights are broken, use others"):
        label_map(KnownScores(answer, num_classes=40), noise(3, 3), inference)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 33)])
@pytest.mark.parametrize("inference", [WHOLE, SLIDING, MULTI_SCALE], ids=["whole", "sliding", "multi-scale"])
def test_any_image_size_is_accepted_and_probabilities_sum_to_one(size, inference):
    small = replace(inference, short=40, long=160, window=inference.window and 32, stride=inference.stride and 21)
    model = tiny_segmenter().eval()
    found = segment(model, noise(*size), small)
    assert found.shape == (3, *size)
    assert found.sum(0) == pytest.approx(torch.ones(size), abs=1e-5)
    assert not found.requires_grad
    assert label_map(model, noise(*size), small).shape == size


def test_flip_averaging_is_equivariant_to_flips():
    model, image = tiny_segmenter().eval(), noise(40, 56)
    inference = Inference(short=32, long=64, flip=True)
    straight, mirrored = segment(model, image, inference), segment(model, image.flip(-1), inference).flip(-1)
    assert straight == pytest.approx(mirrored, abs=1e-5)
    alone = replace(inference, flip=False)
    assert segment(model, image, alone) != pytest.approx(segment(model, image.flip(-1), alone).flip(-1), abs=1e-5)


def test_images_of_original_size_are_predicted_pixel_by_pixel():
    image = row(0, 0.2, 0.4, 0.6, 0.8)
    assert label_map(by_red(), image, OWN_SIZE).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (dict(short=0), "short must be at least 1, not 0"),
        (dict(long=0), "long must be at least 1, not 0"),
        (dict(long=300), "The long side's limit, 300, is below the short side, 512: raise it"),
        (dict(window=512), "A window needs a stride: pass both, or neither for whole images"),
        (dict(stride=512), "A stride needs a window: pass both"),
        (dict(window=0, stride=1), "window must be at least 1"),
        (dict(window=8, stride=0), "stride must be at least 1"),
        (dict(window=8, stride=9), "A stride of 9 leaves gaps between windows of 8 pixels: pass at most 8"),
        (dict(scales=()), r"scales must be positive numbers, at least one, not \(\)"),
        (dict(scales=(1.0, 0.0)), "scales must be positive numbers"),
        (dict(scales=(float("nan"),)), "scales must be positive numbers"),
        (dict(multiple=0), "multiple must be at least 1"),
        (dict(windows_at_once=0), "windows_at_once must be at least 1"),
    ],
)
def test_invalid_settings_are_rejected(values, sentence):
    with pytest.raises(FovealError, match=sentence):
        Inference(**values)
