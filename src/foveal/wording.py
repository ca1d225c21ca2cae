"""How numbers and the names of figures are written for people. Logs and documents keep their names and digits."""

import math
import re

TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"  # between two sides in pixels
#: Figures of an evaluation and parts of a loss, by their names in logs.
_TITLES = {
    "top1": "top-1",
    "map": "mAP",
    "f1": "F1",
    "miou": "mIoU",
    "macc": "mean accuracy",
    "aacc": "pixel accuracy",
    "skipped": "skipped images",
    "classifier": "class loss",
    "class": "class loss",
    "box_reg": "box loss",
    "rpn_box_reg": "proposal box loss",
    "objectness": "objectness loss",
    "mask": "mask loss",
    "dice": "dice loss",
    "l1": "box loss",
    "giou": "GIoU loss",
    "decode": "pixel loss",
    "auxiliary": "auxiliary loss",
    "denoising": "denoising loss",
    "encoder": "encoder loss",
}
_SPOKEN = {
    "top1": "accuracy",
    "miou": "mean IoU",
    "box_ap": "average precision of boxes",
    "mask_ap": "average precision of masks",
}
_COUNTS = {"skipped"}
_PERCENT = re.compile(r"top\d+|map|f1|(box|mask)_ap.*|miou|macc|aacc")  # names of figures in percent


def title(name: str) -> str:
    """Return a figure's name for people: ``mean accuracy`` for ``macc``, ``box AP50`` for ``box_ap50``."""
    if name in _TITLES:
        return _TITLES[name]
    if found := re.fullmatch(r"top(\d+)", name):
        return f"top-{found[1]}"
    if found := re.fullmatch(r"(box|mask)_ap(\d*)_?(.*)", name):
        return f"{found[1]} AP{found[2]}" + (f" of {found[3]} objects" if found[3] else "")
    return name.replace("_", " ")


def figure(name: str, value: float) -> str:
    """Return a figure with its unit: percent with two decimals, and anything else with three digits that count."""
    if name in _COUNTS:
        return f"{value:,.0f}"
    return percent(value) if is_percent(name) else digits(value)


def is_percent(name: str) -> bool:
    """Return whether a figure is in percent."""
    return _PERCENT.fullmatch(name) is not None


def spoken(name: str) -> str:
    """Return a figure's name for a heading, in words where ``title`` has a short form: ``Accuracy``, ``Mean IoU``."""
    words = _SPOKEN.get(name) or title(name)
    return words[0].upper() + words[1:] if words[1:2].islower() else words


def percent(value: float) -> str:
    """Return ``92.76 %`` for 92.7564."""
    return f"{value:.2f} %"


def digits(value: float, count: int = 3) -> str:
    """Return a number with ``count`` significant digits: 0.123, 1.20, 12.3, 1234; whole numbers keep all of theirs."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) >= 10 ** (count - 1):
        return f"{value:.0f}"
    return f"{value:#.{count}g}".removesuffix(".")


def decimal(value: float, count: int = 3) -> str:
    """Return a number in full with at most ``count`` significant digits: 0.000468, 0.002, 1.5."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = max(0, count - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def in_units(count: float, unit: float) -> str:
    """Return ``count / unit`` with two decimals, or with two digits that count where those would be 0.00."""
    value = count / unit
    return f"{value:.2f}" if value >= 0.01 or not value else f"{value:.2g}"


def many(count: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 image``, ``1,797 images``; ``plural`` is for nouns that take no s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error of another library, without its full stop."""
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first_line.split(". ")[0].rstrip(".")
