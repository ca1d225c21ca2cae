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
