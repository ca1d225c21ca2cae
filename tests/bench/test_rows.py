"""Result rows: CSV files are appended to, and columns are never mixed."""

import csv

import pytest

from foveal.bench.machine import device_name, machine_facts, slug
from foveal.bench.measure import Spread
from foveal.bench.results import COLUMNS, Result, append_rows, check_csv, row
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from foveal.errors import FovealError
from support.tables import read_rows

SETTING = Setting("training", "bf16", 8, 480, 640)
BASE = ModelSubject("convnext_tiny")
FACTS = machine_facts("cpu", True)


def result(**changes):
    given = dict(
        subject=ModelSubject("transnext_tiny", "eager", (("pool_size", 7),)),
        setting=SETTING,
        rounds=7,
        seconds=Spread(0.1, 0.123456, 1.5),
        baseline=BASE,
        ratio=Spread(0.5, 0.6, 0.7),
        held=3 * 2**20,
        peak=5 * 2**19,
        moved=None,
    )
    return Result(**{**given, **changes})


def test_a_row_records_subject_setting_machine_and_versions():
    found = row("models", result(), FACTS)
    assert tuple(found) == COLUMNS
    expected = {
        "subject": "transnext_tiny pool_size=7", "form": "eager", "dtype": "bf16", "casting": "autocast",
        "mode": "training", "batch": 8, "height": 480, "width": 640, "rounds": 7,
        "p20_ms": 100, "p50_ms": 123.5, "p80_ms": 1500, "baseline": "convnext_tiny eager",
        "ratio_p20": 0.5, "ratio_p50": 0.6, "ratio_p80": 0.7, "held_mib": 3, "peak_mib": 2.5, "gb_per_s": None,
        "keep_memory": "on", "part": "models",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert all(found[name] for name in ("date", "commit", "device", "threads", "torch", "timm", "foveal", "triton"))


def test_a_row_has_the_published_accuracy_of_the_network_and_its_source():
    found = row("models", result(subject=BASE), FACTS)
    assert (found["top1"], found["top1_source"]) == (82.1, "github.com/facebookresearch/ConvNeXt")
    linear = row("models", result(), FACTS)  # with another pool size, for which nothing is published
    assert (linear["top1"], linear["top1_source"]) == (None, None)


def test_unmeasured_columns_are_empty():
    found = row("ops", result(baseline=None, ratio=None, peak=None, moved=2 * 10**9), FACTS)
    assert [found[name] for name in ("baseline", "ratio_p50", "peak_mib")] == [None] * 3
    assert found["gb_per_s"] == 16.2  # 2 GB in 0.123456 s


def test_rows_are_appended_and_read_back(tmp_path):
    file = tmp_path / "a.csv"
    first, second = row("models", result(), FACTS), row("ops", result(ratio=None), FACTS)
    append_rows(file, [first])
    append_rows(file, [second])
    assert file.read_text().count("date,commit,device") == 1
    as_text = [{name: "" if value is None else str(value) for name, value in one.items()} for one in (first, second)]
    assert read_rows(file) == as_text


@pytest.mark.parametrize("header", ["a,b,c\n1,2,3\n", ",".join(COLUMNS[1:]) + "\n", "\n"])
def test_a_file_with_other_columns_is_rejected_and_left_unchanged(tmp_path, header):
    file = tmp_path / "a.csv"
    file.write_text(header)
    for act in (check_csv, lambda path: append_rows(path, [row("models", result(), FACTS)])):
        with pytest.raises(FovealError, match="other columns"):
            act(file)
    assert file.read_text() == header


def test_a_file_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path):
    file = tmp_path / "a.csv"
    earlier = COLUMNS[: COLUMNS.index("top1")]
    with file.open("w", newline="") as written:
        rows = csv.DictWriter(written, earlier, extrasaction="ignore", lineterminator="\n")
        rows.writeheader()
        rows.writerow(row("models", result(), FACTS))
    (old,) = read_rows(file)
    append_rows(file, [row("models", result(subject=BASE), FACTS)])
    first, second = read_rows(file)
    assert first == {**old, "top1": "", "top1_source": ""}
    assert second["top1"] == "82.1"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_empty_file_gets_a_header(tmp_path):
    file = tmp_path / "a.csv"
    file.touch()
    append_rows(file, [])
    assert next(csv.reader(file.open())) == list(COLUMNS)


def test_a_missing_folder_raises_a_one_line_error(tmp_path):
    with pytest.raises(FovealError, match="no folder"):
        check_csv(tmp_path / "away" / "a.csv")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("NVIDIA H200", "nvidia-h200"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz, 2 processors", "intel-xeon-cpu-2-20ghz-2-processors"),
    ],
)
def test_a_device_name_becomes_a_file_name(name, file):
    assert slug(name) == file


def test_this_device_has_a_name():
    assert slug(device_name("cpu")).endswith("processors")


def test_rows_beside_int8_say_that_they_are_in_fp32():
    setting = Setting("inference", "int8")
    for form, dtype in (("int8", "int8"), ("eager", "fp32")):
        subject = ModelSubject("transnext_tiny", form)
        assert row("models", result(subject=subject, setting=setting), FACTS)["dtype"] == dtype
