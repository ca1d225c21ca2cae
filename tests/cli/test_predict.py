"""``foveal predict``: class names and probabilities for image files."""

import json

import pytest
import torch


@pytest.fixture
def images(colours):
    return [colours / "val" / name / "0.png" for name in ("red", "blue")]


def test_json_lists_the_classes_of_each_image_from_most_to_least_likely(foveal, images, trained):
    said = foveal("predict", *images, "--checkpoint", trained, "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert [answer["path"] for answer in document] == [str(image) for image in images]
    for answer in document:
        probabilities = [guess["probability"] for guess in answer["guesses"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert {guess["name"] for guess in answer["guesses"]} == {"blue", "green", "red"}


def test_a_command_loads_the_checkpoint_once(foveal, colours, images, trained, files_read):
    files_read.clear()  # from the training run
    assert foveal("predict", *images, "--checkpoint", trained).code == 0
    assert files_read == [trained]
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0]
    assert foveal("evaluate", "digits.transnext_atto", *words).code == 0
    assert files_read == [trained, trained]


def test_text_output_shows_top_k_in_percent(foveal, images, trained):
    said = foveal("predict", *images, "--checkpoint", trained, "--top-k", 1)
    lines = said.out.splitlines()
    assert said.code == 0
    assert len(lines) == 4
    assert lines[0] == str(images[0])
    assert lines[1].split()[1] == "%"


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["/nowhere.png"], 1, ["no image at /nowhere.png"]),
        (["--checkpoint", "/nowhere.pt"], 1, ["/nowhere.pt"]),
        (["--top-k", "0"], 2, ["--top-k must be at least 1"]),
        (["--model", "transnext_tinny"], 1, ["transnext_tinny"]),
    ],
)
def test_bad_inputs_print_a_one_line_error(foveal, images, trained, words, code, parts):
    said = foveal("predict", "--checkpoint", trained, *words, *([] if words[0].startswith("/") else images))
    assert said.code == code
    assert said.is_one_sentence(*parts)


def test_a_file_that_is_not_an_image_is_named(foveal, trained):
    said = foveal("predict", trained, "--checkpoint", trained)
    assert said.code == 1
    assert said.is_one_sentence(f"{trained} is not a readable image")


def test_a_file_of_an_unknown_task_prints_a_one_line_error(foveal, images, trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    torch.save({**content, "card": {**content["card"], "task": "depth"}}, tmp_path / "depth.pt")
    said = foveal("predict", *images, "--checkpoint", tmp_path / "depth.pt")
    assert said.code == 1
    assert said.is_one_sentence("depth.pt holds a network for depth, which this version does not know: update foveal.")


def test_a_card_of_another_program_is_not_metadata(foveal, images, trained, tmp_path):
    torch.save({**torch.load(trained, weights_only=True), "card": "a text"}, tmp_path / "other.pt")
    said = foveal("predict", *images, "--checkpoint", tmp_path / "other.pt")
    assert said.code == 1
    assert said.is_one_sentence("does not say which model it holds: pass --model NAME.")
