"""A look at a few images of a set before a run."""

import numpy as np
import pytest
from PIL import Image

from foveal.errors import BrokenSample, FovealError
from foveal.image_files import load_rgb
from foveal.tasks.first_look import look_at_images


class Set:
    """A set of images, some of them broken, that knows which of them were read."""

    def __init__(self, broken=()):
        self.broken, self.read = set(broken), []

    def load(self, index):
        self.read.append(index)
        if index in self.broken:
            raise BrokenSample(f"{index}.jpg", f"{index}.jpg is not an image: remove it.")


def test_a_look_reads_eight_images_of_any_number_from_the_first_to_the_last():
    large, small, single = Set(), Set(), Set()
    assert look_at_images(large.load, 20_001, "stop", "cats") == []
    assert large.read == [0, 2857, 5714, 8571, 11428, 14285, 17142, 20_000]
    assert look_at_images(small.load, 3, "stop", "cats") == look_at_images(single.load, 1, "skip", "cats") == []
    assert (small.read, single.read) == ([0, 1, 2], [0])


def test_a_broken_image_that_is_looked_at_stops_or_is_counted():
    with pytest.raises(FovealError, match=r"^2\.jpg is not an image: remove it\.$"):
        look_at_images(Set([2]).load, 3, "stop", "cats")
    assert look_at_images(Set([1, 2]).load, 3, "skip", "cats") == [
        "2 of the 3 images of cats that were looked at cannot be read, and such images are skipped; the first: 1.jpg "
        "is not an image: remove it."
    ]


def test_a_set_is_only_given_up_when_none_of_its_images_can_be_read():
    found = Set({*range(100)} - {50})
    assert len(look_at_images(found.load, 100, "skip", "cats")) == 1
    assert found.read[-1] == 50
    with pytest.raises(FovealError, match=r"None of the 100 images of cats can be read; the first: 0\.jpg is not"):
        look_at_images(Set(range(100)).load, 100, "skip", "cats")


@pytest.mark.parametrize("largest", [255, 4095])
def test_few_bits_in_a_file_of_16_are_noticed_if_they_are_in_all_of_a_set(tmp_path, largest):
    """They are read as black, since a file does not say that only its lower bits are used."""
    narrow = np.linspace(0, largest, 12, dtype=np.uint16).reshape(3, 4)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(narrow).save(file)
    said = look_at_images(lambda index: load_rgb(files[index]), 3, "stop", "scans")
    assert len(said) == 1
    assert said[0].startswith("Images of scans have more than 8 bits per channel and become nearly one colour")
    assert "(3 looked at)" in said[0]
    Image.fromarray(narrow << 4).save(files[1])
    if largest == 4095:
        assert look_at_images(lambda index: load_rgb(files[index]), 3, "stop", "scans") == []
    for file in files:
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(file)  # a black image of 8 bits is what it is
    assert look_at_images(lambda index: load_rgb(files[index]), 3, "stop", "scans") == []
