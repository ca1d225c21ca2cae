"""Properties of all operators: the papers' formulas, derivatives, bounded rounding errors, clear error messages."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import foveal.ops
from foveal.ops import use_backend
from foveal.ops.backend import find_operator
from support import loops
from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call, all_calls, small_calls


def ids(call: Call) -> str:
    return call.id


every_operator = pytest.mark.parametrize("operator", OPERATORS)
every_small_call = pytest.mark.parametrize("call", small_calls(), ids=ids)
HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}
FLOATS = {torch.float32: "fp32", **HALF}


def gate_of_layers(g, v, weight, bias):
    """GELU(DWConv(g)) * v with PyTorch layers."""
    y = F.conv2d(g.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    return F.gelu(y).permute(0, 2, 3, 1) * v


def convolution_by_sample(x, weight, bias):
    """One PyTorch convolution per sample."""
    maps = [
        F.conv2d(image, kernel[:, None], b, padding=kernel.shape[-1] // 2, groups=len(kernel))
        for image, kernel, b in zip(x.permute(0, 3, 1, 2), weight, bias, strict=True)
    ]
    return torch.stack(maps).permute(0, 2, 3, 1)


def convolution_by_group(x, weights, biases):
    """One PyTorch convolution per group of channels."""
    parts = x.permute(0, 3, 1, 2).split([len(w) for w in weights], 1)
    maps = [
        F.conv2d(part, w, b, padding=w.shape[-1] // 2, groups=len(w))
        for part, w, b in zip(parts, weights, biases, strict=True)
    ]
    return torch.cat(maps, 1).permute(0, 2, 3, 1)


AUTOCAST_LAYERS = {
    "gated_dwconv": gate_of_layers,
    "dynamic_dwconv": convolution_by_sample,
    "multiscale_dwconv": convolution_by_group,
}


def registered_arguments(call: Call, dtype: torch.dtype) -> list:
    """Arguments of the registered operator, without the name of the implementation."""
    arguments = call.arguments(call.tensors(dtype))
    normalised = find_operator(call.operator).normalise(**arguments)
    # The registered operator has no dropout (reference only); table and entry belong to other operators.
    normalised = normalised[: {"aggregated_attention": -2, "multiscale_dwconv": -1}.get(call.operator)]
    return [a.detach().requires_grad_() if isinstance(a, torch.Tensor) else a for a in normalised]


def test_uninitialised_memory_is_nan_in_operator_tests():
    assert torch.empty(3).isnan().all()


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("size", [(3, 4), (1, 1), (1, 3)], ids=str)
@every_operator
def test_the_result_equals_a_loop_over_scalars(operator, size, window, backend):
    call = Call(operator, batch=2, height=size[0], width=size[1], heads=2, dim=3, pool=(1, 2), window=window)
    tensors = call.tensors()
    arrays = {name: t.numpy() for name, t in tensors.items()}
    expected = torch.from_numpy(getattr(loops, operator)(**call.arguments(arrays)))
    assert_same(call.run(tensors, backend), expected, call.reduction)


@pytest.mark.parametrize("call", all_calls(), ids=ids)
def test_output_and_gradients_equal_the_reference_in_double_precision(call):
    tensors = call.tensors()
    actual = call.run_with_gradients(tensors, "torch")
    expected = call.run_with_gradients(tensors, "reference")
    for name, value in expected.items():
        # Values are of order 1; with a head dimension of 1 the gradients of q and k cancel to 0.
        assert_same(actual[name], value, call.reduction, name, floor=1.0)


@every_small_call
def test_gradients_equal_numerical_derivatives(call):
    names, leaves = zip(*((n, t.requires_grad_()) for n, t in call.tensors().items()), strict=True)
    assert torch.autograd.gradcheck(lambda *args: call.run(dict(zip(names, args, strict=True)), "torch"), leaves)


@pytest.mark.parametrize("window", [1, 5])
@every_operator
def test_gradients_at_borders_and_of_strided_inputs_equal_numerical_derivatives(operator, window):
    call = Call(operator, batch=1, height=1, width=3, heads=1, dim=2, pool=(1, 1), window=window, strided=2)
    names, leaves = zip(*((n, t.requires_grad_()) for n, t in call.tensors().items()), strict=True)
    assert torch.autograd.gradcheck(lambda *args: call.run(dict(zip(names, args, strict=True)), "torch"), leaves)


@pytest.mark.parametrize("needed", ["q", "k_pool", "scale", "tokens"])
def test_a_single_argument_may_require_a_gradient(needed):
    call = Call("aggregated_attention")
    tensors = call.tensors()
    everything = call.run_with_gradients(tensors, "torch")
    tensors[needed].requires_grad_()
    call.run(tensors, "torch").square().sum().backward()
    assert tensors[needed].grad.shape == everything[needed].shape
    assert all(t.grad is None for name, t in tensors.items() if name != needed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["fp64", "bf16"])
@every_operator
def test_the_registration_passes_opcheck(operator, dtype):
    call = Call(operator, batch=1, height=3, width=2, heads=2, dim=2, pool=(1, 2), strided=2)
    backend = "torch" if dtype is torch.float64 else "cpu"
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if dtype is torch.float64:  # compares traced and eager results with the tolerance of the dtype
        checks.append("test_aot_dispatch_dynamic")
    arguments = (*registered_arguments(call, dtype), backend)
    torch.library.opcheck(getattr(torch.ops.foveal, operator).default, arguments, test_utils=checks)


@pytest.mark.parametrize("dtype", FLOATS, ids=FLOATS.values())
@pytest.mark.parametrize("strided", [0, 1, 2], ids=["contiguous", "sliced", "strided"])
@pytest.mark.parametrize("size", [(5, 7, 3), (8, 8, 5), (1, 2, 7)], ids=lambda s: f"{s[0]}x{s[1]}, window {s[2]}")
@every_operator
def test_rounding_of_output_and_gradients_is_within_the_error_budget(operator, size, strided, dtype):
    height, width, window = size
    call = Call(operator, height=height, width=width, window=window, dim=24, pool=(1, 2), strided=strided)
    tensors = call.tensors(dtype)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    actual = call.run_with_gradients(tensors)
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name)


@pytest.mark.parametrize("spread", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", HALF, ids=HALF.values())
@every_operator
def test_small_and_large_values_are_within_the_error_budget(operator, dtype, spread):
    call = Call(operator, dim=24)
    tensors = call.tensors(dtype)
    first = next(iter(tensors))
    tensors[first] = tensors[first] * spread
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    assert_within_budget(call.run(tensors), call.run(tensors, "reference"), exact, call.reduction)


def test_zero_vectors_have_finite_output_and_gradients():
    call = Call("aggregated_attention")
    tensors = call.tensors(torch.float32)
    tensors["q"][0, 0, 0] = tensors["k"][0, 1, 1] = tensors["k_pool"][1, 0, 0] = 0
    assert all(value.isfinite().all() for value in call.run_with_gradients(tensors).values())


@pytest.mark.parametrize("activations", HALF, ids=HALF.values())
@every_operator
def test_half_activations_meet_float32_parameters(operator, activations):
    """As under autocast: at least as accurate as PyTorch's layers, with attention computed in float32."""
    call = Call(operator, dim=24)
    tensors = call.tensors(activations, parameters=torch.float32)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    with torch.autocast("cpu", activations):
        actual = call.run_with_gradients(tensors)
        plain = call.run_with_gradients(tensors, "reference", AUTOCAST_LAYERS.get(operator))
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name)


@every_operator
def test_autocast_does_not_lower_internal_precision(operator):
    """With all arguments in float32, an internal product computed in bf16 would change the result."""
    call = Call(operator, dim=24)
    tensors = call.tensors(torch.float32)
    expected = call.run_with_gradients(tensors)
    with torch.autocast("cpu", torch.bfloat16):
        actual = call.run_with_gradients(tensors)
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


@every_small_call
def test_second_derivatives_raise_an_error_that_names_the_reference_backend(call):
    leaves = {name: t.requires_grad_() for name, t in call.tensors().items()}
    first = torch.autograd.grad(call.run(leaves, "torch").square().sum(), list(leaves.values()), create_graph=True)
    with pytest.raises(NotImplementedError, match=rf"foveal.ops.{call.operator} .*use_backend\(\"reference\"\)"):
        first[0].sum().backward()


@every_small_call
def test_the_reference_supports_second_derivatives(call):
    call = replace(call, batch=1, height=2, width=2, heads=1, window=1)
    names, leaves = zip(*((n, t.requires_grad_()) for n, t in call.tensors().items()), strict=True)
    assert torch.autograd.gradgradcheck(
        lambda *args: call.run(dict(zip(names, args, strict=True)), "reference"), leaves
    )


@every_operator
def test_samples_are_independent(operator):
    call = Call(operator, batch=6)
    tensors = call.tensors()
    both = call.run(tensors)
    for b in range(6):
        one = {name: t[b : b + 1] if t.shape[0] == 6 else t for name, t in tensors.items()}
        assert_same(call.run(one), both[b : b + 1], call.reduction)


@every_operator
def test_arguments_are_not_modified(operator):
    call = Call(operator)
    tensors = call.tensors()
    before = {name: t.clone() for name, t in tensors.items()}
    call.run_with_gradients(tensors)
    assert all(torch.equal(tensors[name], value) for name, value in before.items())


@every_operator
def test_profilers_and_dispatch_modes_see_the_operator(operator):
    """Without them a call that needs no gradient goes to the kernels directly."""
    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.add(str(function))
            return function(*args, **(kwargs or {}))

    call = Call(operator)
    tensors = call.tensors()
    with torch.no_grad():
        alone = call.run(tensors)
        with Watch():
            watched = call.run(tensors)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            profiled = call.run(tensors)
    assert torch.equal(watched, alone)
    assert torch.equal(profiled, alone)
    assert any(name.startswith("foveal.") for name in seen)
    assert any(row.key.startswith("foveal::") for row in profile.key_averages())


@every_operator
def test_the_meta_device_is_supported(operator):
    call = Call(operator)
    real = call.run_with_gradients(call.tensors())
    meta = call.run_with_gradients({name: t.to("meta") for name, t in call.tensors().items()})
    assert {n: (t.shape, t.dtype) for n, t in meta.items()} == {n: (t.shape, t.dtype) for n, t in real.items()}
    assert all(t.is_meta for t in meta.values())


@every_operator
def test_compiles_without_graph_breaks_for_dynamic_sizes(operator):
    call = Call(operator)
    with use_backend("torch"):
        compiled = torch.compile(
            lambda tensors: call.run(tensors, "torch"), fullgraph=True, backend="aot_eager", dynamic=True
        )
        for height, width in ((5, 7), (8, 3)):
            sized = replace(call, height=height, width=width)
            assert_same(compiled(sized.tensors()), sized.run(sized.tensors(), "torch"), call.reduction)


@pytest.mark.parametrize(
    ("operator", "wrong", "shape"),
    [
        *(("aggregated_attention", name, (2, 5, 7, 2, 4)) for name in ("k", "v")),
        *(("aggregated_attention", name, (1, 2, 3, 2, 5)) for name in ("k_pool", "v_pool")),
        ("aggregated_attention", "q", (2, 35, 10)),
        ("aggregated_attention", "scale", (3,)),
        ("aggregated_attention", "query_embedding", (2, 4)),
        ("aggregated_attention", "local_bias", (2, 25)),
        ("aggregated_attention", "pool_bias", (2, 35, 5)),
        ("aggregated_attention", "tokens", (2, 9, 5)),
        ("aggregated_attention", "token_bias", (2, 1, 9)),
        ("gated_dwconv", "g", (2, 5, 10)),
        ("gated_dwconv", "v", (2, 5, 7, 9)),
        ("gated_dwconv", "weight", (10, 10, 3, 3)),
        ("gated_dwconv", "weight", (10, 1, 2, 2)),
        ("gated_dwconv", "weight", (10, 1, 3, 5)),
        ("gated_dwconv", "weight", ()),
        ("gated_dwconv", "bias", (9,)),
        ("dynamic_dwconv", "x", (2, 5, 10)),
        ("dynamic_dwconv", "weight", (10, 1, 3, 3)),
        ("dynamic_dwconv", "weight", (2, 10, 4, 4)),
        ("dynamic_dwconv", "weight", ()),
        ("dynamic_dwconv", "bias", (10,)),
        ("multiscale_dwconv", "x", (2, 5, 10)),
        ("multiscale_dwconv", "weights.0", (4, 1, 2, 2)),
        ("multiscale_dwconv", "weights.1", (3, 3, 1, 1)),
        ("multiscale_dwconv", "weights.2", (2, 1, 5, 5)),
        ("multiscale_dwconv", "weights.2", (0, 1, 5, 5)),
        ("multiscale_dwconv", "weights.2", ()),
        ("multiscale_dwconv", "biases.1", (4,)),
    ],
)
def test_a_wrong_shape_is_named_in_the_error(operator, wrong, shape):
    call = Call(operator)
    tensors = {**call.tensors(), wrong: torch.zeros(shape, dtype=torch.float64)}
    wrong = wrong.partition(".")[0]
    with pytest.raises(ValueError, match=rf"^{wrong}\b|\b{wrong}\b.* must") as error:
        call.run(tensors)
    assert str(error.value).count("\n") == 0


def changed_one_by_one(call: Call, change) -> list[dict]:
    """Copies of the call's tensors with one argument changed in each; lists of tensors are changed as a unit."""
    tensors = call.tensors(torch.float32)
    stems = {name.partition(".")[0] for name in tensors}
    return [{n: change(t) if n.partition(".")[0] == stem else t for n, t in tensors.items()} for stem in stems]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
@every_operator
def test_non_floating_point_tensors_are_rejected(operator, dtype):
    call = Call(operator)
    for tensors in changed_one_by_one(call, lambda t: t.to(dtype)):
        for ask in (call.run, lambda tensors: foveal.ops.explain(operator, **call.arguments(tensors))):
            with pytest.raises(ValueError, match=rf"^{operator} takes floating-point tensors, got one of {dtype}$"):
                ask(tensors)


@every_operator
def test_tensors_on_two_devices_are_rejected(operator):
    """PyTorch would otherwise treat all tensors as "meta" and return uninitialised memory."""
    call = Call(operator)
    for tensors in changed_one_by_one(call, lambda t: t.to("meta")):
        with pytest.raises(ValueError, match=rf"^{operator} takes tensors on one device, got some on \w+ and some on"):
            call.run(tensors)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(weights=[]), "weights must hold at least one group of channels, got none"),
        (dict(weights=torch.zeros(6, 1, 3, 3)), r"weights must be a list of .* got a single Tensor"),
        (dict(weights=[torch.zeros(6, 1, 3, 3), None]), r"weights must be a list of .* got Tensor, NoneType"),
        (dict(biases=torch.zeros(6)), r"biases must be a list of .* got a single Tensor"),
        (dict(biases=[]), r"biases must have shapes \(6,\), got none"),
        (dict(entry=torch.zeros(6)), "entry must be a list of two .* a scale and a shift, got a single Tensor"),
        (dict(entry=torch.zeros(2, 6)), "entry must be a list of two .* a scale and a shift, got a single Tensor"),
        (dict(entry=3), "entry must be a list of two .* a scale and a shift, got a single int"),
        (
            dict(entry=(torch.zeros(6), None)),
            "entry must be a list of two .* a scale and a shift, got Tensor, NoneType",
        ),
        (dict(entry=(torch.zeros(6),)), r"entry must be a scale and a shift of shapes \(6,\), \(6,\), got \(6,\)"),
    ],
    ids=str,
)
def test_arguments_that_must_be_lists_of_tensors_are_named_in_the_error(wrong, sentence):
    arguments = dict(x=torch.zeros(1, 4, 4, 6), weights=[torch.zeros(6, 1, 3, 3)])
    with pytest.raises(ValueError, match=sentence) as error:
        foveal.ops.multiscale_dwconv(**{**arguments, **wrong})
    assert str(error.value).count("\n") == 0


def test_parameter_lists_are_accepted():
    x, weight, bias = torch.randn(1, 4, 4, 6), torch.randn(6, 1, 3, 3), torch.randn(6)
    lists = [torch.nn.ParameterList([t]) for t in (weight, bias)]
    expected = foveal.ops.multiscale_dwconv(x, [weight], [bias])
    assert torch.equal(foveal.ops.multiscale_dwconv(x, *lists), expected)


@every_operator
def test_the_output_has_the_dtype_of_the_first_argument(operator):
    call = Call(operator)
    mixed = call.tensors(torch.float32, parameters=torch.float64)
    exact = call.run({name: t.double() for name, t in mixed.items()}, "reference")
    assert_within_budget(call.run(mixed), call.run(mixed, "reference"), exact, call.reduction)
    assert call.run(mixed).dtype is torch.float32


@pytest.mark.parametrize("backend", ["cpu", "torch", "reference"])
@pytest.mark.parametrize("strided", [0, 2], ids=["contiguous", "strided"])
def test_gate_and_value_may_be_packed_in_one_tensor(backend, strided):
    call = Call("gated_dwconv", dim=9, strided=strided)
    apart = call.tensors(torch.float32)
    x = torch.cat([apart["g"], apart["v"]], -1)
    x = torch.nn.functional.pad(x, (0, 3))[..., :-3] if strided else x
    packed = {"g": x, **{name: apart[name] for name in ("weight", "bias")}}
    with use_backend(backend):
        found = call.run_with_gradients(
            packed, form=lambda g, weight, bias: foveal.ops.gated_dwconv(g, None, weight, bias)
        )
    expected = call.run_with_gradients(apart, backend)
    expected["g"] = torch.cat([expected["g"], expected.pop("v")], -1)
    for name, value in expected.items():
        assert_same(found[name], value, call.reduction, name)


def test_packed_gate_and_value_require_an_even_number_of_channels():
    with pytest.raises(ValueError, match=r"g must be \(B, H, W, 2C\).*got \(1, 2, 2, 5\)"):
        foveal.ops.gated_dwconv(torch.zeros(1, 2, 2, 5), None, torch.zeros(2, 1, 3, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("size", [(9, 10), (1, 1), (4, 13)], ids=str)
def test_a_convolution_can_be_fused_with_a_preceding_gelu_and_affine_map(size, dtype):
    call = Call("multiscale_dwconv", height=size[0], width=size[1], dim=11, window=7)
    tensors = call.tensors(dtype)
    channels = tensors["x"].shape[-1]
    tensors["scale"], tensors["shift"] = torch.linspace(-1, 2, channels), torch.linspace(1, -2, channels)

    def form(x, scale, shift, weights, biases):
        return foveal.ops.multiscale_dwconv(x, weights, biases, identity=True, gelu=True, entry=(scale, shift))

    def layers(x, scale, shift, weights, biases):
        entered = (F.gelu(x) * scale + shift).to(x.dtype)
        with use_backend("reference"):
            return foveal.ops.multiscale_dwconv(entered, weights, biases, identity=True, gelu=True)

    found = call.run_with_gradients(tensors, form=form)
    plain = call.run_with_gradients(tensors, form=layers)
    expected = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, form=layers)
    for name, value in expected.items():
        assert_within_budget(found[name], plain[name], value, call.reduction, name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("operator", ["gated_dwconv", "multiscale_dwconv"])
def test_rounding_before_gelu_does_not_affect_the_bias_gradient(operator, dtype):
    """The bias gradient sums over all pixels, so rounding to half precision would be visible in it."""
    options = dict(identity=False, gelu=True) if operator == "multiscale_dwconv" else {}
    call = Call(operator, height=9, width=10, window=7, options=options)
    tensors = call.tensors(dtype)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    actual = call.run_with_gradients(tensors, "torch")
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name, floor=1.0)
