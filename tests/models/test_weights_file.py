"""Weights files: read once, unwrapped and described; errors carry the problem."""

import pickle

import pytest
import timm
import torch
from torch import nn

from foveal import load_checkpoint
from foveal.models import CheckpointError, WeightsFile
from foveal.models.load_report import Problem
from support.checkpoints import same_state, shallow_net

STATE = {"a.weight": torch.ones(2, 2), "a.bias": torch.zeros(2)}
METADATA = {"task": "classification", "model": "resnet18"}


def opened(content, tmp_path) -> WeightsFile:
    torch.save(content, tmp_path / "file.pt")
    return WeightsFile.open(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("content", "wrapper", "prefixes"),
    [
        (STATE, (), ()),
        ({"model": STATE}, ("model",), ()),
        ({"model": {"state_dict": STATE}}, ("model", "state_dict"), ()),
        ({f"module._orig_mod.{n}": t for n, t in STATE.items()}, (), ("module.", "_orig_mod.")),
        ({"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in STATE.items()}}, (), ("module.",)),
    ],
)
def test_wrappers_and_prefixes_are_recorded(content, wrapper, prefixes, tmp_path):
    file = opened(content, tmp_path)
    assert same_state(file.state, STATE)
    assert (file.wrapper, file.prefixes, file.averaged) == (wrapper, prefixes, False)
    assert (file.metadata, file.is_training_checkpoint) == (None, False)


@pytest.mark.parametrize("key", ["ema", "model_ema", "ema_state_dict", "state_dict_ema"])
def test_averaged_weights_are_preferred(key, tmp_path):
    last = {"model": nn.Linear(2, 2).state_dict(), key: STATE, "optimizer": {}, "card": METADATA}
    file = opened(last, tmp_path)
    assert same_state(file.state, STATE)
    assert file.averaged
    assert file.is_training_checkpoint
    assert file.metadata == METADATA


def test_a_missing_average_is_ignored(tmp_path):
    file = opened({"model": STATE, "ema": None}, tmp_path)
    assert (file.wrapper, file.averaged) == (("model",), False)


@pytest.mark.parametrize(
    ("names", "has_head"),
    [
        (["backbone.a", "neck.b"], True),
        (["backbone.a", "backbone.b"], False),
        (["a", "b"], False),
    ],
)
def test_a_complete_detector_is_recognised(names, has_head, tmp_path):
    assert opened(dict.fromkeys(names, torch.ones(1)), tmp_path).has_head == has_head


def test_an_opened_file_is_not_read_again(shallow, loaded, tmp_path):
    file = opened(shallow("transnext_micro"), tmp_path)
    file.path.unlink()
    assert WeightsFile.open(file) is file
    net = shallow_net("transnext_micro")
    assert load_checkpoint(net, file).complete
    assert same_state(net.state_dict(), loaded("transnext_micro"))


class Custom:
    """A Python object saved along with the weights."""


@pytest.mark.parametrize("zipped", [True, False])
def test_python_objects_are_distinguished_from_damage(zipped, tmp_path):
    path = tmp_path / "file.pt"
    torch.save({**STATE, "config": Custom()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        WeightsFile.open(path)
    assert error.value.problem is Problem.PYTHON_OBJECTS
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError) as error:
        WeightsFile.open(path)
    assert error.value.problem in (Problem.DAMAGED, Problem.NOT_A_CHECKPOINT)


@pytest.mark.parametrize(
    ("content", "problem", "names"),
    [
        ([1], Problem.NOT_A_STATE_DICT, ("a list",)),
        ({"epoch": 3, "loss": 0.5}, Problem.NO_WEIGHTS, ("epoch", "loss")),
        ({}, Problem.NO_WEIGHTS, ()),
    ],
)
def test_errors_carry_the_problem_and_names(content, problem, names, tmp_path):
    with pytest.raises(CheckpointError) as error:
        opened(content, tmp_path)
    assert (error.value.problem, error.value.names) == (problem, names)
    assert error.value.path == tmp_path / "file.pt"
    assert str(error.value) == f"{error.value.path} {error.value.finding}; {error.value.advice}."


def test_a_mismatch_carries_its_report(tmp_path):
    file = opened({"stages.0.blocks.0.extra": torch.ones(1)}, tmp_path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(timm.create_model("transnext_atto"), file)
    assert error.value.problem is Problem.MISFIT
    assert error.value.report.unexpected == ("stages.0.blocks.0.extra",)
    copy = pickle.loads(pickle.dumps(error.value))
    assert str(copy) == str(error.value)


@pytest.mark.parametrize("problem", Problem)
def test_every_problem_is_a_complete_sentence(problem):
    text = str(CheckpointError(problem, "TransNeXt", "TransXNet"))
    assert text.endswith(".")
    assert "{" not in text
