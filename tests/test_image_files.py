"""Reading image files of any mode, orientation and format."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from foveal.errors import BrokenSample, FovealError
from foveal.image_files import TooLarge, decode_limited, decode_rgb, image_size, load_rgb, load_rgb_of_size

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
    assert str(error.value).endswith(": save it with 8 bits per channel, or 16 without a sign.")


def write_tiff(path, content, width, **tags):
    """A grey TIFF of one row, written by its specification (TIFF 6.0), since Pillow writes none of these."""
    known = dict(width=256, height=257, bits=258, compression=259, photometric=262, offset=273, samples=277, rows=278)
    known |= dict(size=279, format=339)
    values = dict(width=width, height=1, compression=1, offset=8, samples=1, rows=1, size=len(content), format=1) | tags
    fields = sorted((known[name], value) for name, value in values.items())
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields)
    start = 8 + len(content)
    head = struct.pack("<2sHI", b"II", 42, start)
    path.write_bytes(head + content + struct.pack("<H", len(fields)) + entries + bytes(4))
    return path


# Black, a quarter, a half and white in 12 bits: two numbers in three bytes.
TWELVE_BITS = bytes([0x00, 0x04, 0x00, 0x80, 0x0F, 0xFF])


@pytest.mark.parametrize("compression", [1, 8])
def test_12_bits_of_a_tiff_are_scaled_to_8(tmp_path, compression):
    content = TWELVE_BITS if compression == 1 else zlib.compress(TWELVE_BITS)
    file = write_tiff(tmp_path / "scan.tif", content, 4, bits=12, photometric=1, compression=compression)
    assert row_of(file) == greys(0, 64, 128, 255)


@pytest.mark.parametrize(("kind", "bits", "number_format"), [(np.uint8, 8, 1), (np.uint16, 16, 1), (np.float32, 32, 3)])
def test_a_tiff_in_which_zero_is_white_is_inverted(tmp_path, kind, bits, number_format):
    """The same three shades in each kind of numbers."""
    largest = 1 if kind is np.float32 else np.iinfo(kind).max
    numbers = np.array([0, 0.2 * largest, largest], dtype=kind)
    file = write_tiff(tmp_path / "scan.tif", numbers.tobytes(), 3, bits=bits, photometric=0, format=number_format)
    assert row_of(file) == greys(255, 204, 0)


def test_signed_numbers_of_16_bits_are_called_so(tmp_path):
    numbers = np.array([0, 32767], dtype="<i2")
    file = write_tiff(tmp_path / "scan.tif", numbers.tobytes(), 2, bits=16, photometric=1, format=2)
    with pytest.raises(BrokenSample, match=r"has signed numbers of 16 bits from 0 to 32767, .*or 16 without a sign"):
        load_rgb(file)


@pytest.mark.parametrize(("bits", "numbers"), [(16, np.array([[0, 1]], ">i2")), (-32, np.array([[0, 1]], ">f4"))])
def test_fits_files_whose_bytes_pillow_swaps_are_refused(tmp_path, bits, numbers):
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": 2, "NAXIS2": 1}
    head = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END"
    (tmp_path / "sky.fits").write_bytes(head.ljust(2880).encode() + numbers.tobytes().ljust(2880, b"\0"))
    with pytest.raises(BrokenSample, match=r"is a FITS file with more than 8 bits per pixel.*save it as PNG or TIFF"):
        load_rgb(tmp_path / "sky.fits")


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


def stored(format, mode="RGB", size=(3, 2)):
    stream = io.BytesIO()
    Image.new(mode, size, 0).save(stream, format)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (20, 1)])
def test_small_images_of_strangers_are_decoded_in_every_mode(mode, size):
    found = decode_limited(stored("PNG", mode, size), "a.png")
    assert (found.mode, found.size, found.getpixel((0, 0))) == ("RGB", size, (0, 0, 0))


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"])
def test_common_formats_of_strangers_are_decoded_or_called_broken(format):
    content = stored(format)
    assert decode_limited(content, "a").size == (3, 2)
    for cut in (content[: len(content) // 2], content[:10]):
        with pytest.raises(BrokenSample, match=r"^a is not a readable image \(.*\): replace or remove the file\.$"):
            decode_limited(cut, "a")


@pytest.mark.parametrize("content", [b"", b"no image", stored("EPS"), stored("ICO", size=(16, 16))])
def test_other_formats_of_strangers_are_not_opened(content):
    with pytest.raises(BrokenSample, match=r"^a is not a readable image \(no known image format\)"):
        decode_limited(content, "a")


def test_narrow_and_heavy_images_of_strangers_are_refused():
    with pytest.raises(FovealError, match=r"^a has 21 x 1 pixels, too narrow for a network: crop it\.$"):
        decode_limited(stored("PNG", size=(21, 1)), "a")
    with pytest.raises(TooLarge, match=r"^The file has more than 32 MB"):
        decode_limited(bytes(32 * 2**20 + 1), "a")
    with pytest.raises(TooLarge, match=r"^a has 8000 x 5001 pixels, and the most are 40 megapixels: "):
        decode_limited(stored("PNG", "1", (8000, 5001)), "a")


def headers_of_huge_images(folder):
    """Small files whose headers say 20,000 x 20,000 pixels, or as many as the format has."""
    side = 20_000
    png, bmp, gif, jpeg, webp = (bytearray(stored(format)) for format in ("PNG", "BMP", "GIF", "JPEG", "WEBP"))
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    bmp[18:26] = struct.pack("<ii", side, side)
    gif[6:10] = struct.pack("<HH", side, side)
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    key_frame = webp.index(b"\x9d\x01\x2a") + 3
    webp[key_frame : key_frame + 4] = struct.pack("<HH", 16383, 16383)
    tiff = write_tiff(folder / "a.tif", b"\0", side, height=side).read_bytes()
    return {"png": png, "bmp": bmp, "gif": gif, "jpg": jpeg, "webp": webp, "tif": tiff, "ppm": b"P6 20000 20000 255\n"}


DECODING = """
import resource, sys
from pathlib import Path
from PIL import Image
from foveal.image_files import TooLarge, decode_limited
Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode_limited(path.read_bytes(), path.name)
    except TooLarge as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_header_of_many_pixels_is_refused_before_they_have_memory(tmp_path):
    """Their pixels would need 1.2 GB each, in RGB."""
    files = headers_of_huge_images(tmp_path)
    for ending, content in files.items():
        (tmp_path / f"a.{ending}").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", DECODING, tmp_path], capture_output=True, text=True, timeout=120)
    *said, kilobytes = done.stdout.splitlines()
    assert said == [f"a.{ending} has far more than 40 megapixels: make it smaller." for ending in sorted(files)]
    assert int(kilobytes) < 64 * 1024
