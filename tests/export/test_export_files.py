"""Exported files: the network's answers in the runtimes, what files say about themselves, and none that is wrong."""

import json
import shutil
import zipfile
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import foveal
from foveal.errors import FovealError
from foveal.export import FORMATS, Subject, export, formats, load
from foveal.export import write as writing
from foveal.export.subject import Features
from foveal.runtime import open_session
from foveal.runtime.card import KEY, Card, Input, Resizing
from foveal.version import __version__
from support.accuracy import OUTPUT, assert_within_budget, relative_error
from support.nets import atto, image

SIZE = (64, 96)
RESIZING = Resizing(0.9, False, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = tuple(f"Klasse {number} ß" for number in range(10))
ANY = ("batch", "size")
LINEAR = dict(pool_size=2, img_size=128, position_bias="interpolate", window_size=(5, 3, 3, 3))


@dataclass(frozen=True)
class Case:
    """An export of a network with blocks in its first and last stage alone: one of each kind, in half the time."""

    format: str = "onnx"
    family: str = "transnext"
    dynamic: tuple[str, ...] = ()
    precision: str = "fp32"
    batch: int = 1
    features: bool = False
    options: dict = field(default_factory=dict, hash=False)

    @property
    def net(self) -> nn.Module:
        return atto(self.family, **{"depths": (1, 0, 0, 1), **self.options})

    @property
    def subject(self) -> Subject:
        name = f"{self.family}_atto"
        if self.features:
            return Subject(
                Features(self.net).eval(), "features", name, SIZE, RESIZING, ("stage1", "stage2", "stage3", "stage4")
            )
        return Subject(self.net, "classification", name, SIZE, RESIZING, ("logits",), CLASSES)


FREE = {
    "onnx, transnext": Case(dynamic=ANY),
    "onnx, linear mode and interpolated bias, any size": Case(dynamic=("size",), options=LINEAR),
    "onnx, transxnet": Case(family="transxnet", dynamic=ANY, options=dict(depths=(0, 0, 0, 1))),
    "openvino, transnext": Case("openvino", dynamic=ANY),
    "openvino, transxnet, any size": Case("openvino", "transxnet", ("size",)),
    "torch, transnext, any batch": Case("torch", dynamic=("batch",)),
}
FIXED = {
    "onnx, transnext": Case(),
    "onnx, transxnet, batch of 3": Case(family="transxnet", batch=3),
    "openvino, transxnet": Case("openvino", "transxnet"),
    "openvino, features": Case("openvino", features=True),
    "torch, transxnet": Case("torch", "transxnet"),
}
HALF = {
    "onnx, fp16": Case(precision="fp16"),
    "openvino, fp16": Case("openvino", "transxnet", precision="fp16"),
    "openvino, bf16": Case("openvino", precision="bf16"),
    "torch, bf16": Case("torch", "transxnet", precision="bf16"),
    "torch, fp16": Case("torch", precision="fp16"),
}

SINGLE = FREE | FIXED
ALL = SINGLE | HALF


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """``exported(case)``: the result of ``export``, once for each case."""
    made = {}

    def run(case: Case):
        key = repr(case)
        if key not in made:
            path = tmp_path_factory.mktemp("exported") / f"atto{FORMATS[case.format].ending}"
            settings = dict(precision=case.precision, dynamic=case.dynamic, batch=case.batch)
            made[key] = export(case.subject, path, case.format, **settings)
        return made[key]

    return run


def answers(path, images: torch.Tensor) -> list[torch.Tensor]:
    """What a file answers, in the order of its outputs."""
    session = load(path) if path.suffix == ".pt2" else open_session(path, threads=1)
    return [torch.from_numpy(array) for array in session.run(images.numpy()).values()]


@torch.no_grad()
def right(case: Case, images: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of the network in float64 by the formula of every operator."""
    with foveal.ops.use_backend("reference"):
        outputs = case.subject.net.double()(images.double())
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def assert_right(case: Case, path, images: torch.Tensor) -> None:
    found, expected = answers(path, images), right(case, images)
    assert [tuple(one.shape) for one in found] == [tuple(one.shape) for one in expected]
    errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    assert max(errors) <= OUTPUT, errors


@pytest.mark.parametrize("name", FREE)
def test_one_file_is_right_at_every_size_and_batch(exported, name):
    case = FREE[name]
    path = exported(case).path
    for batch, height, width in ((1, *SIZE), (1, 66, 131), (3, 96, 128), (1, 128, 96), (2, 64, 64)):
        size = (height, width) if "size" in case.dynamic else SIZE
        assert_right(case, path, image(*size, batch=batch if "batch" in case.dynamic else 1, seed=batch))


@pytest.mark.parametrize("name", FIXED)
def test_a_file_of_fixed_shape_is_right(exported, name):
    case = FIXED[name]
    assert_right(case, exported(case).path, image(*SIZE, batch=case.batch))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("value", [0.0, 2.5], ids=["black", "white"])
def test_a_blank_image_is_right(exported, name, value):
    """Norms of constant maps divide by what rounding leaves of their variance."""
    case = SINGLE[name]
    assert_right(case, exported(case).path, torch.full((case.batch, 3, *SIZE), value))


@pytest.mark.parametrize("name", HALF)
def test_half_precision_is_within_the_error_budget_of_pytorch(exported, name):
    case, images = HALF[name], image(*SIZE)
    dtype = torch.bfloat16 if case.precision == "bf16" else torch.float16
    with torch.no_grad():
        plain = foveal.optimize(case.net, dtype, memory=False)(images)
    (found,), (exact,) = answers(exported(case).path, images), right(case, images)
    assert_within_budget(found.to(dtype), plain, exact, 1)


def test_the_error_that_is_reported_is_that_of_the_file(exported):
    found = exported(FREE["onnx, transnext"])
    assert 0 < found.error <= writing.BUDGETS["fp32"]
    assert 0 < exported(HALF["onnx, fp16"]).error <= writing.BUDGETS["fp16"]
    assert found.seconds > 0
    assert found.operators == len(onnx.load(found.path).graph.node)


def expected_card(case: Case) -> Card:
    size = "size" in case.dynamic
    return Card(
        task="features" if case.features else "classification",
        model=f"{case.family}_atto",
        precision=case.precision,
        input=Input("images", None if "batch" in case.dynamic else case.batch, SIZE, size, 3),
        resizing=RESIZING,
        outputs=("stage1", "stage2", "stage3", "stage4") if case.features else ("logits",),
        classes=() if case.features else CLASSES,
        credit={
            "transnext": "TransNeXt by Dai Shi (CVPR 2024, arXiv:2311.17132), Apache-2.0",
            "transxnet": "TransXNet by Lou, Zhang, Zhou, Yang, Wu and Yu (arXiv:2310.19380), Apache-2.0",
        }[case.family],
        foveal=__version__,
    )


@pytest.mark.parametrize("name", ["onnx, transnext", "onnx, transxnet, batch of 3", "onnx, fp16"])
def test_an_onnx_file_describes_itself_in_its_metadata(exported, name):
    case = ALL[name]
    found = exported(case)
    model = onnx.load(found.path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    assert Card.of(entry.value, found.path) == expected_card(case) == found.card
    assert (model.producer_name, model.producer_version) == ("foveal", __version__)


@pytest.mark.parametrize("name", ["openvino, transxnet, any size", "openvino, features", "openvino, bf16"])
def test_an_openvino_file_describes_itself_in_its_runtime_information(exported, name):
    import openvino

    case = ALL[name]
    found = exported(case)
    text = openvino.Core().read_model(found.path).get_rt_info([KEY]).value
    assert Card.of(text, found.path) == expected_card(case) == found.card


@pytest.mark.parametrize("name", ["torch, transnext, any batch", "torch, bf16"])
def test_a_file_of_pytorch_is_described_by_json_beside_it(exported, name):
    case = ALL[name]
    found = exported(case)
    beside = found.path.with_suffix(".json")
    assert Card.of(beside.read_text("utf-8"), beside) == expected_card(case) == found.card
    inside = {"foveal.json": ""}
    torch.export.load(found.path, extra_files=inside)
    assert json.loads(inside["foveal.json"]) == json.loads(beside.read_text("utf-8"))


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.format == "onnx"])
def test_an_onnx_file_holds_standard_operators_of_opset_20_alone(exported, name):
    """onnxruntime 1.31.1 gives NaN for GroupNormalization, which opset 21 has, on constant maps."""
    model = onnx.load(exported(ALL[name]).path)
    onnx.checker.check_model(model)
    assert [(opset.domain, opset.version <= 20) for opset in model.opset_import] == [("", True)]
    assert not model.functions
    assert "GroupNormalization" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", SINGLE)
def test_an_export_leaves_its_own_files_alone(exported, name):
    case = SINGLE[name]
    path = exported(case).path
    beside = {"onnx": (), "openvino": (".bin",), "torch": (".json",)}[case.format]
    assert {one.name for one in path.parent.iterdir()} == {f"atto{ending}" for ending in (path.suffix, *beside)}


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.format == "torch"])
def test_a_file_of_pytorch_holds_its_operators_alone(exported, name):
    graph = torch.export.load(exported(ALL[name]).path).graph
    assert not [node.name for node in graph.nodes if "foveal" in str(node.target)]


def contents(path):
    """The bytes of a file, and of the files in an archive."""
    if path.suffix != ".pt2":
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


@pytest.mark.parametrize("name", ["onnx, transnext", "openvino, transxnet", "openvino, fp16", "torch, transxnet"])
def test_no_path_of_the_machine_is_left_in_a_file(exported, name):
    folders = [str(Path(module.__file__).parent).encode() for module in (foveal, torch)]
    for path in exported(ALL[name]).path.parent.iterdir():
        assert not [folder for content in contents(path) for folder in folders if folder in content], path.name


def test_axes_that_are_free_have_names_in_an_onnx_file(exported):
    def shape(case):
        (given,) = onnx.load(exported(case).path).graph.input
        assert given.name == "images"
        return [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]

    assert shape(FREE["onnx, transnext"]) == ["batch", 3, "height", "width"]
    assert shape(FIXED["onnx, transxnet, batch of 3"]) == [3, 3, *SIZE]


def test_the_network_itself_is_not_changed(tmp_path):
    case = Case()
    subject = case.subject
    before = {name: tensor.clone() for name, tensor in subject.net.state_dict().items()}
    export(subject, tmp_path / "a.pt2", "torch")
    after = subject.net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert not any("prepared" in name for name, _ in subject.net.named_buffers())


def differing(change):
    """A tracer whose programs are of another network."""
    trace = writing.trace

    def run(net, *args, **kwargs):
        change(net)
        return trace(net, *args, **kwargs)

    return run


def shifted(net):
    with torch.no_grad():
        net.get_classifier().bias[3] += 1


def infinite(net):
    with torch.no_grad():
        net.get_classifier().bias[3] = torch.nan


@pytest.mark.parametrize(
    ("format", "change", "says"),
    [
        ("onnx", shifted, "differs from the network by"),
        ("openvino", infinite, "are not finite"),
        ("torch", shifted, "differs from the network by"),
    ],
)
def test_a_file_that_differs_is_refused_and_nothing_is_left(tmp_path, monkeypatch, format, change, says):
    monkeypatch.setattr(writing, "trace", differing(change))
    path = tmp_path / f"a{FORMATS[format].ending}"
    path.write_text("before")
    with pytest.raises(FovealError, match=says) as error:
        export(Case().subject, path, format)
    assert str(error.value).endswith("it was not kept.")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_outputs_of_another_shape_are_refused(tmp_path, monkeypatch):
    def narrower(net):
        net.net.norm = nn.Identity()
        net.net.stages[3].register_forward_hook(lambda stage, given, y: y[:, :1])

    monkeypatch.setattr(writing, "trace", differing(narrower))
    with pytest.raises(FovealError, match=r"stage4 of shape .* the network .*: it was not kept"):
        export(Case(features=True).subject, tmp_path / "a.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(classes=CLASSES[:9]), "The network has 10 classes, and classes names 9: name each."),
        (dict(outputs=("logits", "more")), "The network returns 1 outputs, and outputs names 2: name each."),
    ],
)
def test_what_the_network_returns_must_have_names(tmp_path, changes, says):
    with pytest.raises(FovealError) as error:
        export(replace(Case().subject, **changes), tmp_path / "a.onnx", "onnx")
    assert str(error.value) == says
    assert list(tmp_path.iterdir()) == []


class Inverse(nn.Module):
    """A network with an operator that ONNX lacks."""

    def forward(self, x):
        return torch.linalg.inv(x[:, 0, :10, :10]).sum(2)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_operator_that_a_format_lacks_is_one_sentence_and_no_file(tmp_path, format):
    path = tmp_path / "new" / "folder" / f"a{FORMATS[format].ending}"
    with pytest.raises(FovealError) as error:
        export(replace(Case().subject, net=Inverse().eval()), path, format)
    assert str(error.value) == (
        f"This network cannot be written as {FORMATS[format].title} (the operator aten.linalg_inv_ex.default): choose "
        "another format."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["folding and tracing", "writing", "comparing with the network"])
def test_after_ctrl_c_nothing_is_left(tmp_path, part):
    def stop(step):
        if step.startswith(part):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(Case().subject, tmp_path / "a.onnx", "onnx", on_step=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_created_and_one_that_cannot_be_is_an_error(tmp_path):
    made = export(Case().subject, f"{tmp_path}/new/folder/a.pt2", "torch")
    assert made.path == tmp_path / "new" / "folder" / "a.pt2"
    assert made.path.is_file()
    with pytest.raises(FovealError, match=r"a\.pt2 is a file: pass --out with a folder"):
        export(Case().subject, made.path / "a.pt2", "torch")


@pytest.mark.parametrize(("format", "name"), [("torch", "a.json"), ("openvino", "a.bin"), ("onnx", "a.onnx.data")])
def test_a_file_of_somebody_else_is_not_replaced(tmp_path, format, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(FovealError, match=rf"{name} exists, and is not of a file .*: move it, or pass another --out"):
        export(Case().subject, tmp_path / f"a{FORMATS[format].ending}", format)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_weights_beside_a_file_that_is_replaced_are_removed(tmp_path):
    for name in ("a.onnx", "a.onnx.data", "b.onnx.data"):
        (tmp_path / name).write_text("of another network")
    export(Case().subject, tmp_path / "a.onnx", "onnx")
    assert {one.name for one in tmp_path.iterdir()} == {"a.onnx", "b.onnx.data"}


@pytest.mark.parametrize(
    ("format", "settings", "says"),
    [
        ("onnx", dict(precision="bf16"), "ONNX files have no bf16 here: choose one of fp32, fp16, int8."),
        ("aoti", dict(precision="fp16"), "AOTInductor files have no fp16 here: choose one of fp32, bf16."),
        ("torch", dict(dynamic=["depth", "batch"]), "dynamic takes batch and size, not depth."),
        ("torch", dict(batch=0), "batch must be a whole number of at least 1, not 0."),
    ],
)
def test_what_a_format_lacks_is_one_sentence(tmp_path, format, settings, says):
    with pytest.raises(FovealError) as error:
        export(Case().subject, tmp_path / f"a{FORMATS[format].ending}", format, **settings)
    assert str(error.value) == says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        ("a.onnx", "tf", "There is no format 'tf': choose one of onnx, openvino, torch, aoti."),
        ("a.onnx", "torch", "a.onnx does not end in .pt2, as torch.export files do: rename it."),
    ],
)
def test_a_format_that_is_unknown_or_not_that_of_the_name_is_one_sentence(name, format, says):
    with pytest.raises(FovealError) as error:
        export(Case().subject, name, format)
    assert str(error.value) == says


def test_a_small_size_cannot_be_free(tmp_path):
    subject = replace(Case().subject, size=(32, 64))
    with pytest.raises(FovealError, match=r"free size take images of 64 pixels or more, not 32: pass a larger --size"):
        export(subject, tmp_path / "a.onnx", "onnx", dynamic=ANY)


def test_a_missing_package_is_named_with_the_extra(tmp_path, monkeypatch):
    missing = ("onnx", "openvino")
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name in missing else find_spec(name))
    with pytest.raises(FovealError, match=r'OpenVINO files need onnx, openvino: pip install "foveal\[export\]"\.'):
        export(Case().subject, tmp_path / "a.xml", "openvino")


def test_a_file_of_pytorch_takes_the_shapes_that_its_card_says_alone(exported):
    fixed, free = (load(exported(SINGLE[f"torch, {name}"]).path) for name in ("transxnet", "transnext, any batch"))
    for shape in ((2, 3, 64, 64), (1, 4, *SIZE), (3, *SIZE), (0, 3, *SIZE)):
        for file in (fixed, free):
            with pytest.raises(FovealError, match=r"takes images \(B, 3, 64, 96\) float32, at least one, not"):
                file.run(np.zeros(shape, np.float32))
    with pytest.raises(FovealError, match=r"not \(1, 3, 64, 96\) float64"):
        fixed.run(np.zeros((1, 3, *SIZE)))
    with pytest.raises(FovealError, match=r"takes a NumPy array \(B, 3, 64, 96\) float32, not Tensor"):
        fixed.run(torch.zeros(1, 3, *SIZE))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
def test_a_compiled_file_is_right_and_takes_its_shape_alone(tmp_path):
    """The package itself accepts other shapes, and returns wrong rows."""
    net = atto("transxnet", depths=(1, 0, 0, 0))
    subject = Subject(net, "classification", "transxnet_atto", SIZE, RESIZING, ("logits",), CLASSES)
    made = export(subject, tmp_path / "a.pt2", "aoti")
    (found,) = answers(made.path, image(*SIZE))
    with torch.no_grad():
        assert relative_error(found, net(image(*SIZE))) <= OUTPUT
    images = image(64, 192, batch=3)[..., ::2]  # a view, and more images than the package takes
    (found,) = answers(made.path, images)
    with torch.no_grad():
        assert relative_error(found, net(images)) <= OUTPUT
    assert {one.name for one in tmp_path.iterdir()} == {"a.pt2", "a.json"}


def test_a_file_of_pytorch_without_its_card_or_that_is_damaged_is_one_sentence(exported, tmp_path):
    found = exported(FIXED["torch, transxnet"])
    alone = tmp_path / "a.pt2"
    alone.write_bytes(found.path.read_bytes()[:5000])
    with pytest.raises(FovealError, match=r"a\.json is missing, which describes a\.pt2: keep both files together"):
        load(alone)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FovealError, match=r"The description in .*a\.json is damaged"):
        load(alone)
    (tmp_path / "a.json").write_text(found.card.text())
    with pytest.raises(FovealError, match=r"a\.pt2 cannot be read: export the network again"):
        load(alone)


def test_networks_of_other_channels_are_exported(tmp_path):
    channels = 4
    net = atto(depths=(1, 0, 0, 1), in_chans=channels)
    resizing = Resizing(1.0, False, "bicubic", (0.5,) * channels, (0.5,) * channels)
    subject = Subject(net, "classification", "transnext_atto", (64, 64), resizing, ("logits",), CLASSES)
    made = export(subject, tmp_path / "a.pt2", "torch")
    assert made.card.input.channels == channels
    (found,) = answers(made.path, image(64, 64, channels=channels))
    with torch.no_grad():
        assert relative_error(found, net(image(64, 64, channels=channels))) <= OUTPUT


@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp32"), ("torch", "bf16")])
def test_a_network_of_timm_is_exported_as_it_is(tmp_path, format, precision):
    import timm

    net = timm.create_model("test_convnext", num_classes=10).eval()
    subject = Subject(net, "classification", "test_convnext", (64, 64), RESIZING, ("logits",), CLASSES)
    made = export(subject, tmp_path / f"a{FORMATS[format].ending}", format, precision=precision)
    assert made.card.credit == "test_convnext of timm; see its documentation for authors and licence"
    (found,) = answers(made.path, image(64, 64))
    with torch.no_grad():
        exact, dtype = net.double()(image(64, 64).double()), dict(fp32=torch.float32, bf16=torch.bfloat16)[precision]
        plain = net.to(dtype)(image(64, 64).to(dtype))
    assert_within_budget(found.to(dtype), plain, exact, 1000)
