"""The entries of ``images`` of an annotation file, checked and repaired: ids, sizes, and the files that they mean."""

import os
from collections import defaultdict

from foveal.errors import BrokenSample
from foveal.image_files import image_size
from foveal.tasks.detection.data.entries import Entry, Problem, has_size, image_problem, whole
from foveal.tasks.detection.data.image_names import ImageNames
from foveal.tasks.detection.data.repair import NUMBERS
from foveal.tasks.detection.data.tally import Findings

NO_FILE = "no file"
PATHS = "files found under another path than is given"
AGAIN = "images that are listed again, read as one with all objects"
SIZES = "height and width not in whole pixels, taken from the image"

Checked = tuple[Entry, list[str], Problem | None]  # an entry, repaired; the reasons; what is wrong with it


def valid_images(
    entries: list[Entry], names: ImageNames, findings: Findings
) -> tuple[dict[int, Entry], dict[int, int]]:
    """Return id -> entry of the valid images, repaired, in the order of the file, and note the invalid ones.

    Also return id -> the id that is used instead, for images that are listed again under another id.
    """
    images, twins = dict[int, Entry](), dict[int, int]()
    first: dict[str, int] = {}  # file -> id
    checked = [_checked_image(entry, names) for entry in entries]
    shared = _shared_files(entries, checked)
    for entry, (fixed, reasons, problem) in zip(entries, checked, strict=True):
        if not problem:
            number, file = fixed["id"], _file(fixed)
            problem = _doubt(fixed, images, first.get(file), twins.get(number, number if number in images else None))
            if PATHS in reasons and file in shared:
                problem = NO_FILE, f"has no file of its own: {names.folder / file} is that of another image as well"
        if problem:
            findings.add(f"Image {entry.get('id')} ({entry.get('file_name')})", problem)
            continue
        used = first.setdefault(file, number)
        if number in images or used != number:
            twins |= {number: used} if used != number else {}
            reasons = [AGAIN]
        else:
            images[number] = fixed
        for reason in reasons:
            findings.repairs.add(reason, f"image {entry['id']} ({entry['file_name']})")
    return images, twins


def _shared_files(entries: list[Entry], checked: list[Checked]) -> set[str]:
    """Return the files that different names were found to mean."""
    if not any(PATHS in reasons for _, reasons, _ in checked):
        return set()
    uses: dict[str, set[str]] = defaultdict(set)
    for entry, (fixed, _, problem) in zip(entries, checked, strict=True):
        if not problem:
            uses[_file(fixed)].add(entry["file_name"])
    return {file for file, given in uses.items() if len(given) > 1}


def _doubt(entry: Entry, images: dict[int, Entry], first: int | None, known: int | None) -> Problem | None:
    """Return why an entry cannot be used beside those before it: ``first`` of the same file, ``known`` by its id."""
    if known is not None and known != first:
        return "id of another image", "has the id of another image"
    if first is not None and any(images[first][side] != entry[side] for side in ("height", "width")):
        return "another size than before", f"has another size than image {first}, which is the same file"
    return None


def _file(entry: Entry) -> str:
    """Return the file of an image, the same for every way to write its path."""
    name = entry["file_name"]
    return os.path.normpath(name) if "/" in name else name


def _checked_image(entry: Entry, names: ImageNames) -> Checked:
    """Return an entry of ``images``, repaired if necessary, the reasons for that, and what is wrong with it."""
    reasons = []
    number, name = whole(entry.get("id")), entry.get("file_name")
    if number is not None and type(entry["id"]) is not int:
        entry = {**entry, "id": number}
        reasons.append(NUMBERS)
    if problem := image_problem(entry):
        return entry, reasons, problem
    found = names.find(name)  # type: ignore[arg-type]
    if found is None:
        return entry, reasons, (NO_FILE, f"has no file: there is no {names.folder / str(name)}")
    if found != name:
        entry = {**entry, "file_name": found}
        reasons.append(PATHS)
    return _sized_image(entry, reasons, names)


def _sized_image(entry: Entry, reasons: list[str], names: ImageNames) -> Checked:
    if has_size(entry):
        return entry, reasons, None
    sized = {**entry, "height": whole(entry.get("height")), "width": whole(entry.get("width"))}
    if has_size(sized):
        return sized, [*reasons, NUMBERS], None
    try:
        sized["width"], sized["height"] = image_size(names.folder / entry["file_name"])
    except BrokenSample as error:
        return entry, reasons, ("no height and width", f"has no height and width in pixels, and {error}".rstrip("."))
    return sized, [*reasons, SIZES], None
