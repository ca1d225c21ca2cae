"""Classes of sets of images: matched by name, and those without an image, which are named and not counted."""

from collections.abc import Sequence

from foveal.errors import FovealError
from foveal.tasks.classification.data.images import Images
from foveal.tasks.listing import few


def match_classes(images: Images, expected: list[str], where: str, expected_where: str) -> None:
    """Renumber the classes of ``images`` as in ``expected``, some of which they may lack.

    Raises:
        FovealError: there are images of another class.
    """
    extra = sorted(set(images.classes) - set(expected))
    absent = set(without_images(images))
    unknown = next((name for name in extra if name not in absent), None)
    if unknown is not None:
        raise FovealError(
            f"{where} has a class {unknown!r} that {expected_where} does not have: leave its images out, or train on "
            "this class, too."
        )
    images.sort_classes(expected)


def without_images(images: Images) -> list[str]:
    """Return the names of the classes that have no image; none if that is only known once the images are read."""
    present = images.present()
    return [name for label, name in enumerate(images.classes) if present and label not in present]


def named(classes: Sequence[str]) -> str:
    """Return ``the class 'dog'``, or ``the classes 'ant', 'bee', 'cat', 'dog', 'eel' and 7 more``."""
    return f"the class{'es' * (len(classes) > 1)} {few([repr(name) for name in classes])}"


def check_trainable(train: Images, place: str) -> None:
    """Check that there are at least two classes, of which an image has one, and note those without an image."""
    absent = without_images(train)
    if len(train.classes) - len(absent) == 1 and not train.multi_label:
        only = next(name for name in train.classes if name not in absent)
        raise FovealError(f"{place} has images of only one class, {only!r}: add images of another class.")
    if absent:
        train.notices.append(f"{place} has no image of {named(absent)}, which the network therefore cannot learn.")


def note_uncounted(val: Images, place: str, absent: Sequence[str]) -> None:
    """Note the classes that the validation cannot count, once."""
    counted, total = len(val.classes) - len(absent), len(val.classes)
    notice = f"{place} has no image of {named(absent)}: the validation is over {counted:,} of {total:,} classes."
    if absent and notice not in val.notices:
        val.notices.append(notice)
