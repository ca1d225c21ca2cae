"""Label maps drawn on the image: pixels in their class colour, ignored pixels unchanged, and a legend."""

import numpy as np
import pytest

from foveal.report.draw import PAPER
from foveal.report.draw_label_map import _borders, _resized_labels, draw_label_map, draw_prediction
from foveal.report.draw_legend import Entry, Layout, class_colours, percent, with_legend
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.predict import class_shares

CLASSES = ["background", "cat", "dog", "a tree that nobody has seen for a very long time"]
COLOURS = class_colours(CLASSES).astype(float)


def photograph(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def halves(height, width, left=1, right=2):
    """A label map with one class on the left and another on the right."""
    labels = np.full((height, width), left)
    labels[:, width // 2 :] = right
    return labels


def test_pixels_blend_brightness_with_the_class_colour():
    """9/20 of the image's grey level and 11/20 of the colour."""
    photo = photograph(640, 700)
    picture = draw_label_map(photo, halves(640, 700), CLASSES)
    grey = (photo @ [0.299, 0.587, 0.114])[..., None]
    assert np.abs(picture[:, :340] - (0.45 * grey[:, :340] + 0.55 * COLOURS[1])).max() <= 0.51
    assert np.abs(picture[:, 360:] - (0.45 * grey[:, 360:] + 0.55 * COLOURS[2])).max() <= 0.51


def test_ignored_pixels_are_unchanged():
    photo, labels = photograph(640, 700), halves(640, 700, right=IGNORED)
    picture = draw_label_map(photo, labels, CLASSES)
    assert (picture[:, 350:] == photo[:, 350:]).all()
    assert (draw_label_map(photo, np.full((640, 700), IGNORED), CLASSES) == photo).all()


def test_dark_lines_are_drawn_only_between_regions():
    white = np.full((640, 700, 3), 255, np.uint8)
    picture = draw_label_map(white, halves(640, 700), CLASSES).astype(int)
    dark = picture.sum(2) < 300
    assert dark[:, 349:351].all()
    assert dark.sum() == 2 * 640


def test_border_lines_have_the_given_width():
    assert _borders(halves(4, 10), 1).sum(1).tolist() == [2] * 4
    assert _borders(halves(4, 10), 2).sum(1).tolist() == [4] * 4
    corner = np.zeros((5, 5), int)
    corner[4, 4] = 1
    assert np.argwhere(_borders(corner, 1)).tolist() == [[3, 4], [4, 3], [4, 4]]


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((64, 48), None, (640, 480)),
        ((1, 1), None, (640, 640)),
        ((800, 1333), None, (800, 1333)),
        ((9, 6), 30, (30, 20)),
    ],
)
def test_small_images_are_enlarged_unless_a_side_is_given(size, side, expected):
    assert draw_label_map(photograph(*size), np.zeros(size, int), CLASSES, side).shape == (*expected, 3)


def test_enlarging_a_label_map_keeps_proportions_and_adds_no_class():
    labels = halves(4, 8, 1, 3)
    labels[:2, :4] = IGNORED
    large = _resized_labels(labels, (64, 128))
    assert {label: int((large == label).sum()) for label in np.unique(large)} == pytest.approx(
        {1: 2048, 3: 4096, IGNORED: 2048}, rel=0.05
    )
    assert (large[:28, :60] == IGNORED).all()
    assert (large[36:, :60] == 1).all()
    assert (large[:, 68:] == 3).all()


def test_reducing_a_label_map_takes_the_majority_class():
    draw = np.random.default_rng(0)
    labels = np.where(draw.random((90, 90)) < 0.8, halves(90, 90), 3)
    assert (_resized_labels(labels, (9, 9))[:, [0, 1, 2, 6, 7, 8]] == halves(9, 9)[:, [0, 1, 2, 6, 7, 8]]).all()


def swatches(picture, beyond):
    """Labels with a colour swatch in the legend that starts at ``beyond`` (row, column), in reading order."""
    legend = picture[beyond[0] :, beyond[1] :]
    places = {}
    for label, colour in enumerate(COLOURS):
        found = np.argwhere((legend == colour).all(-1))
        if len(found) > 50:
            places[label] = tuple(found[0])
    return sorted(places, key=lambda label: (places[label][1] // 20, places[label][0]))


def test_the_legend_lists_present_classes_from_largest_to_smallest():
    labels = np.zeros((640, 480), int)
    labels[:, :300] = 2
    labels[:10, :10] = 1
    picture = draw_prediction(photograph(640, 480), labels, CLASSES, class_shares(labels, CLASSES))
    assert picture.shape[0] == 640  # next to an image that is taller than wide
    assert swatches(picture, (0, 480)) == [2, 0, 1]


def test_the_legend_is_below_a_wide_image_and_leaves_it_unchanged():
    photo, labels = photograph(480, 640), halves(480, 640)
    picture = draw_prediction(photo, labels, CLASSES, class_shares(labels, CLASSES))
    assert picture.shape[1] == 640
    assert (picture[:480] == draw_label_map(photo, labels, CLASSES)).all()
    assert set(swatches(picture, (480, 0))) == {1, 2}


@pytest.mark.parametrize("size", [(640, 8), (8, 640), (640, 640), (1500, 2000)])
@pytest.mark.parametrize("count", [1, 4, 150])
def test_every_legend_entry_is_visible(size, count):
    """Each entry has a complete swatch, however little space there is."""
    colours = np.stack([np.arange(count), np.full(count, 7), np.full(count, 9)], 1).astype(np.uint8)
    entries = [Entry(colour, CLASSES[number % 4], 1 / (number + 1)) for number, colour in enumerate(colours)]
    sheet = with_legend(np.full((*size, 3), 200, np.uint8), entries)
    letters = max(14, round((size[0] * size[1]) ** 0.5 / 42))
    inner = (letters - 1) ** 2
    reds = sheet[(sheet[..., 1] == 7) & (sheet[..., 2] == 9)][:, 0]
    assert np.bincount(reds, minlength=count).tolist() == [inner] * count
    assert (sheet[-1, -1] == PAPER).all()


def test_long_names_are_truncated_and_columns_stay_narrow():
    entries = [Entry(np.zeros(3, np.uint8), "x" * 500, 0.5)]
    assert Layout.of(entries, 20).column < 25 * 20
    assert with_legend(photograph(480, 640), entries).shape[1] == 640


def test_small_shares_are_not_printed_as_zero():
    assert [percent(share) for share in (1, 0.1234, 0.0005, 1e-9, None)] == [
        "100.0 %", "12.3 %", "0.1 %", "< 0.1 %", "",
    ]  # fmt: skip


def test_an_image_without_classes_has_no_legend():
    photo = photograph(640, 640)
    assert (draw_prediction(photo, np.full((640, 640), IGNORED), CLASSES, []) == photo).all()
