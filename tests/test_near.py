"""Near names of mistyped ones."""

import pytest

from foveal.near import did_you_mean

FRUIT = ["apple", "Apricot", "banana", "pine-apple"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("aple", ", did you mean apple"),
        ("apricto", ", did you mean Apricot"),
        ("BANANA", ", did you mean banana"),
        ("pine_apple", ", did you mean pine-apple or apple"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_near_names_are_listed_best_first_whatever_their_case_and_hyphens(typed, expected):
    assert did_you_mean(typed, FRUIT) == expected


def test_hyphens_in_front_make_no_names_near():
    assert did_you_mean("--ice_d", ["--iced", "--slices", "--out"]) == ", did you mean --iced"


def test_three_names_are_listed_with_commas():
    assert did_you_mean("cat", ["bat", "rat", "cart"]) == ", did you mean cart, rat or bat"


def test_at_most_as_many_names_are_listed_as_asked_for():
    assert did_you_mean("aple", FRUIT, most=1) == ", did you mean apple"


def test_no_name_is_near_where_none_is_known():
    assert did_you_mean("apple", []) == ""
