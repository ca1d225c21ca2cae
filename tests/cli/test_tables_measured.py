"""``foveal tables`` with --time and --checkpoint: what is measured here beside what the papers print."""

import csv
import io
import json

import pytest
import timm
import torch
from PIL import Image

from foveal.bench.subjects import ModelSubject
from foveal.errors import FovealError
from foveal.papers.table import parse
from foveal.tasks.classification.imagenet.corruptions import ALEXNET
from foveal.tasks.classification.imagenet.sets import synsets

HEAD = "# title: T\n# paper: TransNeXt\n# table: 0\n# source: S\n# ours: ours*\n"
SPEED = (
    "row,model,peer,top1,images_s,memory_mb\n"
    "elsewhere,,,80.0,900,10\ntheirs,,test_convnext,81.0,200,4000\nours,transnext_atto,,82.0,50,1000\n"
)
TIMING = ["--time", "--batch", 2, "--rounds", 3]
GUESS = 6  # the class that the rigged classifier always answers: n01498041, which ImageNet-A has too


@pytest.fixture
def show(foveal, monkeypatch):
    """``show(TEXT OF A TABLE, ...)``: the command on a table of the test."""

    def run(text, *words):
        monkeypatch.setattr("foveal.cli.tables.paper_table", lambda name: parse("small", HEAD + text))
        return foveal("tables", "small", *words)

    return run


@pytest.fixture
def clock(monkeypatch):
    """A stopwatch by which the first network takes 0.1 s, the second 0.2 s, and so on; and peaks of 1 MB."""
    monkeypatch.setattr("foveal.ops.keep_memory", lambda: True)  # cannot be undone
    monkeypatch.setattr("foveal.cli.bench.check_operators", lambda *_: None)
    monkeypatch.setattr("foveal.bench.run.peak_on_cpu", lambda *_: 1_000_000)

    def stopwatch_for(device):
        taken = {}
        return lambda call, repeats: taken.setdefault(call, 0.1 * (len(taken) + 1))

    monkeypatch.setattr("foveal.bench.run.stopwatch_for", stopwatch_for)


def held(name: str) -> float:
    """Megabytes of a network and two images, and the peak of the fixture beyond them."""
    net = timm.create_model(name)
    return (sum(t.nbytes for t in (*net.parameters(), *net.buffers())) + 2 * 3 * 224 * 224 * 4 + 1_000_000) / 1e6


def test_throughput_and_memory_stand_beside_the_papers_as_ratios_to_the_first_network(show, clock):
    said = show(SPEED, *TIMING, "--json")
    assert said.code == 0, said.error
    (table,) = json.loads(said.out)
    elsewhere, theirs, ours = table["rows"]
    assert "measured" not in elsewhere
    assert theirs["peer"] == "test_convnext"
    speed = {"measured": 10, "paper_ratio": 0.25, "ratio": 0.5, "ratio_p20": 0.5, "ratio_p80": 0.5}
    assert ours["measured"]["images_s"] == pytest.approx(speed)
    assert theirs["measured"]["images_s"] == pytest.approx(
        {"measured": 20, "paper_ratio": 1, "ratio": 1, "ratio_p20": 1, "ratio_p80": 1}
    )
    memory = ours["measured"]["memory_mb"]
    assert memory["measured"] == pytest.approx(held("transnext_atto"))
    assert memory["paper_ratio"] == 0.25
    assert memory["ratio"] == pytest.approx(held("transnext_atto") / held("test_convnext"))
    facts = table["measurement"]
    assert (facts["batch"], facts["rounds"]) == (2, 3)
    assert {"device", "threads", "torch", "timm", "foveal"} <= set(facts)


def test_times_are_shown_in_every_form(show, clock):
    text = show(SPEED, *TIMING)
    assert max(map(len, text.out.splitlines())) <= 80
    lines = text.out.splitlines()
    assert "images/s  here  paper x  here x   p20   p80" in text.out
    assert any(line.split() == ["*", "ours", "82.0", "50", "10.0", "0.25", "0.50", "0.50", "0.50"] for line in lines)
    said = " ".join(text.out.split())
    assert "batch 2, 224 pixels, median of 3 rounds, all networks of a size in turn; x: ratio to theirs" in said
    assert f"torch {torch.__version__}" in said
    markdown = show(SPEED, *TIMING, "--no-memory", "--format", "markdown").out
    assert "| row | top-1 % | images/s | here | paper x | here x | p20 | p80 | memory MB |" in markdown
    record = list(csv.DictReader(io.StringIO(show(SPEED, *TIMING, "--no-memory", "--format", "csv").out)))[2]
    assert (record["images_s"], record["images_s_measured"], record["images_s_paper_ratio"]) == ("50", "10", "0.25")
    assert "memory_mb_measured" not in record


def test_a_table_without_throughput_gets_columns_for_it(show, clock):
    text = "row,model,arguments,top1\nplain,transnext_atto,\"channel_mixer='glu'\",81.0\nours,transnext_atto,,82.0\n"
    said = show(text, *TIMING, "--no-memory", "--json")
    plain, ours = json.loads(said.out)[0]["rows"]
    assert plain["measured"]["images_s"]["ratio"] == 1
    assert ours["measured"] == {
        "images_s": pytest.approx({"measured": 10, "ratio": 0.5, "ratio_p20": 0.5, "ratio_p80": 0.5})
    }


def test_kernels_are_compared_with_plain_pytorch(show, clock):
    """0.1 s with kernels and 0.2 s without: 100 % faster."""
    text = "row,model,images_s_cuda,images_s_pytorch,inference_gain\nours,transnext_atto,1117,701,59.3\n"
    (row,) = json.loads(show(text, *TIMING, "--no-memory", "--json").out)[0]["rows"]
    assert row["measured"] == {
        "images_s_cuda": {"measured": pytest.approx(20)},
        "images_s_pytorch": {"measured": pytest.approx(10)},
        "inference_gain": pytest.approx({"measured": 100, "p20": 100, "p80": 100}),
    }


def test_a_network_that_does_not_run_here_is_left_out_and_the_next_is_the_first(show, clock, monkeypatch):
    prepare = ModelSubject.prepare

    def fails(subject, setting):
        if subject.model == "test_convnext":
            raise FovealError("it does not run")
        return prepare(subject, setting)

    monkeypatch.setattr(ModelSubject, "prepare", fails)
    said = show(SPEED, *TIMING, "--no-memory")
    assert said.code == 0
    assert "ratio to ours" in " ".join(said.out.split())
    assert "Left out: test_convnext, eager: it does not run." in " ".join(said.out.split())


def test_images_of_several_sizes_are_runs_of_their_own(show, clock):
    text = "row,model,size,top1\nours,transnext_atto,64,80.0\nours,transnext_atto,96,81.0\n"
    said = show(text, *TIMING, "--no-memory", "--json")
    assert [row["measured"]["images_s"]["ratio"] for row in json.loads(said.out)[0]["rows"]] == [1, 1]


# --- accuracy


@pytest.fixture
def rigged(tmp_path):
    """A released file of a classifier that answers ``GUESS`` for every image, so accuracies are shares of a class."""
    net = timm.create_model("transnext_atto")
    with torch.no_grad():
        net.head.fc.weight.zero_()
        net.head.fc.bias.zero_()[GUESS] = 1
    torch.save(net.state_dict(), tmp_path / "rigged.pth")
    return tmp_path / "rigged.pth"


def write(folder, names):
    for name in names:
        place = folder / name
        place.mkdir(parents=True)
        Image.new("RGB", (40, 32), (40, 90, 160)).save(place / "1.png")


@pytest.fixture
def data(tmp_path):
    """Validation images of five classes, and ImageNet-A and V2 with two and four, one of which is ``GUESS``."""
    guess = synsets("imagenet_1k")[GUESS]
    write(tmp_path / "data" / "val", [*synsets("imagenet_1k")[:4], guess])
    write(tmp_path / "data" / "imagenet-a", [guess, "n12267677"])
    write(tmp_path / "data" / "imagenetv2-matched-frequency-format-val", ["0", "2", "10", str(GUESS)])
    return tmp_path / "data"


ACCURACY = "row,model,top1,mce,top1_a,top1_v2\ntheirs,,80.0,60.0,20.0,70.0\nours,transnext_atto,82.5,50.8,29.9,72.6\n"


def test_accuracies_fill_the_row_of_the_network(show, rigged, data):
    said = show(ACCURACY, "--checkpoint", rigged, "--data", data, "--workers", 0, "--json")
    assert said.code == 0, said.error
    (table,) = json.loads(said.out)
    theirs, ours = table["rows"]
    assert "measured" not in theirs
    assert ours["measured"] == {
        "top1": {"measured": pytest.approx(20)},
        "top1_a": {"measured": pytest.approx(50)},
        "top1_v2": {"measured": pytest.approx(25)},
    }
    notes = table["measurement"]["notes"]
    assert "ImageNet-V2: 4 images of 4 of 1,000 classes" in notes[1]
    assert notes[-1] == f"Not in {data}, so not evaluated: ImageNet-C."


def test_the_mean_corruption_error_is_evaluated_too(show, rigged, data):
    """An error of 100 % at each severity, so the mean of 100 over AlexNet's mean errors, which are shares."""
    for corruption in ALEXNET:
        for severity in range(1, 6):
            write(data / "imagenet-c" / corruption / str(severity), ["n01440764"])
    said = show("row,model,mce\nours,transnext_atto,50.8\n", "--checkpoint", rigged, "--data", data, "--workers", 0)
    expected = sum(100 / mean for mean in ALEXNET.values()) / len(ALEXNET)
    assert f"{expected:.2f}" in next(line for line in said.out.splitlines() if line.startswith("* ours"))


def test_sizes_and_modes_are_those_of_their_rows(show, rigged, data):
    text = "row,model,method,top1_224,top1_256\n"
    text += "ours,transnext_atto,Normal Mode,84.0,84.3\nours,transnext_atto,Interpolate RPE,84.0,84.1\n"
    said = show("# key: method\n" + text, "--checkpoint", rigged, "--data", data, "--workers", 0, "--json")
    assert said.code == 0, said.error
    (table,) = json.loads(said.out)
    assert [row["measured"] for row in table["rows"]] == [
        {"top1_224": {"measured": pytest.approx(20)}, "top1_256": {"measured": pytest.approx(20)}}
    ] * 2
    evaluated = [(one["mode"], one["size"][0]) for one in table["measurement"]["results"]]
    assert evaluated == [("normal", 224), ("interpolate", 224), ("normal", 256), ("interpolate", 256)]


def test_a_file_of_foveal_train_finds_its_row_by_model_and_arguments(show, foveal, colours, tmp_path):
    quick = ["--epochs", 1, "--batch-size", 24, "--workers", 0, "--warmup-epochs", 0]
    run = tmp_path / "run"
    assert foveal("train", "digits.transnext_atto", "--data", colours, "--out", run, *quick).code == 0
    words = ["--checkpoint", run / "best.pt", "--data", colours, "--workers", 0, "--json"]
    text = "row,model,arguments,top1\nglu,transnext_atto,\"channel_mixer='glu'\",81.0\nours,transnext_atto.in1k,,82.0\n"
    glu, ours = json.loads(show(text, *words).out)[0]["rows"]
    evaluated = foveal("evaluate", "digits.transnext_atto", *words)
    assert "measured" not in glu
    assert ours["measured"]["top1"]["measured"] == json.loads(evaluated.out)["results"][0]["top1"]
    said = show("row,model,size,top1\nours,transnext_atto,224,82.0\n", *words)
    assert said.code == 1
    assert said.is_one_sentence("holds a transnext_atto for 32 pixels", "no row of small is that network")


def test_accuracies_are_shown_in_every_form(show, rigged, data):
    words = ["--checkpoint", rigged, "--data", data, "--workers", 0]
    text = show(ACCURACY, *words).out
    assert "* ours       82.5  20.00   50.8    29.9  50.00  72.6  25.00" in text.splitlines()
    assert "| top-1 % | here | mCE % | IN-A % | here |" in show(ACCURACY, *words, "--format", "markdown").out
    record = list(csv.DictReader(io.StringIO(show(ACCURACY, *words, "--format", "csv").out)))[1]
    assert (record["top1"], record["top1_measured"], record["mce"]) == ("82.5", "20", "50.8")


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("row,model,params_m\nours,transnext_atto,1.0\n", [], ["small has no accuracies"]),
        ("row,model,miou\nours,transnext_atto,45.0\n", [], ["detectors or segmenters", "`foveal evaluate"]),
        ("row,model,box_ap\nours,transnext_atto,45.0\n", [], ["detectors or segmenters"]),
        (ACCURACY, ["--row", "mine"], ["no row 'mine'", "are ours"]),
        (ACCURACY, ["--row", "theirs"], ["Row 'theirs'", "no network of foveal"]),
        (ACCURACY, ["--data", "/nowhere"], ["/nowhere has none of small's sets", "imagenet-a"]),
        (ACCURACY, ["--checkpoint", "/nowhere.pth"], ["/nowhere.pth"]),
        (
            "row,model,top1\nours A,transnext_atto,80.0\nours B,transnext_pico,81.0\n",
            [],
            ["does not say which network", "ours A, ours B"],
        ),
        ("row,model,arguments,top1\nours,transnext_atto,head_dim=12,80.0\n", [], ["a file of foveal train"]),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(show, rigged, data, text, words, parts):
    said = show(text, "--checkpoint", rigged, "--data", data, *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)


def test_a_file_of_another_network_is_one_sentence(show, trained, colours):
    said = show(ACCURACY, "--checkpoint", trained, "--data", colours)
    assert said.is_one_sentence("holds a test_convnext", "no row of small is that network")
    said = show(ACCURACY, "--checkpoint", trained, "--data", colours, "--row", "ours")
    assert said.is_one_sentence("row 'ours' of small is another network")


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("row,model,box_ap\nours,transnext_atto,45.0\n", [], ["--time is for classifiers"]),
        ("row,model,top1\ntheirs,,45.0\nours,,50.0\n", [], ["No row of small"]),
        (SPEED, ["--rounds", 1], ["--rounds must be at least 2"]),
        (SPEED, ["--device", "cuda:99"], ["no device 'cuda:99'"]),
    ],
)
def test_what_cannot_be_timed_is_one_sentence(show, text, words, parts):
    said = show(text, "--time", *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--time", "--checkpoint", "a.pt"], ["two measurements"]),
        (["--batch", 8], ["--batch is for --time or --checkpoint"]),
        (["--checkpoint", "a.pt", "--data", "b", "--rounds", 3], ["--rounds is for --time"]),
        (["--time", "--row", "ours"], ["--row is for --checkpoint"]),
        (["--checkpoint", "a.pt"], ["--checkpoint needs images", "--data"]),
        (["--time", "--batch", 0], ["--batch must be at least 1"]),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(foveal, words, parts):
    said = foveal("tables", "transnext.imagenet", *words)
    assert said.code == 2
    assert said.is_one_sentence(*parts)


@pytest.mark.parametrize("option", [["--time"], ["--checkpoint", "a.pt", "--data", "b"]])
def test_one_table_is_measured_at_a_time(foveal, option):
    assert foveal("tables", "*.imagenet", *option).is_one_sentence("One table is measured at a time")
    assert foveal("tables", *option).is_one_sentence("Name the tables to measure")
