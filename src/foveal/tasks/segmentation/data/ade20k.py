"""ADE20K's classes, and when a folder without a list of classes means them."""

from __future__ import annotations

from foveal.errors import BrokenSample, FovealError
from foveal.tasks.segmentation.data.class_names import CLASSES_FILE, Legend, read_legend
from foveal.tasks.segmentation.data.folders import SplitFolders
from foveal.tasks.segmentation.data.label_maps import read_label_map
from foveal.tasks.segmentation.data.pairs import Pairs
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

PUBLISHED_NAME = "ADE_"  # the beginning of all names in its archive
MOST_LOOKED_AT = 16  # label maps
MOST_NUMBERS = 8  # in a sentence


def read_or_known(folders: SplitFolders, pairs: Pairs, zero_ignored: bool) -> Legend:
    """Return the classes that a file of the data set names, or ADE20K's if these are meant.

    They are meant if the folders are named as in ADE20K's archive, 0 is ignored as in its label maps, and either the
    files have its names or the first label maps hold numbers of the second half of its classes.

    Raises:
        FovealError: the file cannot be understood, or there is none.
    """
    legend = read_legend(folders.root, folders.images)
    if legend is not None:
        return legend
    known = Legend(list(ADE20K_CLASSES), "ADE20K's classes")
    possible = folders.is_ade20k and zero_ignored
    if possible and pairs.files[0][0].name.startswith(PUBLISHED_NAME):
        return known
    numbers, count = _first_numbers(pairs), len(ADE20K_CLASSES)
    if possible and count // 2 < max(numbers - {IGNORED}, default=0) <= count:
        return known
    raise FovealError(_no_names(folders, numbers, zero_ignored))


def _first_numbers(pairs: Pairs) -> set[int]:
    """Return the numbers in the first label maps, as far as they can be read."""
    numbers: set[int] = set()
    for _, path in pairs.files[:MOST_LOOKED_AT]:
        try:
            numbers.update(set(read_label_map(path).ravel().tolist()))
        except BrokenSample:
            continue
    return numbers


def _no_names(folders: SplitFolders, numbers: set[int], zero_ignored: bool) -> str:
    file = folders.root / CLASSES_FILE
    classes = sorted(numbers - {IGNORED})
    shown = ", ".join(map(str, classes[:MOST_NUMBERS])) + ", ..." * (len(classes) > MOST_NUMBERS)
    found = f"; the first label maps have the number{'s' * (len(classes) > 1)} {shown}" if classes else ""
    order = f"in the order of their numbers, from {int(zero_ignored)}"
    ours = ""
    if folders.is_ade20k:
        reason = "their label maps do not have its numbers" if zero_ignored else "0 is a class here, and ignored there"
        ours = f"; the folders are named as ADE20K's, but {reason}"
    if not classes:
        found = "; if colours are the classes, write NAME:RED,GREEN,BLUE:: for each into labelmap.txt instead"
    return f"There is no {file}: write the names of the classes into it, one per line, {order}{found}{ours}."
