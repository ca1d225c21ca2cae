"""`foveal.quantize`: the optimised network with its products in int8, by the rules that it states."""

import copy
import math
import pickle
import re
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import foveal
from foveal.models.folded.parts import Layer
from foveal.models.quantized import calibration, layers_of
from foveal.models.quantized.layer import QuantizedLayer, affine, quantize_weight
from foveal.models.quantized.report import FEWEST_CHANNELS
from foveal.ops.int8 import product
from support.nets import atto, image, lively, shrunk

pytestmark = pytest.mark.filterwarnings("ignore:this processor has no VNNI")
FAMILIES = ("transnext", "transxnet")
every_family = pytest.mark.parametrize("family", FAMILIES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def quantize(net, images=None, dtype=torch.float32, **options):
    images = image(64, 64, batch=4) if images is None else images
    return foveal.quantize(net, images, dtype, memory=False, **options)


def quantized_layers(net) -> dict[str, QuantizedLayer]:
    return {name: module for name, module in net.named_modules() if isinstance(module, QuantizedLayer)}


def calm(**options) -> nn.Module:
    """A TransNeXt with its initial weights, which does not amplify small changes."""
    torch.manual_seed(0)
    return shrunk("transnext_atto", num_classes=10, **options).eval()


def cosine(a, b) -> float:
    return F.cosine_similarity(a.float().flatten(1), b.float().flatten(1)).mean().item()


@pytest.mark.parametrize("name", ["transnext_tiny", "transxnet_s"])
@every_dtype
@torch.no_grad()
def test_outputs_on_other_images_stay_close_to_those_of_the_network(name, dtype):
    torch.manual_seed(0)
    net = shrunk(name, num_classes=10).eval()
    if name.startswith("transxnet"):  # its branches are scaled by 1e-5 at first
        lively(net)
    quantized = quantize(net, dtype=dtype)
    assert quantized.quantization.share > 0.9
    x = image(64, 96, batch=4, seed=2)
    assert quantized(x).dtype is dtype
    assert cosine(quantized(x), net(x)) >= 0.999


@torch.no_grad()
def test_layers_that_change_the_outputs_most_stay_until_the_cosine_is_reached():
    """This network amplifies small changes: with all layers in int8 its outputs have a cosine of 0.99."""
    net, x = atto(), image(64, 64, batch=8)
    before = quantize(net, x, cosine=0.0).quantization
    assert before.cosine < 0.995
    for goal in (0.998, 0.9995):
        result = quantize(net, x, cosine=goal)
        report = result.quantization
        assert cosine(result(x), net(x)) == pytest.approx(report.cosine, abs=1e-5)
        assert report.cosine >= goal
        assert 0 < report.in_int8 < before.in_int8
        assert "cosine" in {layer.kept for layer in report.layers}
        before = report
    assert quantize(net, x, cosine=1.1).quantization.in_int8 == 0


@every_family
@torch.no_grad()
def test_a_layer_computes_its_integers(family):
    """Every layer by hand: inputs to levels, integer sums in float64, scales and bias."""
    net = quantize(atto(family), tolerance=math.inf, cosine=0)
    layers = quantized_layers(net)
    assert layers
    for layer in layers.values():
        x, other = torch.randn(2, 5, layer.weight.shape[1]), torch.randn(2, 5, layer.weight.shape[0])
        wide = x.double()
        if layer.norm is not None:
            wide = F.layer_norm(wide, wide.shape[-1:], layer.norm.weight.double(), layer.norm.bias.double(), 1e-6)
        levels = (wide / layer.input_scale.double()).round() + layer.input_zero_point
        integers = levels.clamp(0, 255) - layer.input_zero_point
        scale = layer.input_scale.double() * layer.weight_scale.double()
        expected = integers @ layer.weight.double().T * scale + layer.bias.double()
        # A tie between two levels may fall either way: one step of one input.
        step = scale.max() * layer.weight.double().abs().max()
        for found, right in (
            (layer(x), expected),
            (layer(x, gelu=True), F.gelu(expected)),
            (layer(x, add=other), expected + other.double()),
        ):
            assert (found - right).abs().max() <= step + 1e-5 * expected.abs().max()


def test_weights_are_symmetric_with_a_scale_per_output():
    weight = torch.tensor([[31.75, -15.875, 0.0], [0.0, 0.0, 0.0], [-254.0, 0.9, 125.0]])
    integers, scale = quantize_weight(weight)
    assert integers.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 0, 62]]  # ties go to even numbers
    assert scale.tolist() == [0.25, 1.0, 2.0]


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [(-1.0, 1.55, 0.01, 100), (0.5, 2.55, 0.01, 0), (-2.55, -1.0, 0.01, 255), (0.0, 0.0, 1.0, 0)],
)
def test_a_range_becomes_a_scale_and_a_zero_point(low, high, scale, zero_point):
    found = affine(low, high)
    assert found == (pytest.approx(scale), zero_point)


@torch.no_grad()
def test_ranges_are_those_of_the_images(monkeypatch):
    """One layer by hand: smallest and largest input over all batches, and the whole range if only it is tried."""
    monkeypatch.setattr(calibration, "SHARES", (1.0,))
    net, batches = atto(), [image(64, 64, seed=1), 3 * image(64, 64, seed=2)]
    folded = foveal.optimize(net, memory=False)
    inputs = {}
    for name, layer in layers_of(folded).items():
        see = lambda layer, args, name=name: inputs.setdefault(name, []).append(layer.normalised(args[0]))  # noqa: E731
        layer.register_forward_pre_hook(see)
    for batch in batches:
        folded(batch)
    layers = quantized_layers(quantize(net, batches, tolerance=math.inf, cosine=0))
    assert layers
    for name, layer in layers.items():
        low = min(0.0, *(x.min().item() for x in inputs[name]))
        high = max(0.0, *(x.max().item() for x in inputs[name]))
        assert layer.input_scale.item() == pytest.approx((high - low) / 255)
        assert layer.input_zero_point.item() == round(-low / ((high - low) / 255))


@torch.no_grad()
def test_a_rare_large_input_is_clamped_if_that_is_more_accurate():
    """Of 512 x 64 inputs one is large. An identity passes on the rounding of every input, computed here in float64."""
    layer = Layer(torch.eye(64), torch.full((64,), 3.0), torch.float32)
    for largest, clamped in ((6.0, True), (1000.0, False)):
        x = torch.randn(512, 64)
        x[0, 0] = largest
        errors = []
        for share in calibration.SHARES:
            scale, zero_point = affine(share * x.min().item(), share * x.max().item())
            levels = ((x.double() / scale).round() + zero_point).clamp(0, 255)
            error = (levels - zero_point) * scale - x
            errors.append((error.norm() / (x - x.mean(0)).norm()).item())
        seen = calibration.Calibration()
        seen.see_range(x)
        seen.see_errors(x, layer, calibration.dequantized(layer.weight))
        assert seen.error == pytest.approx(min(errors), rel=1e-3)
        assert (seen.range != (seen.low, seen.high)) is clamped is (min(errors) < errors[0])


@every_family
@torch.no_grad()
def test_layers_above_the_tolerance_stay_in_floating_point(family):
    """The errors that decide are measured again here: every layer's outputs, in int8 and in float."""
    net, x = atto(family), image(64, 64, batch=1)  # fewer rows than are sampled, so that all count
    folded = foveal.optimize(net, memory=False)
    all_int8 = quantized_layers(quantize(net, x, tolerance=math.inf, cosine=0))
    errors = {}

    def see(layer, args, name):
        y = F.linear(layer.normalised(args[0]), layer.weight, layer.bias).flatten(0, -2)
        error = all_int8[name](args[0]).flatten(0, -2) - y
        errors[name] = (error.norm() / (y - y.mean(0)).norm()).item()

    for name, layer in layers_of(folded).items():
        if name in all_int8:
            layer.register_forward_pre_hook(lambda layer, args, name=name: see(layer, args, name))
    folded(x)
    tolerance = sorted(errors.values())[len(errors) // 2] * 1.0001
    result = quantize(net, x, tolerance=tolerance, cosine=0)
    report = {layer.name: layer for layer in result.quantization.layers}
    for name, error in errors.items():
        assert report[name].error == pytest.approx(error, rel=0.02)
    assert {n for n, e in errors.items() if e <= tolerance} == set(quantized_layers(result))
    assert len(quantized_layers(result)) == result.quantization.in_int8 < len(all_int8)


@every_family
def test_small_layers_stay_in_floating_point(family):
    result = quantize(atto(family), tolerance=math.inf, cosine=0)
    for layer in result.quantization.layers:
        assert (layer.kept == "small") is (min(layer.inputs, layer.outputs) < FEWEST_CHANNELS)
        assert (layer.kept is None) is isinstance(result.get_submodule(layer.name), QuantizedLayer)


def test_with_no_tolerance_the_optimised_network_remains():
    net, x = atto(), image(64, 64)
    result = quantize(net, tolerance=0.0)
    with torch.no_grad():
        assert torch.equal(result(x), foveal.optimize(net, memory=False)(x))
    assert {layer.kept for layer in result.quantization.layers} == {"small", "error"}
    storages = [p.untyped_storage().data_ptr() for p in result.parameters()]
    assert len(set(storages)) == len(storages)  # as safetensors wants it


@every_family
@every_dtype
def test_the_report_is_a_table_of_80_columns(family, dtype):
    net = atto(family, features_only=True)
    result = quantize(net, dtype=dtype, tolerance=0.02)
    lines = str(result.quantization).splitlines()
    assert max(map(len, lines)) <= 80
    rest = "bf16" if dtype is torch.bfloat16 else "fp32"
    rows = lines[2 : 2 + len(result.quantization.layers)]
    for layer, row in zip(result.quantization.layers, rows, strict=True):
        assert row.startswith(layer.name[:20])
        assert f" {layer.inputs} > {layer.outputs} " in row
        assert row.endswith("int8" if layer.kept is None else f" {rest}: {layer.kept}")
    assert f"{result.quantization.in_int8} of {len(rows)} products" in lines[0]
    assert "above 2.00%" in str(result.quantization)


@torch.no_grad()
def test_the_report_counts_multiply_adds_and_the_cosine():
    net, x = atto(), image(64, 96, batch=3)
    result = quantize(net, [x[:2], x[2:]])
    layers = {layer.name: layer for layer in result.quantization.layers}
    first = layers["stages.0.blocks.0.mlp.fc1"]
    assert first.macs == 16 * 24 * first.inputs * first.outputs
    assert result.quantization.images == 3
    assert result.quantization.cosine == pytest.approx(cosine(result(x), net(x)), abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, dict(pool_size=1), dict(position_bias="interpolate"), dict(token_mixers="AAAA", sr_ratios=(16, 8, 4, 2))],
    ids=str,
)
@torch.no_grad()
def test_modes_and_sizes_work_as_in_an_optimised_network(options):
    net = calm(**options)
    result = quantize(net)
    for size in ((64, 64), (75, 101)):
        assert cosine(result(image(*size)), net(image(*size))) >= 0.999
    net.set_input_size(img_size=96, position_bias="interpolate")
    result.set_input_size(img_size=96, position_bias="interpolate")
    assert cosine(result(image(96, 96)), net(image(96, 96))) >= 0.999


@every_family
@torch.no_grad()
def test_feature_maps_and_timms_contract_are_those_of_the_network(family):
    net, x = atto(family, features_only=True), image(64, 64, batch=4)
    result = quantize(net, x)
    assert result.quantization.in_int8
    for found, expected in zip(result(x), net(x), strict=True):
        assert cosine(found, expected) >= 0.995  # 0.999 on the average of the maps
    net = atto(family)
    result = quantize(net)
    assert torch.equal(result.forward_head(result.forward_features(x)), result(x))
    assert [m.shape for m in result.forward_intermediates(x)[1]] == [m.shape for m in net.forward_intermediates(x)[1]]
    assert isinstance(result, type(net))
    assert type(result).__name__ == type(net).__name__


@every_family
@torch.no_grad()
def test_the_original_network_is_unchanged(family):
    net, x = atto(family), image(64, 64)
    state, expected = copy.deepcopy(net.state_dict()), net(x)
    quantize(net)(x)
    assert torch.equal(net(x), expected)
    assert all(torch.equal(state[name], t) for name, t in net.state_dict().items())


@every_family
@every_dtype
@torch.no_grad()
def test_copies_and_pickles_give_the_same_output(family, dtype):
    result, x = quantize(atto(family), dtype=dtype), image(64, 64)
    expected = result(x)
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert torch.equal(other(x), expected)
        assert str(other.quantization) == str(result.quantization)


@pytest.mark.parametrize("native", [False, True], ids=["float32", "oneDNN"])
@torch.no_grad()
def test_copies_leave_out_onednns_weights_and_see_written_buffers(native, monkeypatch):
    if native and not hasattr(torch.ops.onednn, "qlinear_prepack"):
        pytest.skip("this PyTorch has no int8 products of oneDNN")
    monkeypatch.setattr(product, "runs_in_onednn", lambda dtype: native)
    result, x = quantize(atto(), tolerance=math.inf, cosine=0), image(64, 64)
    expected = result(x)
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert torch.equal(other(x), expected)
        for layer in quantized_layers(other).values():
            layer.weight.zero_()
        assert not torch.equal(other(x), expected)
        other.load_state_dict(result.state_dict())
        assert torch.equal(other(x), expected)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(result)(x), expected)


@every_family
@torch.no_grad()
def test_a_quantized_network_compiles_without_graph_breaks(family):
    result, x = quantize(atto(family)), image(64, 64)
    compiled = torch.compile(result, fullgraph=True, backend="aot_eager")
    assert cosine(compiled(x), result(x)) >= 0.9999


def loader(batches):
    for batch in batches:
        yield batch, torch.zeros(len(batch))


@every_family
@torch.no_grad()
def test_autocast_is_allowed(family):
    net, x = atto(family), image(64, 64)
    result = quantize(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert cosine(result(x), net(x)) >= 0.99


@torch.no_grad()
def test_a_quantized_network_can_be_exported():
    result, x = quantize(calm()), image(64, 64)
    exported = torch.export.export(result, (x,)).module()
    assert cosine(exported(x), result(x)) >= 0.9999


@torch.no_grad()
def test_images_may_come_as_one_batch_or_as_a_loader():
    net, x = atto(), image(64, 64, batch=6)
    expected = quantize(net, [x[:4], x[4:]])(x)
    for images in (
        iter([x[:4], x[4:]]),
        loader([x[:4], x[4:]]),
        [[x[:4], 0], [x[4:], 1]],
        [x[:4].double(), x[4:], x[:0]],
    ):
        assert torch.equal(quantize(net, images)(x), expected)
    assert cosine(quantize(net, x)(x), expected) >= 0.9999


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images to calibrate on"),
        (torch.zeros(0, 3, 64, 64), "no images to calibrate on"),
        ([torch.zeros(0, 3, 64, 64)], "no images to calibrate on"),
        (torch.zeros(3, 64, 64), r"\(B, C, H, W\) or an iterable of batches, got a tensor \(3, 64, 64\)"),
        ([torch.zeros(3, 64, 64)], r"must be a tensor \(B, C, H, W\), got a tensor \(3, 64, 64\)"),
        (["a.jpg"], r"must be a tensor \(B, C, H, W\), got a str"),
        (None, "an iterable of batches, got a NoneType"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "must be floating-point, .* got torch.uint8"),
        (torch.full((1, 3, 64, 64), math.nan), "hold NaN or infinity"),
        ([torch.full((1, 3, 64, 64), math.inf)], "hold NaN or infinity"),
        (torch.zeros(1, 4, 64, 64), r"expected images of shape \(batch, 3, height, width\)"),
        (torch.zeros(1, 3, 16, 64), "32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_that_cannot_calibrate_are_rejected(images, message):
    with pytest.raises(ValueError, match=message):
        foveal.quantize(atto(), images)


def test_networks_that_cannot_be_quantized_are_rejected():
    x = image(64, 64)
    with pytest.raises(ValueError, match=r"call net.eval\(\) first"):
        quantize(atto().train(), x)
    with pytest.raises(ValueError, match="is quantized already"):
        quantize(quantize(atto(), x), x)
    with pytest.raises(ValueError, match="optimized already: pass the network that it was made from"):
        quantize(foveal.optimize(atto(), memory=False), x)
    with pytest.raises(ValueError, match="no block of TransNeXt or TransXNet"):
        quantize(timm.create_model("resnet18").eval(), x)
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.bfloat16, got torch.float16"):
        quantize(atto(), x, torch.float16)
    with pytest.raises(ValueError, match=r"for CPUs: call net.cpu\(\)"):
        quantize(atto().to("meta"), x)
    broken = atto()
    nn.init.constant_(broken.stages[0].blocks[0].mlp.fc1.bias, math.nan)
    with pytest.raises(ValueError, match="activations on these images are not finite"):
        quantize(broken, x)


def test_training_is_rejected():
    result = quantize(atto())
    with pytest.raises(ValueError, match="cannot be trained"):
        result.train()
    with pytest.raises(ValueError, match="optimized already"):
        foveal.optimize(result)


@every_family
@every_dtype
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@torch.no_grad()
def test_a_saved_network_is_restored_bit_for_bit(family, dtype, ending, tmp_path):
    net, x = atto(family), image(64, 96)
    result = quantize(net, dtype=dtype)
    path = tmp_path / f"net{ending}"
    if ending == ".pt":
        torch.save(result.state_dict(), path)
        assert torch.load(path, weights_only=True).keys() == result.state_dict().keys()
    else:
        from safetensors.torch import save_file

        save_file({name: t.contiguous() for name, t in result.state_dict().items()}, path)
    torch.manual_seed(1)
    fresh = shrunk(f"{family}_atto", num_classes=10).eval()
    restored = foveal.load_quantized(fresh, path)
    assert torch.equal(restored(x), result(x))
    assert restored(x).dtype is dtype
    assert quantized_layers(restored).keys() == quantized_layers(result).keys()


@torch.no_grad()
def test_a_saved_network_can_be_restored_in_another_dtype(tmp_path):
    result, x = quantize(calm(), dtype=torch.bfloat16), image(64, 64)
    torch.save(result.state_dict(), tmp_path / "net.pt")
    restored = foveal.load_quantized(calm(), tmp_path / "net.pt", torch.float32)
    assert restored(x).dtype is torch.float32
    assert cosine(restored(x), result(x)) >= 0.999


def test_files_that_do_not_fit_are_rejected_in_one_sentence(tmp_path):
    result = quantize(atto())
    torch.save(result.state_dict(), tmp_path / "net.pt")
    torch.save(atto().state_dict(), tmp_path / "float.pt")
    for path, net, message in (
        ("none.pt", atto(), "none.pt does not exist; pass the path"),
        ("float.pt", atto(), "float.pt holds no int8 weights; pass a state dict of foveal.quantize"),
        ("net.pt", atto("transxnet"), "net.pt does not fit this TransXNet: .* missing"),
        ("net.pt", atto(num_classes=7), "net.pt does not fit this TransNeXt: .*head.fc"),
    ):
        with pytest.raises(foveal.FovealError, match=message) as error:
            foveal.load_quantized(net, tmp_path / path)
        assert "\n" not in str(error.value)
    with pytest.raises(foveal.FovealError, match=r"network of foveal\.quantize; load it with foveal\.load_quantized"):
        foveal.load_checkpoint(atto(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"call net.eval\(\) first"):
        foveal.load_quantized(atto().train(), tmp_path / "net.pt")


@pytest.mark.filterwarnings("default")
def test_a_processor_without_vnni_is_named_once(monkeypatch):
    net, x = atto(), image(64, 64)
    for reason, count in (("this processor has no VNNI instructions", 1), (None, 0)):
        monkeypatch.setattr("foveal.models.quantized.why_slow", lambda reason=reason: reason)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            foveal.quantize(net, x, memory=False)
        found = [str(one.message) for one in caught]
        assert len(found) == count, found
        if reason:
            assert re.match(f"{reason}, so int8 is not faster here", found[0])
            assert caught[0].filename == __file__
