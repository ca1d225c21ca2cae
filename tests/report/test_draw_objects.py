"""Detections drawn on images: nothing is displaced, hidden or cut off, at any size."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab

from foveal.errors import FovealError
from foveal.report.draw import DARK, load_font, truncated
from foveal.report.draw import write_picture as write
from foveal.report.draw_objects import PALETTE, Pens, _label_places, class_colour, draw_objects
from foveal.tasks.detection.predict import DetectedObject
from foveal.tasks.detection.rle import encode_masks

GREY = 120
# From linear RGB to vision without red or green cones (Machado, Oliveira and Fernandes 2009, table 1).
EYES = {
    "normal": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def ground(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def thing(*box, label=0, score=0.9, mask=None):
    return DetectedObject(label, "dog", score, box, None if mask is None else encode_masks(torch.tensor(mask)[None])[0])


def coloured(picture, label=0):
    return (picture == class_colour(label)).all(-1)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((64, 48), None, (640, 480)),
        ((1, 1), None, (640, 640)),
        ((800, 1333), None, (800, 1333)),
        ((800, 1200), 300, (200, 300)),
        ((64, 48), 128, (128, 96)),
    ],
)
def test_small_images_are_enlarged_unless_a_side_is_given(size, side, expected):
    assert draw_objects(ground(*size), [], side).shape == (*expected, 3)


def test_an_image_without_objects_is_unchanged():
    photo = torch.randint(0, 256, (640, 700, 3), dtype=torch.uint8).numpy()
    assert (draw_objects(photo, []) == photo).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_box_is_drawn_on_its_outermost_pixels(scale):
    """Nothing is drawn outside of the box, except for the label above it."""
    picture = draw_objects(
        ground(640 // scale, 800 // scale), [thing(*(v // scale for v in (200, 300, 500, 440)))], 800
    )
    below = coloured(picture)[305:]
    rows, columns = np.flatnonzero(below.any(1)) + 305, np.flatnonzero(below.any(0))
    assert (rows[-1], columns[0], columns[-1]) == (439, 200, 499)
    assert (picture[350:400, 250:450] == GREY).all()


def test_a_mask_is_tinted_inside_and_leaves_the_image_outside_unchanged():
    mask = np.zeros((640, 800), bool)
    mask[300:440, 200:500] = True
    picture = draw_objects(ground(640, 800), [thing(200, 300, 500, 440, mask=mask)])
    tint = 0.58 * GREY + 0.42 * np.array(class_colour(0))
    assert np.abs(picture[320:420, 220:480] - tint).max() <= 0.51
    assert (picture[441:] == GREY).all()
    assert (picture[310:, :200] == GREY).all()
    assert coloured(picture)[301:304, 210:490].all()  # the rim


def test_small_objects_are_drawn_over_large_ones():
    """The order of the objects does not matter."""
    large, small = np.ones((640, 640), bool), np.zeros((640, 640), bool)
    small[300:340, 300:340] = True
    things = [thing(0, 0, 640, 640, mask=large), thing(300, 300, 340, 340, label=1, mask=small)]
    one, other = draw_objects(ground(640, 640), things), draw_objects(ground(640, 640), things[::-1])
    assert (one == other).all()
    under = 0.58 * GREY + 0.42 * np.array(class_colour(0))
    assert np.abs(one[320, 320] - (0.58 * under + 0.42 * np.array(class_colour(1)))).max() <= 1.1


@pytest.mark.parametrize("size", [(64, 64), (300, 700), (2000, 1500)])
def test_labels_stay_inside_the_image(size):
    """A label has as many coloured pixels at every border as in the centre."""
    height, width = size
    boxes = [
        (x, y, x + 1, y + 1) for x, y in itertools.product((0, width // 2, width - 1), (0, height // 2, height - 1))
    ]
    counts = [coloured(draw_objects(ground(*size), [thing(*box)])).sum() for box in boxes]
    assert min(counts) > 0.9 * max(counts)


def test_label_positions_are_inside_the_image_and_start_above_the_box():
    assert next(_label_places((100, 100, 200, 200), (50, 20), (400, 300))) == (100, 80, 150, 100)
    for box in [(0, 0, 400, 300), (-5, -5, 2, 2), (390, 290, 405, 310), (100, 3, 120, 9)]:
        for x1, y1, x2, y2 in _label_places(box, (50, 20), (400, 300)):
            assert (x2 - x1, y2 - y1) == (50, 20)
            assert 0 <= x1 < x2 <= 400
            assert 0 <= y1 < y2 <= 300


def test_labels_of_overlapping_objects_do_not_hide_each_other():
    things = [thing(300, 300, 420, 420, label=label) for label in range(4)]
    picture = draw_objects(ground(640, 640), things)
    alone = [coloured(draw_objects(ground(640, 640), [one]), one.label).sum() for one in things]
    frames = 4 * 120 * Pens.of(640, 640).stroke  # only the frames may overlap
    assert all(coloured(picture, one.label).sum() >= count - frames for one, count in zip(things, alone, strict=True))


def test_a_name_wider_than_the_image_is_truncated():
    text = truncated("a very long name of a class 0.93", load_font(20), 108)
    assert text.endswith("...")
    assert load_font(20).getlength(text) <= 108
    assert truncated("dog", load_font(20), 108) == "dog"


def test_an_image_narrower_than_a_letter_can_be_drawn_on():
    assert truncated("dog 0.93", load_font(20), 7.2) == "..."
    assert draw_objects(ground(1000, 8), [thing(0, 0, 8, 1000)]).shape == (1000, 8, 3)


def test_lines_and_letters_scale_with_the_image():
    small, large = Pens.of(64, 64), Pens.of(4000, 3000)
    assert (small.stroke, small.font_size) == (2, 13)
    assert large.stroke > 5 * small.stroke
    assert large.font_size > 5 * small.font_size


@pytest.mark.parametrize("box", [(10.2, 10.2, 10.3, 10.3), (-20, -20, 900, 900), (700, 700, 800, 800)])
def test_empty_and_out_of_bounds_boxes_are_accepted(box):
    picture = draw_objects(ground(640, 640), [thing(*box, mask=np.zeros((640, 640), bool)), thing(*box)])
    assert picture.shape == (640, 640, 3)
    assert coloured(picture).any()


@pytest.mark.parametrize(("count", "distance"), [(8, 15), (16, 10)])
@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_distinct_with_any_colour_vision(eyes, count, distance):
    """Distances are in CIELAB, where 2.3 is just noticeable."""
    codes = np.array([class_colour(label) for label in range(count)]) / 255
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eyes]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)) > distance


def test_dark_letters_are_legible_on_every_colour():
    """Contrast above 4.5, as required by WCAG."""

    def luminance(colour):
        codes = np.array(colour) / 255
        return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    contrasts = [(luminance(class_colour(n)) + 0.05) / (luminance(DARK) + 0.05) for n in range(len(PALETTE))]
    assert min(contrasts) > 4.5
    assert class_colour(len(PALETTE)) == class_colour(0)


def test_images_are_written_completely_or_not_at_all(tmp_path):
    photo = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).numpy()
    write(tmp_path / "a.png", photo)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == photo).all()
    (tmp_path / "b.png").mkdir()
    with pytest.raises(FovealError, match=r"b.png could not be written .*: choose another place"):
        write(tmp_path / "b.png", photo)
    with pytest.raises(FovealError, match=r"is not the name of a picture: end it with .png or .jpg"):
        write(tmp_path / "a.txt", photo)
    with pytest.raises(FovealError, match=r"is not the name of a picture"):  # Pillow can read but not write this format
        write(tmp_path / "a.psd", photo)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
