"""What ``foveal explain`` does with its options: pictures of what a network sees, with their numbers."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from foveal.cli.commands.explain import ExplainOptions
from foveal.cli.console import UsageError, print_json, progress
from foveal.errors import FovealError
from foveal.explain import branch_layers
from foveal.explain.layers import stage_count
from foveal.files import check_writable, output_paths, staging_folder
from foveal.models.pyramid import Pyramid
from foveal.models.transnext import TransNeXt
from foveal.models.transxnet import TransXNet
from foveal.near import did_you_mean
from foveal.plotting import check_drawing
from foveal.report.explanation.activation import activation_picture
from foveal.report.explanation.attention import Place, attention_pictures, branch_pictures
from foveal.report.explanation.field import field_picture, receptive_fields
from foveal.report.explanation.picture import Form, Picture
from foveal.report.explanation.subject import Subject, create_subject, open_subject
from foveal.tasks.listing import walk_images
from foveal.tasks.network import best_device

What = Literal["erf", "attention", "gradcam", "branches"]
WHATS: tuple[What, ...] = ("erf", "attention", "gradcam", "branches")
FORMS: tuple[Form, ...] = ("png", "svg", "pdf")
MOST_DPI = 1200
STAGE = 2  # from 0: the third stage, the deepest of many blocks


def run(images: Sequence[Path], options: ExplainOptions) -> None:
    """Draw what a network sees on ``images``."""
    _check(options)
    forms, paths = _listed("--formats", options.formats, FORMS), _image_files(images)
    check_drawing()
    check_writable(options.out)
    subject = _subject(options)
    _check_place(subject, options)
    whats = _listed("--what", options.what, WHATS) if options.what is not None else _all_of(subject)
    peers = [_moved(create_subject(name, _side(subject, options), pretrained=options.pretrained, seed=options.seed))
             for name in options.beside]  # fmt: skip
    written: list[dict] = []
    for what in whats:
        with progress(f"Drawing {what}") as on_image, _collected(options, forms, written) as collect:
            for picture in _pictures(what, subject, peers, paths, options, on_image):
                collect(what, picture)
    if options.json:
        print_json({"network": subject.name, "weights": subject.weights, "pictures": written})
    else:
        _print(subject, written, options.out)


@contextlib.contextmanager
def _collected(
    options: ExplainOptions, forms: Sequence[Form], written: list[dict]
) -> Iterator[Callable[[What, Picture], None]]:
    """Write the pictures of one kind to a hidden folder and move them together; then note what was written."""
    noted: list[dict] = []
    out = options.out
    with staging_folder(out, "choose another --out") as stage:

        def collect(what: What, picture: Picture) -> None:
            picture.write(stage, forms, options.dpi)
            files = [str(out / name) for name in picture.files(forms)]
            noted.append({"what": what, "files": files, **picture.facts})

        yield collect
    written.extend(noted)


def _pictures(
    what: What, subject: Subject, peers: Sequence[Subject], paths: Sequence[Path], options: ExplainOptions,
    on_image: Callable[[int, int], None],
) -> Iterator[Picture]:  # fmt: skip
    if what == "erf":
        yield _field(subject, peers, paths, options, on_image)
        return
    place = Place(_index(options.stage, STAGE), _index(options.block, -1), options.query)
    names = _names(paths, options.out)
    for done, (path, name) in enumerate(names.items(), start=1):
        whole = what == "gradcam" and subject.kind != "classification"
        photo = subject.look_at_whole(path, name) if whole else subject.look_at(path, name)
        photo = replace(photo, credit=options.credit)
        if what == "attention":
            yield from attention_pictures(subject, photo, place)
        elif what == "branches":
            yield from branch_pictures(subject, photo, place)
        else:
            stage = _index(options.stage, -1)
            yield activation_picture(subject, photo, options.classes, stage, options.method, options.layer)
        on_image(done, len(paths))
    if what == "branches":
        layers = branch_layers(subject.body, place.stage, place.block)
        settings: Any = {"sign": options.sign, "batch_size": options.batch_size, "on_image": on_image}
        options.out.mkdir(parents=True, exist_ok=True)
        fields = receptive_fields(subject, paths, options.out, f"erf-branches-{subject.name}", layers, **settings)
        yield field_picture(f"erf-branches-{subject.name}", [(subject, fields)])


def _names(paths: Sequence[Path], out: Path) -> dict[str, str]:
    """Return what the pictures of each image are called after: its stem, with a number if several have it."""
    ending = ".png"
    return {path: files[0].name.removesuffix(ending) for path, files in output_paths(paths, out, [ending]).items()}


def _field(
    subject: Subject, peers: Sequence[Subject], paths: Sequence[Path], options: ExplainOptions,
    on_image: Callable[[int, int], None],
) -> Picture:  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    rows, total = [], len(paths) * (1 + len(peers))
    for number, one in enumerate((subject, *peers)):

        def counted(done: int, _: int, before: int = number * len(paths)) -> None:
            on_image(before + done, total)

        settings: Any = {"sign": options.sign, "batch_size": options.batch_size, "on_image": counted}
        try:
            rows.append((one, receptive_fields(one, paths, options.out, f"erf-{one.name}", **settings)))
        except FovealError as error:
            raise FovealError(f"{one.name}: {error}") from error
    return field_picture("erf", rows)


def _check(options: ExplainOptions) -> None:
    if options.model is None and options.checkpoint is None:
        raise UsageError("A network is missing: foveal explain IMAGE... --checkpoint FILE, or --model NAME.")
    if options.pretrained and (options.checkpoint is not None or options.model is None):
        raise UsageError("--pretrained takes the released weights of --model: leave --checkpoint out.")
    for name, value in (
        ("stage", options.stage),
        ("block", options.block),
        ("batch-size", options.batch_size),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}.")
    if not 10 <= options.dpi <= MOST_DPI:
        raise UsageError(f"--dpi must be from 10 to {MOST_DPI}, not {options.dpi}.")


def _check_place(subject: Subject, options: ExplainOptions) -> None:
    """Raise UsageError for a stage or block that the network does not have."""
    stages = stage_count(subject.body)
    if options.stage is not None and stages is not None and options.stage > stages:
        raise UsageError(f"--stage must be from 1 to {stages} for {subject.name}, not {options.stage}.")
    if not isinstance(subject.body, Pyramid):
        return
    blocks = [len(stage.blocks) for stage in cast(Any, subject.body.stages)]
    stage = _index(options.stage, STAGE)
    if options.block is not None and options.block > blocks[stage]:
        raise UsageError(f"--block must be from 1 to {blocks[stage]} in stage {stage + 1}, not {options.block}.")


def _listed(option: str, text: str | None, known: Sequence[str]) -> list:
    """Return the values of a list, which commas separate."""
    values = list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
    for value in values:
        if value not in known:
            near = did_you_mean(value, known, most=1)
            raise UsageError(f"{option} must be a list of {', '.join(known)}, and {value!r} is none of them{near}.")
    if not values:
        raise UsageError(f"{option} names nothing: name one of {', '.join(known)}, or leave it out.")
    return values


def _image_files(given: Sequence[Path]) -> list[Path]:
    """Return the image files that were given, and those in folders that were."""
    if not given:
        raise UsageError("An image is missing: foveal explain IMAGE... --model NAME.")
    paths: list[Path] = []
    for one in given:
        found = [Path(text) for text in walk_images(one).paths] if one.is_dir() else [one]
        if not found:
            raise FovealError(f"{one} has no image: pass a folder with image files.")
        paths += found
    return list(dict.fromkeys(paths))


def _subject(options: ExplainOptions) -> Subject:
    if options.checkpoint is not None:
        return _moved(open_subject(options.checkpoint, options.model, options.size))
    assert options.model is not None
    return _moved(create_subject(options.model, options.size, pretrained=options.pretrained, seed=options.seed))


def _moved(subject: Subject) -> Subject:
    subject.model.to(best_device())
    return subject


def _side(subject: Subject, options: ExplainOptions) -> int:
    """Return the side of all networks' images in one figure."""
    return options.size or subject.fit.size[0]


def _all_of(subject: Subject) -> list[What]:
    ours: list[What] = ["erf", "attention", "gradcam"]
    if isinstance(subject.body, TransXNet):
        return [*ours, "branches"]
    if isinstance(subject.body, TransNeXt):
        return ours
    return ["erf"] if stage_count(subject.body) is None else ["erf", "gradcam"]


def _index(number: int | None, default: int) -> int:
    return default if number is None else number - 1


def _print(subject: Subject, written: Sequence[dict], out: Path) -> None:
    print(f"{subject.name}, {subject.weights}, in {out}:")
    for one in written:
        print("  " + ", ".join(Path(file).name for file in one["files"]))
