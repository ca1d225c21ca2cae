"""Images with any number of labels, listed in ``train.csv`` and ``val.csv``."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.tasks.classification.data.label_tables import LabelTables
from foveal.tasks.classification.evaluate import check_split

TRAIN = "file,labels\na.jpg,dog cat\nb.jpg,cat\nc.jpg,\nimages/d.jpg,eel\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "val").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "images/d.jpg", "val/e.jpg"):
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / name)
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "val.csv").write_text("File, Labels\ne.jpg,cat\n\nb.jpg,cat dog cat\n")
    return tmp_path


def test_classes_and_targets_follow_from_the_table(folder):
    train, val = open_train_and_val(folder)
    assert train.classes == val.classes == ["cat", "dog", "eel"]
    assert [train[index][1].tolist() for index in range(4)] == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert [val[index][1].tolist() for index in range(2)] == [[1, 0, 0], [1, 1, 0]]
    assert val.names == [str(folder / "val" / "e.jpg"), str(folder / "b.jpg")]


def test_a_notice_says_that_the_table_is_read(folder):
    train, val = open_train_and_val(folder)
    sentence = f"{folder / 'train.csv'} is read: an image may have several of its 3 labels."
    assert sentence in train.notices
    assert sentence not in val.notices


def test_images_without_a_label_are_allowed_and_counted(folder):
    train, _ = open_train_and_val(folder)
    assert any("1 of the 4 images of" in notice and "has no label" in notice for notice in train.notices)


def test_classes_without_a_validation_image_are_named(folder):
    _, val = open_train_and_val(folder)
    assert any("no image of the class 'eel'" in notice for notice in val.notices)


def test_one_label_is_enough(folder):
    (folder / "train.csv").write_text("file,labels\na.jpg,cat\nb.jpg,\n")
    (folder / "val.csv").write_text("file,labels\na.jpg,cat\nb.jpg,\n")
    assert open_train_and_val(folder)[0].classes == ["cat"]


def test_a_table_with_a_byte_order_mark_and_quotes_is_read(folder):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a, b.jpg")
    (folder / "train.csv").write_bytes('\ufefffile,labels\r\n"a, b.jpg",dog cat\r\nb.jpg,dog\r\n'.encode())
    assert open_split(folder, "train").names == [str(folder / "a, b.jpg"), str(folder / "b.jpg")]


@pytest.mark.parametrize(
    ("table", "text", "sentence"),
    [
        ("train", "file,labels\na.jpg,cat\nz.jpg,dog\n", r"train\.csv, line 3: there is no image .*z\.jpg"),
        ("train", "file,labels\n\na.jpg,cat,dog\n", r"train\.csv, line 3: 3 columns instead of file,labels"),
        ("train", "file,labels\na.jpg\n", r"train\.csv, line 2: 1 column instead of file,labels"),
        ("train", "file,labels,width\na.jpg,cat,3\n", r"train\.csv, line 1: the columns must be file,labels, not"),
        ("train", "file,labels\na.jpg,cat\na.jpg,dog\n", r"train\.csv, line 3: a\.jpg is in line 2, too"),
        ("train", "file,labels\n", r"train\.csv has no image"),
        ("train", "file,labels\na.jpg,\nb.jpg,\n", r"train\.csv has no label"),
        ("val", "file,labels\na.jpg,cat\n\nb.jpg,fox\n", r"val\.csv, line 4: training has no label 'fox'"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_sentence_with_the_line(folder, table, text, sentence):
    (folder / f"{table}.csv").write_text(text)
    with pytest.raises(FovealError, match=sentence):
        open_train_and_val(folder)


def test_other_tables_beside_class_folders_are_not_read(pets):
    (pets / "train.csv").write_text("id,breed\n1,poodle\n")
    assert open_train_and_val(pets)[0].classes == ["cat", "dog", "eel"]


class TestWithoutValidation:
    @pytest.fixture(autouse=True)
    def many(self, folder):
        (folder / "val.csv").unlink()
        rows = []
        for number in range(40):
            name = f"{number}.png"
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / name)
            rows.append(f"{name},{'cat' if number < 20 else 'cat dog' if number < 30 else ''}")
        (folder / "train.csv").write_text("\n".join(["file,labels", *rows]) + "\n")

    def test_a_share_of_each_label_is_held_out(self, folder):
        train, val = open_train_and_val(folder, val_fraction=0.2)
        assert (len(train), len(val)) == (32, 8)
        assert sorted(val.labels) == [(), (), (0,), (0,), (0,), (0,), (0, 1), (0, 1)]  # of 10, 20 and 10
        assert not set(train.names) & set(val.names)

    def test_the_usual_share_of_a_recipe_is_held_out(self, folder):
        assert len(open_train_and_val(folder, usual_fraction=0.2)[1]) == 8

    def test_evaluation_uses_the_same_images(self, folder):
        _, val = open_train_and_val(folder, val_fraction=0.2)
        assert open_split(folder, "val", held_out=val.held_out).names == val.names

    def test_without_a_share_a_sentence_says_what_to_do(self, folder):
        with pytest.raises(FovealError, match=r"has no val\.csv: write one, or pass --val-fraction 0\.2"):
            open_train_and_val(folder)


def test_a_share_is_refused_where_there_is_a_table_for_validation(folder):
    with pytest.raises(FovealError, match=r"validation images in val\.csv: leave --val-fraction out"):
        open_train_and_val(folder, val_fraction=0.2)


def test_a_classifier_of_one_class_per_image_refuses_tables(folder):
    classifier = SimpleNamespace(name="transnext_atto", multi_label=False)
    with pytest.raises(FovealError, match="transnext_atto gives one class per image"):
        check_split(classifier, open_split(folder, "val"), folder / "val")


def test_a_missing_table_is_named(folder):
    with pytest.raises(FovealError, match=r"has no test\.csv"):
        LabelTables(folder).check("test")
