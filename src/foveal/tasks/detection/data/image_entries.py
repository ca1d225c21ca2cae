"""The entries of ``images`` of an annotation file, checked and repaired: ids, sizes, and the files that they mean."""

from collections import Counter

from foveal.tasks.detection.data.entries import Entry, Problem, has_size, image_problem, whole
from foveal.tasks.detection.data.image_names import ImageNames
from foveal.tasks.detection.data.repair import NUMBERS
from foveal.tasks.detection.data.tally import Findings
from foveal.tasks.image_files import image_size
from foveal.training.samples import BrokenSample

PATHS = "files found under another path than is given"
SIZES = "height and width not in whole pixels, taken from the image"


def valid_images(entries: list[Entry], names: ImageNames, findings: Findings) -> dict[int, Entry]:
    """Return image id -> entry in the order of the file, repaired, and note the invalid ones."""
    images: dict[int, Entry] = {}
    checked = [_checked_image(entry, names) for entry in entries]
    uses = Counter(fixed["file_name"] for fixed, _, problem in checked if not problem)
    for entry, (fixed, reasons, problem) in zip(entries, checked, strict=True):
        given, number = entry.get("file_name"), fixed.get("id", 0)
        if not problem and number in images:
            problem = "id of another image", "has the id of another image"
        if not problem and PATHS in reasons and uses[fixed["file_name"]] > 1:
            other = names.folder / fixed["file_name"]
            problem = "no file", f"has no file of its own: {other} is that of another image as well"
        if problem:
            findings.add(f"Image {entry.get('id')} ({given})", problem)
            continue
        images[number] = fixed
        for reason in reasons:
            findings.repairs.add(reason, f"image {number} ({given})")
    return images


def _checked_image(entry: Entry, names: ImageNames) -> tuple[Entry, list[str], Problem | None]:
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
        return entry, reasons, ("no file", f"has no file: there is no {names.folder / str(name)}")
    if found != name:
        entry = {**entry, "file_name": found}
        reasons.append(PATHS)
    return _sized_image(entry, reasons, names)


def _sized_image(entry: Entry, reasons: list[str], names: ImageNames) -> tuple[Entry, list[str], Problem | None]:
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
