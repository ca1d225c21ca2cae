"""Reading image files of any mode."""

import numpy as np
import pytest
from PIL import Image

from foveal.tasks.image_files import load_rgb, load_rgb_of_size


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_16_bit_images_are_scaled_to_8_bits(tmp_path, name):
    """Black, a quarter, a half, white."""
    Image.fromarray(np.array([[0, 0x4000, 0x80FF, 0xFFFF]], dtype=np.uint16)).save(tmp_path / name)
    assert np.asarray(load_rgb(tmp_path / name))[0].tolist() == [[v, v, v] for v in (0, 64, 128, 255)]


def test_exif_orientation_is_applied_on_request(tmp_path):
    """Orientation 6 is a rotation by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    assert np.asarray(load_rgb(tmp_path / "phone.png")).shape == (2, 3, 3)
    turned = np.asarray(load_rgb(tmp_path / "phone.png", upright=True))
    assert turned.shape == (3, 2, 3)
    assert turned[0, 1].tolist() == [255, 255, 255]
    assert turned.sum() == 3 * 255


@pytest.mark.parametrize(
    ("orientation", "size", "red"), [(6, (2, 3), (0, 1)), (6, (3, 2), (0, 0)), (3, (3, 2), (1, 2))]
)
def test_exif_orientation_is_applied_if_it_gives_the_requested_size(tmp_path, orientation, size, red):
    """Stored with width 3 and height 2, red at the top left; orientation 6 rotates by 90, 3 by 180 degrees."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    image = load_rgb_of_size(tmp_path / "phone.png", size)
    assert image.size == size
    assert np.argwhere(np.asarray(image)[..., 0]).tolist() == [list(red)]
