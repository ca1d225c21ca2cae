"""Reading image files of any mode, orientation and format."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from foveal.errors import FovealError
from foveal.tasks.image_files import decode_rgb, image_size, load_rgb, load_rgb_of_size, look_at_images
from foveal.training.samples import BrokenSample

ORIENTATION = 0x0112


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def row_of(path):
    """The first row of an image, (W, 3)."""
    return np.asarray(load_rgb(path))[0].tolist()


def greys(*values):
    return [[value] * 3 for value in values]


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_grey_16_bit_images_are_scaled_to_8_bits(tmp_path, name):
    """Black, a quarter, a half, white."""
    file = save(tmp_path / name, np.array([[0, 0x4000, 0x80FF, 0xFFFF]], dtype=np.uint16))
    assert row_of(file) == greys(0, 64, 128, 255)


def test_fractions_from_0_to_1_become_shares_of_255(tmp_path):
    file = save(tmp_path / "float.tif", np.array([[0, 0.2, 0.5, 1]], dtype=np.float32))
    assert row_of(file) == greys(0, 51, 128, 255)


def test_whole_numbers_of_32_bits_from_0_to_255_are_taken_as_they_are(tmp_path):
    assert row_of(save(tmp_path / "int.tif", np.array([[0, 1, 100, 255]], dtype=np.int32))) == greys(0, 1, 100, 255)


@pytest.mark.parametrize(
    ("pixels", "named"),
    [
        (np.array([[0, 200.0]], dtype=np.float32), "fractions of 32 bits from 0 to 200"),
        (np.array([[-0.5, 1]], dtype=np.float32), "fractions of 32 bits from -0.5 to 1"),
        (np.array([[0, np.nan]], dtype=np.float32), "fractions of 32 bits from nan to nan"),
        (np.array([[0, 40000]], dtype=np.int32), "whole numbers of 32 bits from 0 to 40000"),
        (np.array([[-1, 3]], dtype=np.int32), "whole numbers of 32 bits from -1 to 3"),
    ],
    ids=["float-255", "float-negative", "float-nan", "int-16", "int-negative"],
)
def test_numbers_of_32_bits_beyond_their_range_are_refused(tmp_path, pixels, named):
    file = save(tmp_path / "scan.tif", pixels)
    with pytest.raises(BrokenSample) as error:
        load_rgb(file)
    assert str(error.value).startswith(f"{file} has {named}, and which of them is white is only known from 0 to ")
    assert str(error.value).endswith(": save it with 8 or 16 bits per channel.")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "LAB"])
def test_white_and_black_stay_so_in_every_mode_of_8_bits(tmp_path, mode):
    """Each mode in a format that stores it."""
    rgb = Image.fromarray(np.repeat(np.array([[[255], [0]]], dtype=np.uint8), 3, axis=2))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    else:
        image = rgb.convert(mode)
    file = tmp_path / f"image.{'tif' if mode in ('CMYK', 'LAB') else 'png'}"
    image.save(file)
    with Image.open(file) as stored:
        assert stored.mode == mode
    assert np.abs(np.array(row_of(file)) - greys(255, 0)).max() <= 1  # LAB rounds


def turned(path, orientation, pixels):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return save(path, pixels, exif=exif)


MARKED = np.zeros((2, 3, 3), dtype=np.uint8)  # width 3 and height 2, white at the top left
MARKED[0, 0] = 255


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 2)), (3, (1, 2)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (2, 1)), (8, (2, 0))],
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_images_are_upright_unless_asked_for_as_stored(tmp_path, orientation, corner, ending):
    """``corner``: row and column at which the top left pixel is seen, by EXIF's definition of the orientations."""
    file = turned(tmp_path / f"phone.{ending}", orientation, MARKED)
    upright = np.asarray(load_rgb(file))
    assert upright.shape[:2] == ((3, 2) if orientation >= 5 else (2, 3))
    assert np.argwhere(upright[..., 0]).tolist() == [list(corner)]
    assert np.array_equal(np.asarray(decode_rgb(file.read_bytes(), "phone")), upright)
    if ending == "png":
        assert np.array_equal(np.asarray(load_rgb(file, upright=False)), MARKED)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_does_not_lose_an_image(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(MARKED).save(stream, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03")
    (tmp_path / "cut.png").write_bytes(stream.getvalue())
    assert np.array_equal(np.asarray(load_rgb(tmp_path / "cut.png")), MARKED)


@pytest.mark.parametrize(
    ("orientation", "size", "corner"), [(6, (2, 3), (0, 1)), (6, (3, 2), (0, 0)), (3, (3, 2), (1, 2))]
)
def test_exif_orientation_is_applied_if_it_gives_the_requested_size(tmp_path, orientation, size, corner):
    """Orientation 6 rotates by 90, 3 by 180 degrees."""
    image = load_rgb_of_size(turned(tmp_path / "phone.png", orientation, MARKED), size)
    assert image.size == size
    assert np.argwhere(np.asarray(image)[..., 0]).tolist() == [list(corner)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_size_in_the_header_is_that_of_the_loaded_image(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = save(tmp_path / name, np.zeros((4, 6, 3), dtype=np.uint8), exif=exif)
    assert image_size(file) == load_rgb(file).size == ((6, 4) if orientation < 5 else (4, 6))


def test_a_size_needs_an_image(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(BrokenSample, match=f"{name} is not a readable image"):
            image_size(tmp_path / name)


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
