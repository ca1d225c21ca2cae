"""Image sizes in evaluation, and detections in the pixels of the original image."""

import pytest
import torch
import torch.nn.functional as F

from foveal.tasks.detection.detector import Images


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((427, 640), (800, 1199)),  # 1199.06
        ((375, 500), (800, 1067)),
        ((300, 1000), (400, 1333)),  # limited by the long side
        ((800, 1000), (800, 1000)),
        ((1, 3000), (1, 1333)),  # 0.44 becomes at least 1
    ],
)
def test_sizes_are_rounded_to_the_nearest(size, expected):
    """As in the evaluation of the released detectors."""
    image, _ = Images(800, 1333).eval().resize(torch.zeros(3, *size))
    assert image.shape == (3, *expected)


def test_downscaling_uses_antialiasing():
    """As in training: stripes of one pixel are averaged instead of sampled."""
    stripes = torch.tensor([0.0, 1.0]).repeat(3, 512, 256)
    image, _ = Images(64, 64).eval().resize(stripes)
    assert (image - 0.5).abs()[..., 1:-1].max() < 0.05


def test_upscaling_is_bilinear():
    image = torch.rand(3, 48, 64)
    enlarged, _ = Images(80, 200).eval().resize(image)
    torch.testing.assert_close(enlarged, F.interpolate(image[None], size=(80, 107), mode="bilinear")[0])


def test_a_batch_is_padded_to_a_multiple_of_the_divisor_and_has_image_sizes():
    images = Images(64, 100).train()
    batch, _ = images([torch.rand(3, 50, 70), torch.rand(3, 40, 90)], None)
    assert batch.tensors.shape == (2, 3, 64, 96)
    assert batch.image_sizes == [(50, 70), (40, 90)]
    assert (batch.tensors[0, :, 50:] == 0).all()
    assert (batch.tensors[1, ..., 90:] == 0).all()


def test_detections_are_in_the_pixels_of_the_original_image():
    found = [{"boxes": torch.tensor([[10.0, 20, 50, 60]]), "masks": torch.ones(1, 1, 28, 28)}]
    (moved,) = Images().eval().postprocess(found, [(80, 100)], [(40, 200)])
    assert moved["boxes"].tolist() == [[20, 10, 100, 30]]
    assert moved["masks"].shape == (1, 1, 40, 200)
    covered = (moved["masks"][0, 0] >= 0.5).nonzero()
    assert covered.amin(0).tolist() == [10, 20]
    assert covered.amax(0).tolist() == [29, 99]
