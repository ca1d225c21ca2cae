"""Pixels of image files, whatever their mode."""

import numpy as np
import pytest
from PIL import Image

from foveal.tasks.image_files import load_rgb


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_of_16_bits_keeps_its_shades(tmp_path, name):
    """Black, a quarter, a half, white."""
    Image.fromarray(np.array([[0, 0x4000, 0x80FF, 0xFFFF]], dtype=np.uint16)).save(tmp_path / name)
    assert np.asarray(load_rgb(tmp_path / name))[0].tolist() == [[v, v, v] for v in (0, 64, 128, 255)]


def test_an_image_stands_upright_as_its_camera_says_where_that_is_asked_for(tmp_path):
    """Orientation 6: to be turned by a quarter clockwise."""
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
