"""``foveal bench``: console output, files, and errors raised before anything is timed."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.cuda._utils import _get_device_index

from foveal.bench.peers import NETWORKS
from foveal.bench.results import COLUMNS
from foveal.errors import FovealError
from foveal.ops.backend import _operators
from support.tables import read_rows

ROOT = Path(__file__).parents[2]
QUICK = ["--sizes", "64", "--batches", "1", "--rounds", "2", "--no-memory"]
MODELS_BY_DEFAULT = ("transnext_tiny", "transxnet_s")
MODELS = ["--models", "transnext_atto,test_convnext", "--forms", "eager"]


@pytest.fixture(autouse=True)
def this_process_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("foveal.ops.keep_memory", lambda: True)  # cannot be undone
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def broken(monkeypatch):
    operator = _operators["gated_dwconv"]
    wrong = [replace(one, run=lambda *call, one=one: -one.run(*call)) for one in operator.implementations[:-1]]
    monkeypatch.setattr(operator, "implementations", (*wrong, operator.implementations[-1]))


def test_the_table_fits_80_columns_and_csv_and_plot_are_written(foveal, tmp_path):
    file, picture = tmp_path / "a.csv", tmp_path / "a.png"
    words = ["bench", *MODELS, *QUICK, "--mode", "inference,training", "--csv", file, "--plot", picture]
    said = foveal(*words)
    assert said.code == 0, said.error
    assert "inference, fp32, batch 1, 64x64" in said.out
    assert "training, fp32, batch 1, 64x64" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert [(row["subject"], row["mode"]) for row in read_rows(file)] == [
        ("transnext_atto", "inference"),
        ("test_convnext", "inference"),
        ("transnext_atto", "training"),
        ("test_convnext", "training"),
    ]
    assert picture.stat().st_size > 10_000
    before = file.read_text()
    assert foveal(*words[:-2]).code == 0
    assert file.read_text().startswith(before)
    assert len(read_rows(file)) == 8


def test_json_is_the_only_output_and_lists_what_was_left_out(foveal):
    said = foveal("bench", "--models", "transnext_atto", "--forms", "eager,optimised", "--mode", "training",
                  "--dtypes", "bf16", "--threads", 1, *QUICK, "--json")  # fmt: skip
    document = json.loads(said.out)
    (row,) = document["rows"]
    assert tuple(row) == COLUMNS
    assert (row["casting"], row["threads"], row["ratio_p50"]) == ("autocast", "1", None)
    assert row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"]
    (left,) = document["left_out"]
    assert (left["subject"], left["form"]) == ("transnext_atto", "optimised")


def test_operators_are_compared_with_their_reference(foveal, tmp_path):
    said = foveal("bench", "ops", *QUICK, "--sizes", 32, "--csv", tmp_path)
    assert said.code == 0, said.error
    assert max(map(len, said.out.splitlines())) <= 80
    assert "all 19" in said.out
    (file,) = tmp_path.iterdir()
    rows = read_rows(file)
    assert {row["ratio_p50"] for row in rows if row["form"] == "reference"} == {"1.0"}
    assert all(row["gb_per_s"] for row in rows)


def test_scaling_reports_the_growth_of_time_per_pixel(foveal, monkeypatch):
    monkeypatch.setattr("foveal.bench.subjects.BASELINE", "test_convnext")  # a smaller baseline
    words = ["bench", "scaling", "--models", "transnext_atto", "--forms", "eager", *QUICK, "--sizes", "64,32x64"]
    said = foveal(*words, "--json")
    (grown,) = json.loads(said.out)["growth"].values()
    assert [one["name"] for one in grown] == ["transnext_atto", "transnext_atto pool_size=7", "test_convnext"]
    assert all(one["sizes"] == [[32, 64], [64, 64]] and one["growth"][0] == 1 for one in grown)
    assert "time/px" in foveal(*words).out


def test_peers_at_equal_accuracy_are_timed_compared_and_drawn(foveal, tmp_path):
    words = ["bench", "--peers", "accuracy", "--models", "transxnet_t,transnext_atto", "--forms", "eager", *QUICK]
    picture = tmp_path / "a.svg"
    document = json.loads(foveal(*words, "--plot", picture, "--json").out)
    rows = {row["subject"]: row for row in document["rows"]}
    peers = {"convnext_tiny", "swin_tiny_patch4_window7_224", "pvt_v2_b2", "efficientvit_b2"}
    assert set(rows) == {"transxnet_t", "transnext_atto", *peers}
    assert [rows[name]["top1"] for name in ("transxnet_t", "transnext_atto", "convnext_tiny")] == [81.6, None, 82.1]
    assert rows["convnext_tiny"]["top1_source"] == "github.com/facebookresearch/ConvNeXt"
    compared = document["equal_accuracy"]
    assert {(one["subject"], one["peer"]) for one in compared} == {("transxnet_t", peer) for peer in peers}
    assert all(one["speedup"]["p20"] <= one["speedup"]["p50"] <= one["speedup"]["p80"] for one in compared)
    drawn = picture.read_text()
    assert all(f"<!-- {name} -->" in drawn for name in ("TransXNet-T", "ConvNeXt-T", "Swin-T", "EfficientViT-B2"))
    assert "not for this size" in drawn  # the images have 64 pixels
    said = foveal(*words)
    assert max(map(len, said.out.splitlines())) <= 80
    assert "inference, fp32, batch 1, 64x64: peers at equal accuracy" in said.out


@pytest.mark.parametrize(
    ("words", "peers", "models"),
    [
        ([], (), MODELS_BY_DEFAULT),
        (["--peers"], ("tiny",), MODELS_BY_DEFAULT),
        (["--peers", "--rounds", 5], ("tiny",), MODELS_BY_DEFAULT),
        (["--peers", "accuracy"], ("accuracy",), NETWORKS),
        (["--peers", "tiny,accuracy", "--models", "transnext_tiny"], ("tiny", "accuracy"), ("transnext_tiny",)),
    ],
)
def test_peers_alone_are_the_tiny_ones_and_accuracy_concerns_all_of_ours(foveal, monkeypatch, words, peers, models):
    seen = []

    def stop(order, threads):
        seen.append((order.peers, order.models))
        raise FovealError("understood")

    monkeypatch.setattr("foveal.cli.bench._prepare_machine", stop)
    assert foveal("bench", *words).is_one_sentence("understood")
    assert seen == [(peers, models)]


def test_nothing_is_timed_if_an_operator_fails(foveal, broken, tmp_path):
    said = foveal("bench", *MODELS, *QUICK, "--csv", tmp_path / "a.csv")
    assert said.code == 1
    assert said.is_one_sentence("Nothing is timed, because gated_dwconv on backend")
    assert list(tmp_path.iterdir()) == []


def test_running_no_subject_is_an_error(foveal):
    said = foveal("bench", *MODELS[:1], "transnext_atto", "--forms", "optimised", "--mode", "training", *QUICK)
    assert said.code == 1
    assert said.is_one_sentence("Nothing could be timed for models", "foveal.optimize")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model"], ["'model'", "models, ops, scaling"]),
        (["--models", "resnext"], ["'resnext'", "`foveal models`"]),
        (["--forms", "eager,fast"], ["--forms", "'fast'", "optimised"]),
        (["--mode", "sleep"], ["--mode", "'sleep'", "inference, training"]),
        (["--dtypes", "fp8"], ["--dtypes", "'fp8'", "bf16"]),
        (["--batches", "8,0"], ["--batches", "'0'"]),
        (["--sizes", "224,big"], ["--sizes", "'big'"]),
        (["--sizes", "16"], ["--sizes", "32"]),
        (["--rounds", "1"], ["--rounds", "at least 2"]),
        (["--threads", "0"], ["--threads", "at least 1"]),
        (["--device", "cuda:99"], ["no device 'cuda:99'"]),
        (["--csv", "/nowhere/a.csv"], ["no folder /nowhere"]),
        (["--csv", __file__], ["other columns"]),
        (["--plot", "/nowhere/a.png"], ["no folder /nowhere"]),
        (["--plot", "a.jpeg"], ["a.jpeg"]),
        (["--peers", "fast"], ["--peers", "'fast'", "tiny, accuracy"]),
        (["--peers", "ops"], ["--peers", "'ops'"]),
        (["--peers", "accuracy", "--models", "transnext_atto"], ["published accuracy", "transnext_tiny"]),
        (["models,ops", "--peers", "accuracy", "--plot", "a.png"], ["Operators have no accuracy"]),
        (["models,scaling", "--plot", "a.png"], ["chart of its own"]),
        (["scaling", "--plot", "a.png", "--sizes", "64"], ["One size is not enough"]),
        (["models,ops", "--dtypes", "int8"], ["int8 is for networks in inference"]),
        (["models", "--dtypes", "fp32,int8", "--mode", "training"], ["int8 is for networks in inference"]),
    ],
)
def test_settings_that_cannot_be_measured_print_a_one_line_error(foveal, words, parts):
    said = foveal("bench", *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_may_be_named_without_an_index(foveal, monkeypatch, name, index):
    """``torch.cuda.set_device`` requires an index; the fake resolves it as PyTorch does, without a GPU."""
    current = []

    def stop(*_):
        raise FovealError("set up")

    monkeypatch.setattr("foveal.cli.bench._check", lambda *_: None)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: current.append(_get_device_index(device)))
    monkeypatch.setattr("foveal.cli.bench.check_operators", stop)
    assert foveal("bench", *MODELS, "--device", name).is_one_sentence("set up")
    assert current == [index]
    with pytest.raises(ValueError, match="index"):
        torch.cuda.set_device("cuda")  # the reason for this test


@pytest.mark.parametrize("page", ["benchmarks/README.md", "docs/performance.md", "Makefile"])
def test_documented_commands_are_valid(foveal, monkeypatch, page):
    """Each command runs up to the operator check."""

    def stop(*_):
        raise FovealError("understood")

    monkeypatch.setattr("foveal.cli.bench.check_operators", stop)
    monkeypatch.chdir(ROOT)
    lines = re.findall(r"foveal (bench [^`\n]*)", (ROOT / page).read_text())
    assert lines
    for line in lines:
        words = ["cpu" if word in ("cuda", "cuda:0") else word for word in shlex.split(line)]
        assert foveal(*words).is_one_sentence("understood"), line
