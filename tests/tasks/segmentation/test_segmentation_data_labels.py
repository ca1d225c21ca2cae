"""Label maps: the label of each pixel, and errors for invalid values."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import BrokenSample
from foveal.tasks.segmentation.data import open_split
from foveal.tasks.segmentation.data.class_names import label_table
from foveal.tasks.segmentation.data.label_maps import labels_of
from support.segmentation_folders import write_ade20k, write_split


def replace_map(folder, pixels):
    """Replace the label map and return its path."""
    file = folder / "labels" / "train" / "a.png"
    Image.fromarray(pixels).save(file)
    return file


def sentence(images, index=0):
    with pytest.raises(BrokenSample) as caught:
        images[index]
    return caught.value.name, str(caught.value)


def test_an_item_is_an_image_and_its_labels(tmp_path):
    images = open_split(write_split(tmp_path, label_maps=[[[0, 1, 2], [255, 2, 0]]]), "train", zero_ignored=False)
    image, labels = images[0]
    pixels = np.asarray(Image.open(images.paths[0]))
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255)
    assert images.image(0).dtype == torch.uint8
    assert (images.image(0).permute(1, 2, 0).numpy() == pixels).all()
    assert labels.dtype == torch.int64
    assert labels.tolist() == [[0, 1, 2], [255, 2, 0]]
    images.transform = lambda image, labels: (image.dtype, labels.dtype)
    assert images[0] == (torch.uint8, torch.int64)


def test_zero_ignored_shifts_labels_by_one(tmp_path):
    images = open_split(write_ade20k(tmp_path, [[[0, 1, 2], [149, 150, 255]]]), "train", zero_ignored=True)
    assert images.labels(0).tolist() == [[255, 0, 1], [148, 149, 255]]


@pytest.mark.parametrize("zero_ignored", [False, True])
@pytest.mark.parametrize("kind", ["grey of 16 bits", "palette"])
def test_grey_16_bit_and_palette_images_have_the_same_labels_as_8_bit(tmp_path, kind, zero_ignored):
    numbers = [[0, 1, 2], [3, 255, 3]]
    images = open_split(
        write_split(tmp_path, label_maps=[numbers], classes="a\nb\nc\nd"), "train", zero_ignored=zero_ignored
    )
    expected = images.labels(0)
    if kind == "palette":
        stored = Image.fromarray(np.array(numbers, dtype=np.uint8), "P")
        stored.putpalette([255 - value // 3 for value in range(768)])  # colours are irrelevant
        stored.save(images.label_paths[0])
    else:
        Image.fromarray(np.array(numbers, dtype=np.uint16)).save(images.label_paths[0])
    with Image.open(images.label_paths[0]) as stored:
        assert stored.mode == "P" if kind == "palette" else stored.mode.startswith("I")
    assert torch.equal(images.labels(0), expected)


def test_an_invalid_value_is_named_with_its_position_and_the_valid_range(tmp_path):
    folder = write_split(tmp_path, label_maps=[[[0, 1, 2], [255, 3, 4]]])
    images = open_split(folder, "train", zero_ignored=False)
    file = str(images.label_paths[0])
    assert sentence(images) == (
        file,
        f"{file} has the value 3 at x=1, y=1; only 0 to 2 and 255 are allowed, with 255 for ignored pixels: correct "
        "the label map, or name every class in classes.txt.",
    )
    images = open_split(folder, "train", zero_ignored=True)  # then 3 is the last class
    assert sentence(images)[1].startswith(
        f"{file} has the value 4 at x=2, y=1; only 0 to 3 and 255 are allowed, with 0 and 255 for ignored pixels:"
    )


@pytest.mark.parametrize("number", [256, 300, 65534])
def test_large_16_bit_values_are_not_truncated(tmp_path, number):
    """256 modulo 256 would be a valid class."""
    folder = write_split(tmp_path)
    file = replace_map(folder, pixels=np.array([[0, 1], [number, 2]], dtype=np.uint16))
    assert sentence(open_split(folder, "train", zero_ignored=False))[1].startswith(
        f"{file} has the value {number} at x=0"
    )


@pytest.mark.parametrize("count", [254, 255])
def test_255_is_ignored_for_any_number_of_classes(tmp_path, count):
    numbers = [[0, 1, count - 1, 254 if count == 255 else 253, 255]]
    folder = write_split(tmp_path, label_maps=[numbers], classes="\n".join(map(str, range(count))))
    assert open_split(folder, "train", zero_ignored=False).labels(0).tolist() == numbers
    shifted = [[255, 0, count - 2, numbers[0][3] - 1, 255]]
    assert open_split(folder, "train", zero_ignored=True).labels(0).tolist() == shifted


def test_a_label_map_of_another_size_is_named_in_the_error(tmp_path):
    images = open_split(write_split(tmp_path), "train", zero_ignored=False)
    file = replace_map(tmp_path, pixels=np.zeros((2, 3), dtype=np.uint8))
    assert sentence(images) == (
        str(file),
        f"{file} has 3x2 pixels, and its image {images.paths[0]} has 2x2: replace one of them.",
    )


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (2, 2, 3)), ("RGBA", (2, 2, 4)), ("LA", (2, 2, 2))])
def test_a_label_map_of_an_unsupported_mode_is_rejected(tmp_path, mode, shape):
    images = open_split(write_split(tmp_path), "train", zero_ignored=False)
    file = replace_map(tmp_path, pixels=np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    assert sentence(images) == (
        str(file),
        f"{file} has mode {mode}, and a label map stores a class number for each pixel: save it as a PNG with 8-bit or "
        "16-bit grey, or with a palette whose indices are the classes; or, if colours are the classes, name them in "
        "labelmap.txt.",
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_images_below_8_bits_are_rejected(tmp_path, bits):
    """Pillow rescales the 2-bit value 1 to 85, which may be another class."""
    images = open_split(write_split(tmp_path, classes="\n".join(map(str, range(200)))), "train", zero_ignored=False)
    file = images.label_paths[0]
    write_grey(file, bits, rows=[[0, 1], [2, 3]])
    with Image.open(file) as stretched:
        assert np.asarray(stretched).tolist()[0] == [0, {2: 85, 4: 17}[bits]]
    assert f"{file} has mode L;{bits}, and a label map stores" in sentence(images)[1]


def write_grey(file, bits, rows):
    """Write a grey PNG with ``bits`` bits per pixel, which Pillow cannot write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = b"".join(b"\0" + bytes([(row[0] << 8 - bits) | (row[1] << 8 - 2 * bits)]) for row in rows)
    header = struct.pack(">IIBBBBB", 2, len(rows), bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_unreadable_label_map_is_named_in_the_error(tmp_path, content):
    images = open_split(
        write_split(tmp_path, label_maps=[np.arange(400).reshape(20, 20) % 3]), "train", zero_ignored=False
    )
    file = images.label_paths[0]
    file.write_bytes(file.read_bytes()[:-40] if content is None else content)
    name, text = sentence(images)
    assert name == str(file)
    assert text.startswith(f"{file} is not a readable image (")
    assert text.endswith("): replace or remove the file.")


def test_an_unreadable_image_is_named_in_the_error(tmp_path):
    images = open_split(write_split(tmp_path), "train", zero_ignored=False)
    images.paths[0].write_bytes(b"no image")
    assert sentence(images)[1].startswith(f"{images.paths[0]} is not a readable image (no known image format)")


@pytest.mark.parametrize(("shape", "red"), [((3, 2), (0, 1)), ((2, 3), (0, 0))])
def test_exif_orientation_is_applied_if_it_matches_the_label_map(tmp_path, shape, red):
    """Stored with width 3 and height 2, red at the top left, with an orientation of 90 degrees clockwise."""
    images = open_split(write_split(tmp_path, label_maps=[np.zeros(shape)]), "train", zero_ignored=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0, 0] = 255
    Image.fromarray(pixels).save(images.paths[0], exif=exif)
    image, labels = images[0]
    assert image.shape[-2:] == labels.shape == shape
    assert image[0].nonzero().tolist() == [list(red)]


@pytest.mark.parametrize("number", [-1, -2, 300, 2**31 - 1])
def test_values_beyond_8_bits_are_rejected(tmp_path, number):
    numbers = np.array([[0, number]], dtype=np.int32)
    with pytest.raises(BrokenSample, match=f"has the value {number} at x=1, y=0; only 0 to 2 and 255 are allowed"):
        labels_of(numbers, label_table(3, zero_ignored=False), tmp_path / "a.png")
