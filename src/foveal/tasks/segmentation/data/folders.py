"""Folder layouts of images and label maps, and class names."""

from dataclasses import dataclass
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.image_files import read_text
from foveal.tasks.listing import left_out, list_images, split_names
from foveal.tasks.segmentation.segmenter import IGNORED

# ADE20K's 150 pixel classes (Zhou et al. 2017) in the order of the scene parsing benchmark, which counts them from 1,
# by MMSegmentation's short names.
ADE20K_CLASSES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk",
    "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa",
    "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp",
    "bathtub", "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand",
    "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table",
    "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower",
    "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat",
    "bar", "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight",
    "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator",
    "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer",
    "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle",
    "oven", "ball", "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake",
    "dishwasher", "screen", "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip


CLASSES_FILE = "classes.txt"
LABEL_MAP_ENDINGS = frozenset({".png"})
ADE20K_SPLITS = ("training", "validation")


@dataclass(frozen=True)
class SplitFolders:
    """Image and label map folders of one split within ``root``."""

    root: Path
    images: Path
    labels: Path

    @property
    def is_ade20k(self) -> bool:
        """Whether the folders are named as in ADE20K's archive."""
        published = [(self.root / "images" / long, self.root / "annotations" / long) for long in ADE20K_SPLITS]
        return (self.images, self.labels) in published


def find_split(root: Path, split: str) -> SplitFolders:
    """Find images in ``images/<split>`` or ``<split>``, label maps in ``annotations/<split>`` or ``labels/<split>``.

    Args:
        root: folder of the dataset.
        split: "train" or "val"; the folders may have any of its ``split_names``.

    Raises:
        FovealError: a folder is missing.
    """
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder of images and label maps.")
    names = split_names(split)
    images = _first_folder(
        [root / above / name for above in ("images", "") for name in names],
        f"{root} has no images of {split}: put them into one of",
    )
    labels = _first_folder(
        [root / above / name for above in ("annotations", "labels") for name in names],
        f"The images in {images} have no label maps: put them into one of",
    )
    return SplitFolders(root, images, labels)


def _first_folder(candidates: list[Path], problem: str) -> Path:
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        raise FovealError(f"{problem} {', '.join(map(str, candidates))}.")
    return found


def read_classes(folders: SplitFolders) -> list[str]:
    """Read class names from ``classes.txt``, one per line starting with class 0; ADE20K's own need no such file.

    Raises:
        FovealError: the file is missing or empty, a name is missing or occurs twice, or there are too many.
    """
    file = folders.root / CLASSES_FILE
    if not file.is_file():
        if folders.is_ade20k:
            return list(ADE20K_CLASSES)
        raise FovealError(f"There is no {file}: write the names of the classes into it, one per line.")
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if not names:
        raise FovealError(f"{file} is empty: write the names of the classes into it, one per line.")
    for number, name in enumerate(names, 1):
        if not name:
            raise FovealError(f"Line {number} of {file} is empty: every line must name a class.")
        if name in names[: number - 1]:
            raise FovealError(f"{file} has the class {name!r} twice: give each class a unique name.")
    if len(names) > IGNORED:
        raise FovealError(
            f"{file} names {len(names)} classes, and at most {IGNORED} are possible, since {IGNORED} is the label of "
            "ignored pixels: merge some of them."
        )
    return names


@dataclass(frozen=True)
class Pairs:
    """Images and their label maps, in alphabetical order, and sentences about what else was there."""

    files: list[tuple[Path, Path]]
    notices: list[str]


def find_pairs(folders: SplitFolders, split: str) -> Pairs:
    """Pair each image with the label map of the same name; other label maps are left out.

    Raises:
        FovealError: there are no images, an image has no label map, or two images have the same.
    """
    maps = {file.stem: file for file in list_images(folders.labels, LABEL_MAP_ENDINGS).images}
    listing = list_images(folders.images)
    files = listing.images
    images = {file.stem: file for file in files}
    if not images:
        raise FovealError(f"{folders.images} has no image: put the images of {split} there.")
    for file in files:
        if images[file.stem] != file:
            raise FovealError(f"{file} and {images[file.stem].name} have the same label map: remove one of them.")
    absent = [file for stem, file in images.items() if stem not in maps]
    if absent:
        more = f", and {len(absent) - 1} more images have none" if len(absent) > 1 else ""
        raise FovealError(
            f"{absent[0]} has no label map {folders.labels / absent[0].stem}.png{more}: add what is missing, or remove "
            "the images."
        )
    return Pairs([(file, maps[stem]) for stem, file in images.items()], left_out(listing.others, folders.images))
