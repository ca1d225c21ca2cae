"""Validation images are drawn by class, and the same every time."""

import random
from collections import Counter

import pytest

from foveal.errors import FovealError
from foveal.tasks.held_out import HeldOut, draw

NAMES = [f"{number:03}.jpg" for number in range(60)]
GROUPS = ["cat"] * 40 + ["dog"] * 15 + ["eel"] * 4 + ["fox"]


def test_each_class_gives_its_share_and_at_least_one_image_if_it_has_two():
    drawn = draw(NAMES, GROUPS, 0.2, seed=0)
    group_of = dict(zip(NAMES, GROUPS, strict=True))
    assert Counter(group_of[name] for name in drawn.names) == {"cat": 8, "dog": 3, "eel": 1}
    assert list(drawn.names) == sorted(drawn.names)
    assert Counter(group_of[name] for name in draw(NAMES, GROUPS, 0.999, seed=0).names)["eel"] == 3


def test_the_draw_depends_on_names_and_seed_alone():
    mixed = list(zip(NAMES, GROUPS, strict=True))
    random.Random(1).shuffle(mixed)
    first = draw(NAMES, GROUPS, 0.2, seed=0)
    assert draw(*zip(*mixed, strict=True), 0.2, seed=0) == first
    assert draw(NAMES, GROUPS, 0.2, seed=1).names != first.names
    # Stored on 2026-11-28: another version or machine must draw the same.
    assert draw(NAMES[:10], ["cat"] * 10, 0.3, seed=0).names == STORED


def test_images_added_to_one_class_leave_the_draw_of_the_others():
    more = draw([*NAMES, "more.jpg"], [*GROUPS, "fox"], 0.2, seed=0)
    assert set(draw(NAMES, GROUPS, 0.2, seed=0).names) < set(more.names)


def test_classes_of_single_images_cannot_be_split():
    with pytest.raises(FovealError, match="No class has two images"):
        draw(["a.jpg", "b.jpg"], ["cat", "dog"], 0.5, seed=0)


def test_a_single_image_is_not_said_to_be_of_a_class():
    with pytest.raises(FovealError, match="There is only one image"):
        draw(["a.jpg"], ["cat"], 0.5, seed=0)


def test_images_that_are_missing_later_are_counted_and_only_none_left_is_refused():
    drawn = HeldOut(0.2, 0, ("a.jpg", "b.jpg", "c.jpg"))
    assert drawn.missing_notice(["c.jpg", "b.jpg", "a.jpg", "new.jpg"], "cats") is None
    assert drawn.missing_notice(iter(["c.jpg", "new.jpg"]), "cats") == (
        "2 of the 3 images that training held out for validation are missing from cats, the first of them a.jpg: the "
        "figures are over the others."
    )
    assert "1 of the 3 images that training held out for validation is missing" in (
        drawn.missing_notice(["a.jpg", "b.jpg"], "cats") or ""
    )
    with pytest.raises(FovealError, match=r"cats has none of the 3 images that training held out.*such as a\.jpg"):
        drawn.missing_notice(["new.jpg"], "cats")


def test_a_drawn_set_is_named_after_its_draw():
    assert HeldOut(0.25, 3, ("a.jpg",)).set_name == "25 % drawn for validation with seed 3"


def test_metadata_name_the_images():
    drawn = draw(NAMES, GROUPS, 0.2, seed=3)
    assert HeldOut.of({"classes": ["cat"], **drawn.metadata()}) == drawn
    assert HeldOut.of({"classes": ["cat"]}) is None
    assert HeldOut.of(None) is None


STORED = ("003.jpg", "007.jpg", "009.jpg")
