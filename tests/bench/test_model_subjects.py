"""Model subjects: forms, modes and dtypes."""

import warnings
from dataclasses import replace

import pytest
import timm
import torch

import foveal
from foveal.bench import subjects
from foveal.bench.run import jobs
from foveal.bench.settings import Setting, parse_size
from foveal.bench.subjects import ModelSubject, baseline_of, is_ours, model_subjects, scaling_subjects
from foveal.errors import FovealError

SMALL = Setting(batch=2, height=64, width=32)


@pytest.fixture
def built(monkeypatch):
    """The models that were created, each with its input and output."""
    made = []
    create = timm.create_model

    def watched(name, **options):
        net = create(name, **options)
        net.register_forward_hook(lambda module, images, out: made.append((module, images[0], out)))
        return net

    monkeypatch.setattr(subjects.timm, "create_model", watched)
    return made


def test_peers_have_only_the_eager_and_compiled_forms():
    found = model_subjects(("transnext_atto", "pvt_v2_b0"), ("eager", "optimised", "reference", "compiled"))
    assert [(s.model, s.form) for s in found] == [
        ("transnext_atto", "eager"),
        ("transnext_atto", "optimised"),
        ("transnext_atto", "reference"),
        ("transnext_atto", "compiled"),
        ("pvt_v2_b0", "eager"),
        ("pvt_v2_b0", "compiled"),
    ]


@pytest.mark.parametrize(("form", "beside"), [("optimised", "eager"), ("reference", "eager"), ("compiled", "compiled")])
def test_the_baseline_is_compiled_only_for_compiled_subjects(form, beside):
    assert baseline_of(ModelSubject("transnext_atto", form)) == ModelSubject("convnext_tiny", beside)


def test_scaling_measures_transnext_in_both_modes_and_convnext_once():
    names = [s.name for s in scaling_subjects(("transnext_tiny", "transxnet_s", "convnext_tiny"), ("optimised",))]
    assert names == ["transnext_tiny", "transnext_tiny pool_size=7", "transxnet_s", "convnext_tiny"]


def test_an_unknown_model_raises_a_one_line_error():
    with pytest.raises(FovealError, match="no model 'resnext_tiny'"):
        is_ours("resnext_tiny")


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_half_precision_casts_in_inference_and_autocasts_in_training(built, mode, dtype):
    setting = replace(SMALL, mode=mode, dtype=dtype)
    ModelSubject("transnext_atto").prepare(setting).call()
    ((net, images, out),) = built
    half = torch.bfloat16 if dtype == "bf16" else torch.float32
    weights = torch.bfloat16 if setting.casting == "cast" else torch.float32
    assert setting.casting == {"fp32": "none", "bf16": "cast" if mode == "inference" else "autocast"}[dtype]
    assert {p.dtype for p in net.parameters()} == {weights} == {images.dtype}
    assert out.dtype == half
    assert net.training == out.requires_grad == (mode == "training")


def test_a_training_step_clears_the_gradients(built):
    ModelSubject("transnext_atto").prepare(replace(SMALL, mode="training")).call()
    assert all(p.grad is None for p in built[0][0].parameters())


def test_held_memory_is_that_of_weights_and_images():
    prepared = ModelSubject("transnext_atto").prepare(SMALL)
    net = timm.create_model("transnext_atto")
    weights = sum(p.numel() for p in net.parameters()) + sum(b.numel() for b in net.buffers())
    assert prepared.held == 4 * (weights + 2 * 3 * 64 * 32)


def test_swin_is_built_for_the_input_size(built):
    swin = ModelSubject("swin_tiny_patch4_window7_224", options=(("depths", (1, 1, 1, 1)), ("embed_dim", 24)))
    swin.prepare(SMALL).call()
    assert built[0][0].patch_embed.img_size == (64, 32)


def test_the_reference_form_runs_the_reference_backend(monkeypatch):
    called = []
    prepared = ModelSubject("transnext_atto", "reference").prepare(SMALL)
    monkeypatch.setattr("torch.nn.functional.unfold", lambda *a, **k: called.append(1) or real(*a, **k), raising=True)
    prepared.call()
    assert called


real = torch.nn.functional.unfold


def test_the_optimised_form_is_the_result_of_foveal_optimize(built, monkeypatch):
    asked = []
    monkeypatch.setattr(foveal, "optimize", lambda net, dtype=None: asked.append(dtype) or net, raising=False)
    subject = ModelSubject("transnext_atto", "optimised")
    subject.prepare(SMALL).call()
    subject.prepare(replace(SMALL, dtype="bf16"))
    assert asked == [None, torch.bfloat16]
    assert not built[0][0].training
    with pytest.raises(FovealError, match="no training step"):
        subject.prepare(replace(SMALL, mode="training"))


@pytest.mark.parametrize(("text", "size"), [("224", (224, 224)), ("480x640", (480, 640))])
def test_sizes_are_parsed_as_height_by_width(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x64", "64x", "64x64x64", "big", "-64", "31", "64x16"])
def test_an_invalid_size_raises_a_one_line_error(text):
    with pytest.raises(FovealError, match="--sizes"):
        parse_size(text)


def test_int8_is_the_result_of_foveal_quantize_beside_peers_in_fp32(built, monkeypatch):
    asked = []
    quantize = foveal.quantize
    monkeypatch.setattr(foveal, "quantize", lambda net, images: asked.append(images.shape) or quantize(net, images))
    setting = replace(SMALL, dtype="int8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the remarks name a processor without VNNI
        ModelSubject("transnext_atto", "int8").prepare(setting).call()
    assert asked == [(1, 3, 64, 32)]
    ModelSubject("test_convnext").prepare(setting).call()
    net, images, _ = built[-1]
    assert {p.dtype for p in net.parameters()} == {torch.float32} == {images.dtype}
    with pytest.raises(FovealError, match="no training step"):
        ModelSubject("transnext_atto", "int8").prepare(replace(setting, mode="training"))


def test_int8_has_one_form_and_peers_theirs():
    setting = replace(SMALL, dtype="int8")
    (job,) = jobs("models", setting, ("transnext_atto", "convnext_tiny"), (), ("eager", "optimised"))
    assert [(s.model, s.form) for s in job.subjects] == [("transnext_atto", "int8"), ("convnext_tiny", "eager")]
    assert {job.baseline(s) for s in job.subjects} == {ModelSubject("convnext_tiny", "eager")}
    assert jobs("ops", setting, (), (), None) == []
    assert jobs("models", replace(setting, mode="training"), ("transnext_atto",), (), None) == []
