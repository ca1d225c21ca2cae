"""Further ImageNet test sets: their classes, and top-1 and top-5 restricted to these classes."""

import fnmatch
import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from foveal.errors import FovealError
from foveal.tasks.classification import imagenet
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.evaluate import EvaluationSettings, score
from foveal.tasks.classification.imagenet.sets import SETS, check_knows_imagenet, indices, synsets
from support.greys import grey_classifier, random_table, write_greys

ROOT = Path(__file__).parents[3]
ALONE = EvaluationSettings(batch_size=4, workers=0, device=torch.device("cpu"))


def timms(file: str) -> list[str]:
    return (Path(timm.__file__).parent / "data" / "_info" / file).read_text().split()


def scored(name: str, folder: Path, table: torch.Tensor):
    images = open_split(folder.parent, folder.name, grey_classifier(table).fit.transform())
    return score(grey_classifier(table), images, SETS[name].labels(images.classes, folder), ALONE)


@pytest.mark.parametrize(("ours", "theirs"), [("imagenet_1k", "imagenet"), ("imagenet_a",) * 2, ("imagenet_r",) * 2])
def test_the_class_lists_match_timm(ours, theirs):
    assert list(synsets(ours)) == timms(f"{theirs}_synsets.txt")
    if ours != "imagenet_1k":
        assert list(indices(ours)) == [int(index) for index in timms(f"{theirs}_indices.txt")]


def test_the_class_lists_name_their_source_and_are_packaged():
    files = sorted(Path(imagenet.__file__).parent.glob("*.txt"))
    assert [file.stem for file in files] == ["imagenet_1k", "imagenet_a", "imagenet_r"]
    assert all("\n# Source: " in file.read_text() for file in files)
    listed = re.search(
        r'"foveal\.tasks\.classification\.imagenet" = \["(.+)"\]', (ROOT / "pyproject.toml").read_text()
    )[1]
    assert all(fnmatch.fnmatch(file.name, listed) for file in files)


def test_classes_outside_the_subset_are_never_predicted(tmp_path):
    """Without the restriction, every prediction would be a class that is not in ImageNet-A."""
    table, stingray, junco = torch.zeros(256, 1000), 6, 13
    table[:, 0] = 9.0  # tench, not in ImageNet-A
    table[10, stingray] = table[20, junco] = table[30, junco] = 5.0
    write_greys(tmp_path / "imagenet-a", {"n01498041": [10, 30], "n01534433": [20]})
    assert table[[10, 30, 20]].argmax(1).tolist() == [0, 0, 0]
    found = scored("a", tmp_path / "imagenet-a", table)
    assert (found.images, found.top1) == (3, pytest.approx(200 / 3))


@pytest.mark.parametrize("name", ["a", "r"])
def test_restricted_accuracies_match_manual_counts(name, tmp_path):
    names, columns = timms(f"imagenet_{name}_synsets.txt"), [int(i) for i in timms(f"imagenet_{name}_indices.txt")]
    chosen = [0, 57, 199]
    greys = {names[place]: [40 * place % 251 + step for step in range(5)] for place in chosen}
    write_greys(tmp_path / "set", greys)
    table = random_table()
    for place in chosen:  # one correct, two ranked third in the subset, two random
        first, *second = greys[names[place]][:3]
        table[first, columns[place]] = table[first, columns].max() + 0.01
        for grey in second:
            table[grey, columns[place]] = table[grey, columns].topk(3).values[-1] + 1e-3
    ranks = []
    for place in chosen:
        for grey in greys[names[place]]:
            row = table[grey].tolist()
            ranks.append(sum(row[column] > row[columns[place]] for column in columns))
    found = scored(name, tmp_path / "set", table)
    assert 0 < sum(rank < 1 for rank in ranks) < sum(rank < 5 for rank in ranks) < 15
    assert found.top1 == pytest.approx(100 * sum(rank < 1 for rank in ranks) / 15)
    assert found.top_k == pytest.approx(100 * sum(rank < 5 for rank in ranks) / 15)


def test_folders_of_v2_are_class_indices(tmp_path):
    """As strings, "10" sorts before "2"."""
    table = torch.zeros(256, 1000)
    greys = {"0": [100], "2": [102], "10": [110], "999": [120]}
    for number, (grey,) in greys.items():
        table[grey, int(number)] = 1.0
    write_greys(tmp_path / "v2", greys)
    assert scored("v2", tmp_path / "v2", table).top1 == 100.0


def test_sketch_uses_all_thousand_classes(tmp_path):
    table = torch.zeros(256, 1000)
    table[7, 3], table[8, 999] = 1.0, 1.0
    write_greys(tmp_path / "sketch", {"n01491361": [7, 8]})  # class 3
    assert scored("sketch", tmp_path / "sketch", table).top1 == 50.0


@pytest.mark.parametrize(
    ("name", "stranger", "known"),
    [("a", "n01440764", "n01498041"), ("r", "cat", "n01443537"), ("v2", "1000", "0"), ("v2", "01", "0")],
)
def test_a_folder_that_is_not_a_class_of_the_set_is_rejected(name, stranger, known):
    with pytest.raises(FovealError, match=f"class folder '{stranger}', which .* {SETS[name].title}") as refusal:
        SETS[name].labels([known, stranger], Path("folder"))
    assert known in str(refusal.value)


def test_a_missing_set_names_its_expected_folder(tmp_path):
    with pytest.raises(FovealError, match=r"ImageNet-V2 is not in .*imagenetv2-matched-frequency-format-val"):
        SETS["v2"].folder(tmp_path)
    (tmp_path / "imagenet-sketch").mkdir()
    assert SETS["sketch"].folder(tmp_path) == tmp_path / "imagenet-sketch"


def test_the_classifier_must_have_the_imagenet_classes_in_order():
    released = grey_classifier(torch.zeros(256, 1000))
    check_knows_imagenet(released, "ImageNet-A")
    check_knows_imagenet(replace(released, trained_here=True, classes=list(synsets("imagenet_1k"))), "ImageNet-A")
    for classes, here in ((["cat", "dog"], True), (["cat", "dog"], False), (released.classes, True)):
        with pytest.raises(FovealError, match=f"ImageNet's 1,000 classes, and greys has {len(classes)} other classes"):
            check_knows_imagenet(replace(released, trained_here=here, classes=classes), "ImageNet-A")
