"""Weights files: read once, unwrapped and described; errors carry the problem."""

import argparse
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from foveal import load_checkpoint
from foveal.models import CheckpointError, WeightsFile
from foveal.models.load_report import Problem
from foveal.models.weights_file import read_content
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


BESIDE = {
    "a number": np.float64(84.5),
    "single precision": np.float32(0.1),
    "a count": np.int64(300),
    "a truth": np.bool_(True),
    "an array": np.arange(6.0).reshape(2, 3).T,
    "names": np.array(["cat", "dog"]),
    "the state of NumPy's generator": np.random.RandomState(0).get_state(),
    "a path": Path("runs/1"),
    "arguments": argparse.Namespace(out=Path("runs"), lr=np.float64(1e-3)),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", BESIDE)
def test_numbers_of_numpy_and_paths_beside_weights_are_read(beside, zipped, tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"model": STATE, "best": BESIDE[beside]}, path, _use_new_zipfile_serialization=zipped)
    assert same_state(WeightsFile.open(path).state, STATE)


def test_numbers_are_read_as_they_were_written(tmp_path):
    content = {"model": STATE, "best": np.float64(84.5), "errors": np.array([[1, 2], [3, 4]], dtype=np.int32)}
    torch.save(content, tmp_path / "file.pt")
    found = read_content(tmp_path / "file.pt")
    assert found["best"] == 84.5
    np.testing.assert_array_equal(found["errors"], [[1, 2], [3, 4]])


@pytest.mark.parametrize("core", ["core", "_core"])
def test_files_of_numpy_1_and_2_are_read(core, tmp_path, monkeypatch):
    """A pickle names NumPy's functions by the module of the release that wrote it."""
    scalar = np.float64(0).__reduce__()[0]
    content = io.BytesIO()

    class Pickler(pickle._Pickler):  # the Python one, whose way of writing globals can be replaced
        def save_global(self, obj, name=None):
            if obj is not scalar:
                return super().save_global(obj, name)
            self.write(pickle.GLOBAL + f"numpy.{core}.multiarray\nscalar\n".encode())
            return self.memoize(obj)

        dispatch = {**pickle._Pickler.dispatch, type(scalar): save_global}

    module = type("module", (), {"Pickler": Pickler, "dumps": pickle.dumps, "dump": pickle.dump})
    torch.save({"model": STATE, "best": np.float64(84.5)}, content, pickle_module=module)
    assert f"numpy.{core}.multiarray\nscalar".encode() in content.getvalue()
    (tmp_path / "file.pt").write_bytes(content.getvalue())
    assert read_content(tmp_path / "file.pt")["best"] == 84.5


def test_arrays_of_python_objects_are_refused(tmp_path):
    torch.save({"model": STATE, "names": np.array([{}, None], dtype=object)}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError) as error:
        WeightsFile.open(tmp_path / "file.pt")
    assert error.value.problem is Problem.PYTHON_OBJECTS


def test_reading_leaves_what_the_user_trusts(tmp_path):
    torch.save({"model": STATE}, tmp_path / "file.pt")
    with torch.serialization.safe_globals([np.dtype]):
        WeightsFile.open(tmp_path / "file.pt")
        assert np.dtype in torch.serialization.get_safe_globals()
    assert np.ndarray not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"model": STATE, "net": STATE}, ("model", "net")),
        ({"state_dict": STATE, "teacher": STATE}, ("state_dict", "teacher")),
        ({"model": STATE, "student": STATE, "teacher": STATE}, ("model", "student", "teacher")),
        ({"model": STATE, "ema": STATE, "model_ema": STATE}, ("ema", "model_ema")),
    ],
)
def test_weights_of_several_networks_are_refused(content, names, tmp_path):
    with pytest.raises(CheckpointError, match=r"any of them could be meant; save the state dict of one") as error:
        opened(content, tmp_path)
    assert (error.value.problem, error.value.names) == (Problem.SEVERAL_NETWORKS, names)


def test_names_of_several_networks_are_refused(shallow, tmp_path):
    state = shallow("transnext_micro")
    both = {f"{prefix}.{name}": tensor for prefix in ("model", "net") for name, tensor in state.items()}
    torch.save(both, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"file\.pt holds weights under model, net, and any"):
        load_checkpoint(shallow_net("transnext_micro"), tmp_path / "file.pt")


def test_settings_under_the_name_of_a_network_are_not_weights(tmp_path):
    file = opened({"model": {"name": "resnet18", "layers": 18}, "state_dict": STATE}, tmp_path)
    assert file.wrapper == ("state_dict",)


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
