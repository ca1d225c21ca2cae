"""Images are read ahead in order, a bounded number at a time, and one that cannot be read stops nothing."""

import itertools
import threading

import pytest
from PIL import Image

from foveal.errors import BrokenSample
from foveal.runtime.reading import Picture, read_ahead


def numbered(number, load=None):
    return Picture(str(number), str(number), load or (lambda: number))


def broken():
    raise BrokenSample("b", "b is broken.")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pictures_arrive_in_order_with_what_was_prepared(workers):
    found = list(read_ahead(map(numbered, range(20)), lambda image: image * image, workers, ahead=4))
    assert [picture.name for picture, _ in found] == [str(number) for number in range(20)]
    assert [content for _, content in found] == [number**2 for number in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_arrives_as_its_error_in_its_place(workers):
    pictures = [numbered(0), numbered(1, broken), numbered(2)]
    _, (_, error), last = read_ahead(pictures, lambda image: image, workers, ahead=1)
    assert str(error) == "b is broken."
    assert last[1] == 2


def test_other_errors_are_not_hidden():
    def fail(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead([numbered(0)], fail, 1, ahead=1))


def test_no_more_than_ahead_are_read_before_they_are_needed():
    drawn, read, lock = itertools.count(), [], threading.Lock()

    def prepare(image):
        with lock:
            read.append(image)
        return image

    pictures = map(numbered, drawn)  # without an end
    found = read_ahead(pictures, prepare, 2, ahead=5)
    for yielded in range(1, 30):
        next(found)
        assert len(read) <= yielded + 5
    found.close()
    assert len(read) == len(set(read)) <= 29 + 5
    assert next(drawn) <= 29 + 5 + 1


def test_the_next_pictures_are_read_while_one_is_in_use():
    second = threading.Event()
    found = read_ahead([numbered(0), numbered(1, second.set), numbered(2)], lambda image: image, 1, ahead=1)
    next(found)
    assert second.wait(10)
    found.close()


def test_a_file_is_read_as_rgb(tmp_path):
    Image.new("L", (3, 2), 7).save(tmp_path / "a.b.png")
    picture = Picture.of(tmp_path / "a.b.png")
    assert (picture.name, picture.stem) == (str(tmp_path / "a.b.png"), "a.b")
    assert (picture.load().mode, picture.load().size) == ("RGB", (3, 2))
