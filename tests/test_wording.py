"""Numbers and names of figures as people read them."""

import math

import pytest

from foveal.wording import decimal, digits, figure, in_units, is_percent, many, percent, spoken, title


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.12345, "0.123"),
        (0.5, "0.500"),
        (1.2, "1.20"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1234.5, "1234"),
        (0.0001234, "0.000123"),
        (-0.5, "-0.500"),
        (0, "0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_losses_have_three_significant_digits(value, expected):
    assert digits(value) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(5.73e9, "5.73"), (1e7, "0.01"), (9.9e6, "0.0099"), (3.94e6, "0.0039"), (0, "0.00")]
)
def test_a_small_number_is_never_shown_as_none(count, expected):
    assert in_units(count, 1e9) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top1", "top-1"),
        ("top5", "top-5"),
        ("miou", "mIoU"),
        ("macc", "mean accuracy"),
        ("box_ap", "box AP"),
        ("box_ap50", "box AP50"),
        ("mask_ap_small", "mask AP of small objects"),
        ("box_reg", "box loss"),
        ("loss", "loss"),
        ("some_thing", "some thing"),
    ],
)
def test_figures_have_the_names_that_people_know(name, expected):
    assert title(name) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("top1", 92.7564, "92.76 %"),
        ("top5", 100, "100.00 %"),
        ("box_ap_large", 0.5, "0.50 %"),
        ("miou", 61, "61.00 %"),
        ("loss", 0.25812, "0.258"),
        ("skipped", 1203.0, "1,203"),
    ],
)
def test_shares_are_in_percent_losses_have_three_digits_and_counts_all_of_theirs(name, value, expected):
    assert figure(name, value) == expected


def test_percent_has_two_decimals():
    assert percent(9.999) == "10.00 %"


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (1797, ("image",), "1,797 images"),
        (1, ("pass", "passes"), "1 pass"),
        (2, ("pass", "passes"), "2 passes"),
    ],
)
def test_nouns_agree_with_their_number(count, words, expected):
    assert many(count, *words) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.000468, "0.000468"), (0.002, "0.002"), (6e-05, "0.00006"), (1.5, "1.5"), (100.0, "100"), (0, "0")],
)
def test_a_decimal_number_is_written_in_full_without_zeros_at_its_end(value, expected):
    assert decimal(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("top1", "Accuracy"), ("miou", "Mean IoU"), ("box_ap", "Average precision of boxes"), ("loss", "Loss")],
)
def test_headings_are_in_words(name, expected):
    assert spoken(name) == expected


def test_figures_in_percent_are_known():
    assert all(map(is_percent, ("top1", "top5", "miou", "box_ap50")))
    assert not any(map(is_percent, ("loss", "skipped")))
