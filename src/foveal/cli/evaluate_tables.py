"""Evaluations as tables of at most 80 columns."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from foveal.tasks.classification.imagenet.corruptions import SEVERITIES, CorruptionErrors
from foveal.tasks.classification.imagenet.sets import SETS, VAL_IMAGES, set_title
from foveal.tasks.classification.modes import MODE_TITLES
from foveal.tasks.classification.survey import Cell, EvaluationGrid


def print_cells(cells: Sequence[Cell], plan: EvaluationGrid) -> None:
    """All results on stdout: a row an evaluation, or sizes side by side where modes are compared; ImageNet-C apart."""
    console = Console(highlight=False)
    plain = [cell for cell in cells if cell.corruptions is None]
    if len(plan.modes) > 1 and len(plan.sizes) > 1:
        for name in dict.fromkeys(cell.set for cell in plain):
            console.print(f"Top-1 in percent, {set_title(name)}, by side of the image in pixels")
            console.print(_by_size([cell for cell in plain if cell.set == name]))
    elif plain:
        console.print(_rows(plain))
    for cell in cells:
        if cell.corruptions is not None:
            console.print(*_corruption_lines(cell, cell.corruptions), sep="\n")
    for line in _remarks(cells, plan):
        console.print(line)


def _rows(cells: Sequence[Cell]) -> Table:
    """A column is left out where it would say nothing."""
    several_sets, modes = any(cell.set != "val" for cell in cells), any(cell.mode for cell in cells)
    papers = any(cell.paper is not None for cell in cells)
    table = _table()
    texts = [*(["set"] if several_sets else []), *(["mode"] if modes else [])]
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in ("size", "images", "top-1", *(["paper"] if papers else []), "top-5", "loss", "images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        result, words = cell.score, []
        if several_sets:
            words.append(set_title(cell.set))
        if modes:
            words.append(MODE_TITLES[cell.mode])
        words += [f"{cell.size[0]}x{cell.size[1]}", str(result.images), f"{result.top1:.2f}"]
        if papers:
            words.append(_figure(cell.paper))
        table.add_row(*words, f"{result.top5:.2f}", f"{result.loss:.4f}", f"{result.images_per_second:.1f}")
    return table


def _by_size(cells: Sequence[Cell]) -> Table:
    """As table 5 of TransNeXt's paper: a row a mode, with the paper's below where there is one."""
    table = _table()
    table.add_column("mode", no_wrap=True)
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    for height, width in sizes:
        table.add_column(str(height) if height == width else f"{height}x{width}", justify="right", no_wrap=True)
    for mode in dict.fromkeys(cell.mode for cell in cells):
        row = {cell.size: cell for cell in cells if cell.mode == mode}
        table.add_row(MODE_TITLES[mode], *(f"{row[size].score.top1:.2f}" for size in sizes))
        if any(cell.paper is not None for cell in row.values()):
            table.add_row("  paper", *(_figure(row[size].paper) for size in sizes), style="dim")
    return table


def _corruption_lines(cell: Cell, found: CorruptionErrors) -> list[str | Table]:
    beside = "" if cell.paper is None else f" (paper {_figure(cell.paper)})"
    mode = f", {MODE_TITLES[cell.mode]}" if cell.mode else ""
    table = _table()
    table.add_column("error by severity, %", no_wrap=True)
    for heading in (*map(str, SEVERITIES), "mean", "CE"):
        table.add_column(heading, justify="right", no_wrap=True)
    means, relative = found.means, found.relative
    for name, errors in found.errors.items():
        table.add_row(
            name.replace("_", " "), *(f"{error:.1f}" for error in errors), f"{means[name]:.1f}", f"{relative[name]:.1f}"
        )
    return [
        f"ImageNet-C, {cell.size[0]}x{cell.size[1]}{mode}, {cell.score.images} images: "
        f"mCE {found.mce:.1f} %{beside}, mean error {found.mean_error:.1f} %",
        table,
    ]


def _remarks(cells: Sequence[Cell], plan: EvaluationGrid) -> list[str]:
    """What was left out; why a figure of the paper is not there; what stands for its weights but is not them."""
    broken = dict.fromkeys((cell.set, cell.score.broken) for cell in cells if cell.score.broken)
    left_out = [f"{set_title(name)}: {count:,} broken images were left out." for name, count in broken]
    if plan.weights is None:
        return left_out
    if plan.always:
        return [*left_out, f"paper: published for {plan.weights}, whatever was evaluated here."]
    partial = dict.fromkeys((cell.set, cell.score.images) for cell in cells)
    return left_out + [
        f"{set_title(name)}: {images:,} of {whole:,} images, so no figure of the paper's."
        for name, images in partial
        if images != (whole := VAL_IMAGES if name == "val" else SETS[name].images)
    ]


def _figure(paper: float | None) -> str:
    return "" if paper is None else f"{paper:.1f}"


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
