"""``foveal explain``: pictures with their numbers, which are those of the library's functions."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.explain import (
    EffectiveReceptiveField,
    Layer,
    cam_layer,
    class_score,
    watch_attention,
    watch_mixers,
    watch_scores,
)
from foveal.report.explanation.activation import activation_picture
from foveal.report.explanation.attention import Place, attention_pictures, branch_pictures
from foveal.report.explanation.subject import create_subject
from foveal.tasks.detection import create_detector


@pytest.fixture
def photos(tmp_path):
    """Two small photographs in a folder, and a file that is none."""
    folder, noise = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(noise.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def explain(foveal, tmp_path):
    def run(*words):
        return foveal("explain", *words, "--size", 64, "--out", tmp_path / "out")

    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_by_default_every_picture_that_the_network_has_is_drawn(explain, photos, tmp_path):
    said = explain(photos / "a.png", "--model", "transxnet_atto", "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert document["weights"] == "random weights (seed 0)"
    assert {one["what"] for one in document["pictures"]} == {"erf", "attention", "gradcam", "branches"}
    written = [name for one in document["pictures"] for name in one["files"]]
    states = {f"erf-{what}transxnet_atto" for what in ("", "branches-")}
    others = set(files(tmp_path / "out")) - {name.rsplit("/", 1)[1] for name in written}
    assert {re.sub(r"-[0-9a-f]{8}\.state\.npz$", "", name) for name in others} == states
    for name in written:
        if name.endswith(".png"):
            assert min(Image.open(name).size) > 300


def test_attention_of_a_pixel_is_that_of_its_token(explain, photos, tmp_path):
    said = explain(
        photos / "a.png", "--model", "transnext_atto", "--what", "attention", "--stage", 2, "--block", 1,
        "--query", 20, 47, "--json",
    )  # fmt: skip
    query, _, depth = json.loads(said.out)["pictures"]
    subject = create_subject("transnext_atto", 64)
    maps = watch_attention(subject.model, subject.look_at(photos / "a.png").tensor).of(1, 0, (3, 6))  # stride 8
    with np.load(tmp_path / "out" / "a-attention.npz") as arrays:
        np.testing.assert_array_equal(arrays["window_weights"], maps.window_weights)
        np.testing.assert_allclose(arrays["mixed_weights"].sum((1, 2)), 1, rtol=1e-5)
    with np.load(tmp_path / "out" / "a-similarity.npz") as arrays:
        np.testing.assert_array_equal(arrays["foveal_similarity"], maps.foveal)
        np.testing.assert_array_equal(arrays["peripheral_similarity"], maps.peripheral)
    assert query["query"] == [3, 6]
    assert query["foveal_share"] == pytest.approx(maps.foveal_share.tolist(), abs=1e-4)
    assert len(depth["blocks"]) == sum(len(stage.blocks) for stage in subject.model.stages)


def test_evidence_is_that_of_the_function_for_each_class(explain, photos, tmp_path):
    said = explain(
        photos / "b.png", "--model", "transnext_atto", "--what", "gradcam", "--classes", "tench", "3", "--method",
        "hires", "--stage", 3, "--json",
    )  # fmt: skip
    (picture,) = json.loads(said.out)["pictures"]
    assert picture["shown"][0]["class"].startswith("tench")
    assert [one["index"] for one in picture["shown"]] == [0, 3]
    subject = create_subject("transnext_atto", 64)
    tensor = subject.look_at(photos / "b.png").tensor
    watched = watch_scores(subject.model, tensor[None], Layer(cam_layer(subject.model, 2)))
    with np.load(tmp_path / "out" / "b-gradcam.npz") as arrays:
        expected = watched.map(class_score(3), "hires").on_image((64, 64), 16)
        np.testing.assert_allclose(arrays["evidence_1"], expected, rtol=1e-5, atol=1e-9)
    assert picture["shown"][1]["probability"] == pytest.approx(
        float(watched.outputs.detach()[0].softmax(0)[3]), abs=1e-6
    )


def test_receptive_fields_are_means_over_all_images_of_a_folder_and_continue(explain, photos, tmp_path):
    words = ("--model", "transxnet_atto", "--beside", "transnext_atto", "--what", "erf", "--json")
    first = explain(photos / "a.png", *words)
    second = explain(photos, *words)  # the first image is not computed again
    assert (first.code, second.code) == (0, 0)
    (picture,) = json.loads(second.out)["pictures"]
    assert [one["images"] for one in picture["networks"]] == [2, 2]
    subject = create_subject("transnext_atto", 64)
    field = EffectiveReceptiveField(subject.model)
    for name in ("a", "b"):
        field.add(subject.look_at(photos / f"{name}.png").tensor[None])
    with np.load(tmp_path / "out" / "erf.npz") as arrays:
        np.testing.assert_array_equal(arrays["transnext_atto_stage_3"], field.result().contributions[2])
    other = json.loads(explain(photos / "b.png", *words).out)  # not the images of before
    assert [one["images"] for one in other["pictures"][0]["networks"]] == [1, 1]


def radii(said) -> list[list[float]]:
    return [
        [layer["radius"] for layer in one["layers"]]
        for picture in json.loads(said.out)["pictures"]
        for one in picture.get("networks", ())
    ]


@pytest.mark.parametrize(
    ("what", "before", "after"),
    [
        ("erf", ["--size", 64], ["--size", 96]),
        ("erf", ["--seed", 0], ["--seed", 1]),
        ("erf", ["--sign", "absolute"], ["--sign", "positive"]),
        ("branches", ["--stage", 3], ["--stage", 2]),
        ("branches", ["--stage", 3, "--block", 1], ["--stage", 3, "--block", 3]),
    ],
)
def test_sums_of_other_settings_are_not_continued(foveal, photos, tmp_path, what, before, after):
    def run(out, options):
        words = (photos / "a.png", "--model", "transxnet_atto", "--what", what, "--json", "--size", 64, "--out", out)
        return radii(foveal("explain", *words, *options))

    first, second = run(tmp_path / "one", before), run(tmp_path / "one", after)
    assert second == run(tmp_path / "fresh", after)
    assert second != first


def test_a_photograph_that_was_replaced_is_computed_again(explain, photos, tmp_path):
    words = (photos / "a.png", "--model", "transnext_atto", "--what", "erf", "--json")
    first = radii(explain(*words))
    (photos / "a.png").write_bytes((photos / "b.png").read_bytes())
    assert radii(explain(*words)) != first


def test_a_layer_of_a_transnext_is_read_in_its_own_memory_layout(explain, photos, tmp_path):
    """A block returns (B, H, W, C); of the last block the map is that of the stage before its norm."""
    words = (photos / "a.png", "--model", "transnext_atto", "--what", "gradcam", "--layer", "stages.2.blocks.2")
    assert explain(*words).code == 0
    subject = create_subject("transnext_atto", 64)
    watched = watch_scores(
        subject.model, subject.look_at(photos / "a.png").tensor[None], Layer("stages.2.blocks.2", "NHWC")
    )
    best = int(watched.outputs.detach()[0].argmax())
    with np.load(tmp_path / "out" / "a-gradcam.npz") as arrays:
        expected = watched.map(class_score(best), "grad").on_image((64, 64), 16)
        np.testing.assert_allclose(arrays["evidence_0"], expected, rtol=1e-5, atol=1e-9)


def test_the_stages_of_a_resnet_do_not_count_its_stem(explain, photos):
    words = (photos / "a.png", "--model", "resnet18", "--what", "gradcam", "--stage")
    assert explain(*words, 5).is_one_sentence("--stage must be from 1 to 4 for resnet18, not 5")
    assert explain(*words, 4).code == 0


def test_a_network_without_maps_of_several_sizes_has_receptive_fields_alone(foveal, photos, tmp_path):
    words = (photos / "a.png", "--model", "deit_tiny_patch16_224", "--json", "--out", tmp_path / "out")
    said = foveal("explain", *words)
    assert said.code == 0
    assert [one["what"] for one in json.loads(said.out)["pictures"]] == ["erf"]


def test_kernels_and_energies_are_those_of_the_function(explain, photos, tmp_path):
    said = explain(photos / "a.png", "--model", "transxnet_atto", "--what", "branches", "--seed", 3)
    assert said.code == 0
    subject = create_subject("transxnet_atto", 64, seed=3)
    mixers = watch_mixers(subject.model, subject.look_at(photos / "a.png").tensor)
    with np.load(tmp_path / "out" / "a-kernels.npz") as arrays:
        np.testing.assert_array_equal(arrays["kernels"], mixers.kernels(2).kernels)
    with np.load(tmp_path / "out" / "a-branches.npz") as arrays:
        np.testing.assert_array_equal(arrays["enhanced"], mixers.energies(2).enhanced)


def test_the_same_command_writes_the_same_bytes(foveal, photos, tmp_path):
    contents = []
    for number in (1, 2):
        out = tmp_path / str(number)
        words = ("--model", "transnext_atto", "--size", 64, "--formats", "png,svg,pdf", "--out", out)
        assert foveal("explain", photos / "a.png", *words).code == 0
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert contents[0].keys() == contents[1].keys()
    assert [name for name, content in contents[0].items() if content != contents[1][name]] == []
    assert {"a-attention.svg", "a-depth.pdf", "a-gradcam.png", "erf.npz"} <= contents[0].keys()


def test_images_of_one_name_keep_their_own_pictures(explain, photos, tmp_path):
    (photos / "more").mkdir()
    (photos / "b.png").rename(photos / "more" / "a.png")
    assert explain(photos, "--model", "transnext_atto", "--what", "gradcam").code == 0
    assert files(tmp_path / "out") == ["a-gradcam.npz", "a-gradcam.png", "a_2-gradcam.npz", "a_2-gradcam.png"]


def test_a_network_of_timm_is_explained_by_its_last_stage_or_a_named_layer(explain, photos):
    words = ("--model", "resnet10t", "--what", "gradcam", "--json")
    shown = [json.loads(explain(photos / "a.png", *words, *more).out) for more in ((), ("--layer", "layer4"))]
    assert shown[0] == shown[1]  # the last stage
    said = explain(photos / "a.png", *words, "--layer", "neck")
    assert said.is_one_sentence("no module 'neck'")


def test_a_checkpoint_is_explained_by_its_own_classes(foveal, colours, trained, tmp_path):
    image = colours / "val" / "red" / "0.png"
    said = foveal(
        "explain", image, "--checkpoint", trained, "--what", "gradcam", "--classes", "blue", "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert said.code == 0, said.error
    (picture,) = json.loads(said.out)["pictures"]
    assert picture["shown"][0]["class"] == "blue"


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--model", "transnext_atto", "--what", "erf,dreams"], 2, ["'dreams'"]),
        (["--model", "transnext_atto", "--what", "branches"], 1, ["Only TransXNet"]),
        (["--model", "resnet10t", "--what", "attention"], 1, ["resnet10t", "neither"]),
        (["--model", "transnext_atto", "--what", "attention", "--stage", "5"], 2, ["--stage must be from 1 to 4"]),
        (["--model", "transnext_atto", "--what", "attention", "--block", "0"], 2, ["--block must be at least 1"]),
        (["--model", "transnext_atto", "--dpi", "5000"], 2, ["--dpi must be from 10 to 1200"]),
        (["--model", "transnext_atto", "--what", "attention", "--query", "64", "0"], 1, ["outside the image"]),
        (["--model", "transnext_atto", "--what", "gradcam", "--classes", "1000"], 1, ["There is no class '1000'"]),
        (["--model", "transnext_atto", "--formats", "gif"], 2, ["--formats", "'gif'"]),
        (["--model", "transnext_tinny"], 1, ["transnext_tinny"]),
        ([], 2, ["A network is missing"]),
    ],
)
def test_what_cannot_be_explained_is_one_sentence_and_writes_nothing(explain, photos, tmp_path, words, code, parts):
    said = explain(photos / "a.png", *words)
    assert said.code == code
    assert said.is_one_sentence(*parts)
    assert not (tmp_path / "out").exists()


def test_a_box_of_a_detector_is_explained_in_pixels_of_the_photograph(foveal, photos, tmp_path, monkeypatch):
    from foveal.report.explanation import subject as opened

    torch.manual_seed(0)
    net = create_detector("retinanet", "transnext_atto", num_classes=2, score=0.0).eval()
    net.images.min_size, net.images.max_size = (64,), 96
    fit = opened.Preprocessing(size=(64, 64))
    known = opened.Subject("retinanet", "random weights", "detection", net, net.backbone.body, ["cat", "dog"], fit)
    monkeypatch.setattr("foveal.cli.explain.open_subject", lambda *_: known)
    said = foveal(
        "explain", photos / "a.png", "--checkpoint", __file__, "--what", "gradcam", "--classes", 1, "--stage", 3,
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    (picture,) = json.loads(said.out)["pictures"]
    with torch.no_grad():
        (found,) = net([opened.to_tensor(Image.open(photos / "a.png"))])
    assert picture["shown"][0]["box"] == pytest.approx(found["boxes"][1].tolist(), abs=0.01)
    assert picture["shown"][0]["score"] == pytest.approx(float(found["scores"][1]), abs=1e-5)
    with np.load(tmp_path / "out" / "a-gradcam.npz") as arrays:
        assert arrays["evidence_0"].shape == (70, 90)


@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_every_caption_below_a_photograph_credits_it(photos, name):
    subject = create_subject(name, 64)
    photo = replace(subject.look_at(photos / "a.png"), credit="A. Person, CC BY 4.0")
    place = Place(1)
    pictures = [*attention_pictures(subject, photo, place), activation_picture(subject, photo, (), -1, "grad")]
    if name == "transxnet_atto":
        pictures += branch_pictures(subject, photo, place)
    without = {"a-depth", "a-kernels"}  # charts and kernels show no photograph
    for picture in pictures:
        words = " ".join(text.get_text() for text in picture.figure.findobj(lambda a: hasattr(a, "get_text")))
        credited = "Photograph: A. Person, CC BY 4.0." in " ".join(words.split())
        assert credited == (picture.name not in without), picture.name
