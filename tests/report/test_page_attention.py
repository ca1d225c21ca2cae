"""The sample images."""

import sys

import numpy as np
import pytest

from foveal.errors import FovealError
from foveal.report.page_attention import CREDITS, sample_photograph


@pytest.mark.parametrize("name", CREDITS)
def test_a_sample_image_is_a_square_of_the_requested_size(name):
    photo = sample_photograph(name, side=96)
    assert photo.shape == (96, 96, 3)
    assert photo.dtype == np.uint8
    assert photo.std() > 20


def test_missing_scikit_learn_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        sample_photograph("flower")
