"""Exported files in int8: accurate, integers where they should be and nowhere else, and one sentence per error."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from foveal.cli.commands.export import ExportOptions, main
from foveal.cli.console import UsageError
from foveal.errors import FovealError
from foveal.export import Subject, export
from foveal.export.int8 import Calibration, numbers, selection, write
from foveal.export.int8.calibration import Calibrated, calibrate
from foveal.export.int8.products import products_of
from foveal.export.int8.qdq import Rewriting
from foveal.image_files import load_rgb
from foveal.runtime import open_session, preprocess
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.listing import walk_images
from support.exported import CARD, CLASSES, SIDE

ENDINGS = {"onnx": ".onnx", "openvino": ".xml"}
FORMATS = list(ENDINGS)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pytest.importorskip("sklearn.datasets")
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


def network():
    """Random weights, whose branches count as much as in a trained network, and whose classes differ."""
    torch.manual_seed(0)
    net = timm.create_model("transnext_atto", num_classes=len(CLASSES), depths=(1, 1, 1, 1)).eval()
    nn.init.normal_(net.get_classifier().weight)
    return Subject(net, "classification", "transnext_atto", (SIDE, SIDE), CARD.resizing, ("logits",), CLASSES)


@pytest.fixture(scope="module")
def files(tmp_path_factory, digits):
    """The network as ONNX in fp32, and in int8 in both formats; an `Exported` by format and precision."""
    folder, subject = tmp_path_factory.mktemp("files"), network()
    images = Calibration.draw(walk_images(digits / "train").images, 12)
    made = {("onnx", "fp32"): export(subject, folder / "fp32.onnx", "onnx")}
    for name, ending in ENDINGS.items():
        made[name, "int8"] = export(subject, folder / f"int8{ending}", name, precision="int8", calibration=images)
    return made


def bytes_of_weights(path):
    if path.suffix == ".xml":
        return path.with_suffix(".bin").stat().st_size
    return sum(numpy_helper.to_array(one).nbytes for one in onnx.load(path).graph.initializer)


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def group(node):
    return next((one.i for one in node.attribute if one.name == "group"), 1)


@pytest.mark.parametrize("format", FORMATS)
def test_int8_answers_as_fp32_on_images_that_were_not_calibrated_on(files, digits, format):
    """Beside the cosine, of what differs from image to image: what is the same for all has a cosine of 1 for free."""
    exact, int8 = (open_session(files[which].path) for which in (("onnx", "fp32"), (format, "int8")))
    paths = walk_images(digits / "val").images[::12]
    x = np.stack([preprocess(load_rgb(path), int8.card) for path in paths])
    expected, found = (session.run(x)["logits"].astype(np.float64) for session in (exact, int8))
    assert not np.array_equal(expected, found)
    for a, b in ((expected, found), (expected - expected.mean(0), found - found.mean(0))):
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosines.mean() >= 0.99


@pytest.mark.parametrize("format", FORMATS)
def test_the_card_and_the_report_say_int8(files, format):
    made = files[format, "int8"]
    assert open_session(made.path).card.precision == "int8"
    assert made.int8.images == 9
    assert made.int8.held_out == 3
    assert made.int8.held_out_cosine >= 0.999
    assert made.int8.agreement >= 0.9


def test_depthwise_convolutions_and_attention_stay_in_fp32(files):
    model = onnx.load(files["onnx", "int8"].path)
    made_by, constants = producers(model), {one.name for one in model.graph.initializer}
    rounded = set()
    for node in model.graph.node:
        weight = made_by.get(node.input[1]) if len(node.input) > 1 else None
        if weight is not None and weight.op_type == "DequantizeLinear" and weight.input[0] in constants:
            rounded.add(node.name)
            assert node.op_type in ("Conv", "Gemm")
            assert group(node) == 1
        if node.op_type == "MatMul":  # attention's
            assert all(made_by[name].op_type != "DequantizeLinear" for name in node.input if name in made_by)
    assert len(rounded) == files["onnx", "int8"].int8.in_int8 >= 20
    depthwise = [node for node in model.graph.node if node.op_type == "Conv" and group(node) > 1]
    assert len(depthwise) == 4
    assert all(node.input[1] in constants for node in depthwise)


def test_onnx_runtime_multiplies_the_chosen_products_as_integers(files, tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 4
    path = files["onnx", "int8"].path
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") + kinds.count("QGemm") == files["onnx", "int8"].int8.in_int8


def test_openvino_multiplies_the_chosen_products_as_integers(files):
    """And all else in fp32, where its own choice on some processors is bfloat16."""
    compiled = open_session(files["openvino", "int8"].path)._runtime._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = [
        (one["layerType"].astype(str), one["runtimePrecision"].astype(str)) for one in layers if "layerType" in one
    ]
    integers = [
        kind for kind, precision in kinds if precision in ("u8", "i8") and kind in ("Convolution", "FullyConnected")
    ]
    assert len(integers) == files["openvino", "int8"].int8.in_int8


@pytest.mark.parametrize("format", FORMATS)
def test_a_weight_in_int8_takes_a_quarter_of_its_bytes(files, format):
    exact, int8 = files["onnx", "fp32"], files[format, "int8"]
    products = products_of(onnx.load(exact.path))
    weights = sum(one.weight.size for one in products) * int8.int8.weights
    assert bytes_of_weights(exact.path) - bytes_of_weights(int8.path) == pytest.approx(3 * weights, rel=0.1)


def test_pairs_of_the_largest_products_fit_16_bits(files):
    """Where there is no VNNI, x86 processors add pairs of products in int16, with saturation."""
    model = onnx.load(files["onnx", "int8"].path)
    weights = [numpy_helper.to_array(one) for one in model.graph.initializer if one.name.endswith("_weight_int8")]
    assert max(np.abs(weight.astype(int)).max() for weight in weights) * 255 * 2 <= 2**15 - 1


# one product


def one_product(kind, weight, bias):
    """An ONNX model of one node with a weight (C_out, C_in)."""
    inputs, outputs = weight.shape[1], weight.shape[0]
    stored = {"Conv": weight[:, :, None, None], "Gemm": weight, "MatMul": weight.T}[kind]
    shapes = ([1, inputs, 8, 8], [1, outputs, 8, 8]) if kind == "Conv" else ([64, inputs], [64, outputs])
    names = ["images", "weight"] + ([] if bias is None else ["bias"])
    node = helper.make_node(kind, names, ["y"], name="product", **({"transB": 1} if kind == "Gemm" else {}))
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(np.ascontiguousarray(stored), "weight")]
        + ([] if bias is None else [numpy_helper.from_array(bias, "bias")]),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run_model(model, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("outputs", [True, False])
@pytest.mark.parametrize(("kind", "biased"), [("Conv", True), ("Conv", False), ("Gemm", True), ("MatMul", False)])
def test_a_product_in_int8_differs_by_the_error_that_calibration_says(kind, biased, outputs):
    """A row of tiny weights has tiny steps, of which a bias must not be more than 32 bits hold."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(40, 32)).astype(np.float32)
    weight[3] *= 1e-9
    bias = rng.normal(size=40).astype(np.float32) * 5 if biased else None
    x = rng.normal(size=(1, 32, 8, 8) if kind == "Conv" else (64, 32)).astype(np.float32) + 1
    model = one_product(kind, weight, bias)
    products = products_of(model)
    found = calibrate(model, products, [x], outputs)
    y = run_model(Rewriting(model, products, found, outputs).model({"product"}), x)
    rows = np.moveaxis(x, 1, -1).reshape(-1, 32) if kind == "Conv" else x
    exact = rows.astype(np.float64) @ weight.T.astype(np.float64) + (0 if bias is None else bias)
    y = np.moveaxis(y, 1, -1).reshape(exact.shape) if kind == "Conv" else y
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact - exact.mean(0))
    assert 0.001 < error < 0.05
    assert error == pytest.approx(found.errors["product"], rel=0.25)


def test_a_product_whose_inputs_are_too_uneven_stays_in_floating_point():
    """Inputs of which few are a thousand times larger than the others: 255 steps of them are nothing of the others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 32)).astype(np.float32)
    uneven = x.copy()
    uneven[:, 0] *= 1000
    weight = rng.normal(size=(32, 32)).astype(np.float32)
    weight[:, 0] = 0
    model = one_product("MatMul", weight, None)
    products = products_of(model)
    for images, expected in ((x, ["product"]), (uneven, [])):
        found = calibrate(model, products, [images], outputs=False)
        assert selection.candidates(products, found) == expected


def test_products_of_few_channels_stay_in_floating_point():
    products = products_of(one_product("MatMul", np.ones((31, 64), np.float32), None))
    assert selection.candidates(products, Calibrated({}, {"product": 0.0})) == []


@pytest.mark.parametrize("most", range(8))
def test_as_many_products_run_in_int8_as_leave_the_outputs_as_they_were(most):
    names, tried = list("abcdefg"), []

    def cosine(chosen):
        tried.append(len(chosen))
        return selection.COSINE if len(chosen) <= most else selection.COSINE - 1e-6

    assert selection.largest(names, cosine) == names[:most]
    assert tried[0] == 7
    assert len(tried) <= 4


def test_rounding_is_that_of_nearest_multiples_with_zero_among_them():
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)):
        x = np.linspace(low, high, 1000, dtype=np.float32)
        numbers_ = numbers.Affine.of(low, high)
        assert np.abs(numbers_.rounded(x) - x).max() <= numbers_.scale * 1.001
        assert numbers_.rounded(np.zeros(1, np.float32)) == 0


# errors


def options(tmp_path, **changes):
    given = ExportOptions(model="transnext_atto", pretrained=False, size=(64,), precision="int8", out=tmp_path / "net")
    return replace(given, **changes)


def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def without_images(tmp_path):
    folder = empty(tmp_path)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (lambda folder: {}, "pass --calibration FOLDER"),
        (lambda folder: {"calibration": folder / "none"}, "is not a folder"),
        (lambda folder: {"calibration": empty(folder)}, "has no images"),
        (lambda folder: {"calibration": without_images(folder)}, "has no images"),
        (lambda folder: {"calibration": folder, "calibration_images": 0}, "must be at least 4, not 0"),
        (lambda folder: {"calibration": folder, "precision": "fp32"}, "is for int8"),
        (lambda folder: {"calibration": folder, "format": "torch"}, "have no int8 here"),
        (lambda folder: {"calibration": folder, "format": "onnx,aoti"}, "have no int8 here"),
    ],
)
def test_errors_are_one_sentence_before_anything_is_computed(tmp_path, monkeypatch, changes, sentence):
    monkeypatch.setattr(
        "foveal.cli.export.described_by_timm", lambda *args, **kwargs: pytest.fail("a network was made")
    )
    with pytest.raises((UsageError, FovealError), match=sentence) as caught:
        main(options(tmp_path, **changes(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_broken_calibration_image_is_named_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        Path(tmp_path, "images", f"broken{number}.png").write_bytes(b"no image")
    with pytest.raises(FovealError, match=r"broken0\.png"):
        main(options(tmp_path, calibration=tmp_path / "images"))
    assert [one.name for one in tmp_path.iterdir()] == ["images"]


def test_a_file_that_is_not_accurate_is_not_kept(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(write, "SMALLEST_COSINE", 1.1)
    images = Calibration.draw(walk_images(digits / "train").images, 4)
    with pytest.raises(FovealError, match="the file was not kept"):
        export(network(), tmp_path / "a.onnx", "onnx", precision="int8", calibration=images)
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_four_images(digits):
    paths = walk_images(digits / "train").images
    for few in (0, 3):
        with pytest.raises(FovealError, match=f"int8 needs at least 4 images, .* not {few}: pass more"):
            Calibration.draw(paths, few)
    with pytest.raises(FovealError, match="not 2: pass more"):
        Calibration.draw(paths[:2], 128)


def test_images_are_drawn_evenly_and_every_fourth_is_held_out(digits):
    paths = walk_images(digits / "train").images
    drawn = Calibration.draw(paths, 8)
    assert drawn.paths == tuple(paths[i * len(paths) // 8] for i in range(8))
    seen, held_out = drawn.load(CARD)
    inputs = np.concatenate(list(held_out))
    assert [len(seen), len(held_out)] == [6, 2]
    for found, path in zip(inputs, (drawn.paths[3], drawn.paths[7]), strict=True):
        assert np.array_equal(found, preprocess(load_rgb(path), CARD))
