"""The detection backbone: feature maps of the authors' code, frozen stages, and classifier checkpoints."""

import pytest
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.dense.model import DenseBackbone
from golden.fill import filled_image, filled_state, stored
from support.accuracy import OUTPUT, relative_error
from support.checkpoints import same_state, snapshot
from support.nets import gradients, image, lively, shrunk

SHALLOW = dict(depths=(1, 1, 1, 1))


def small(name="transxnet_atto", **options):
    torch.manual_seed(0)
    options = {"args": SHALLOW, "reference_size": 64, **options}
    return lively(DenseBackbone(name, **options))


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A TransNeXt-Micro checkpoint with its classifier."""
    file = tmp_path_factory.mktemp("released") / "micro.pth"
    torch.save(filled_state("transnext_micro"), file)
    return file


@pytest.mark.parametrize(("bias", "size", "file"), [("interpolate", 224, "int"), ("extrapolate", 800, "ext")])
@torch.no_grad()
def test_maps_match_the_authors_code_in_both_modes(micro, bias, size, file):
    """An extrapolated bias is independent of the reference size."""
    backbone = DenseBackbone("transnext_micro", position_bias=bias, reference_size=size).eval()
    assert backbone.load(micro).complete
    for i, found in enumerate(backbone(filled_image(1, 3, 160, 288))):
        assert relative_error(found[:, ::7, ::3, ::3], stored(f"det_micro_{file}_160x288_s{i}")) <= OUTPUT, f"stage {i}"


@pytest.mark.parametrize("frozen", [1, 2, 4])
@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_only_frozen_stages_have_no_gradients(name, frozen):
    backbone = small(name, frozen_stages=frozen)
    if frozen < 4:
        torch.cat([m.flatten() for m in backbone(image(64, 64, 2))]).pow(2).sum().backward()
    first = tuple(f"stages.{i}." for i in range(frozen))
    for name, parameter in backbone.body.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (not name.startswith(first)), name


def test_frozen_stages_keep_their_batch_norm_statistics():
    backbone = small(frozen_stages=2).train()
    before = snapshot(backbone)
    backbone(image(64, 64, 2))
    changed = {n for n, t in backbone.state_dict().items() if not torch.equal(t, before[n])}
    assert changed
    assert not {name for name in changed if "stages.0." in name or "stages.1." in name}
    assert any("stages.2." in name for name in changed)


def test_frozen_stages_do_not_apply_drop_path():
    """Their maps equal those in evaluation mode, while the maps of the last stage are random."""
    backbone = small("transnext_atto", frozen_stages=3, drop_path=0.9, args=dict(depths=(2, 2, 2, 2)))
    x = image(64, 64, 8)
    with torch.no_grad():
        trained, again, evaluated = backbone.train()(x), backbone(x), backbone.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(trained[:3], evaluated[:3], strict=True))
    assert not torch.equal(trained[3], again[3])


def test_drop_path_increases_linearly_to_the_given_rate():
    backbone = small("transnext_atto", drop_path=0.3, args=dict(depths=(1, 1, 1, 2)))
    rates = [module.drop_prob for module in backbone.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
    assert sorted(rates) == rates


@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_gradient_checkpointing_gives_the_same_gradients(name):
    backbone = small(name).train()
    usual = gradients(backbone, image(64, 96, 2))
    backbone.set_grad_checkpointing()
    assert all(stage.grad_checkpointing for stage in backbone.body.stages)
    recomputed = gradients(backbone, image(64, 96, 2))
    assert usual.keys() == recomputed.keys()
    for name in usual:
        assert relative_error(recomputed[name], usual[name]) < 1e-5, name


def test_a_classifier_checkpoint_loads_everything_except_feature_norms(tmp_path):
    classifier = lively(shrunk("transxnet_atto", num_classes=7, img_size=224))
    torch.save({"model": classifier.state_dict()}, tmp_path / "classifier.pt")
    backbone = small()
    norms = {n: t for n, t in snapshot(backbone.body).items() if "feature_norm" in n}
    backbone.load(tmp_path / "classifier.pt")
    assert norms
    for name, tensor in backbone.body.state_dict().items():
        assert torch.equal(tensor, norms[name] if name in norms else classifier.state_dict()[name]), name


def test_a_mismatched_checkpoint_changes_nothing(tmp_path):
    torch.save(shrunk("transnext_atto").state_dict(), tmp_path / "other.pt")
    backbone = small()
    before = snapshot(backbone)
    with pytest.raises(FovealError, match="TransNeXt"):
        backbone.load(tmp_path / "other.pt")
    assert same_state(before, snapshot(backbone))
    assert all(isinstance(stage.feature_norm, nn.GroupNorm) for stage in backbone.body.stages)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0"])
def test_any_timm_model_gives_maps_of_strides_4_to_32(name):
    """ResNets and EfficientNets have a map of stride 2 before their first stage."""
    backbone = DenseBackbone(name, stages=(0, 3))
    assert backbone.strides == [4, 32]
    first, last = backbone(torch.rand(2, 3, 64, 96))
    assert first.shape == (2, backbone.channels[0], 16, 24)
    assert last.shape == (2, backbone.channels[1], 2, 3)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("vit_tiny_patch16_224", {}, "have strides 16, 16, 16, 16, where 4, 8, 16, 32 are needed: choose a model"),
        ("resnet18", {"frozen_stages": 1}, "cannot be frozen stage by stage: leave frozen_stages out"),
        ("transxnet_atto", {"frozen_stages": 5}, "frozen_stages must be from 0 to 4, not 5"),
        ("transnext_tinny", {}, "transnext_tinny"),
    ],
)
def test_unsupported_backbones_raise_a_one_line_error(name, options, sentence):
    with pytest.raises(FovealError, match=sentence) as caught:
        DenseBackbone(name, **options)
    assert "\n" not in str(caught.value)


def test_checkpoints_cannot_be_loaded_into_other_models(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "file.pt")
    with pytest.raises(FovealError, match="not of resnet18: pass --pretrained"):
        DenseBackbone("resnet18").load(tmp_path / "file.pt")


def test_no_weight_decay_is_that_of_the_model():
    backbone = small("transnext_atto")
    listed = backbone.no_weight_decay()
    assert {name.removeprefix("net.model.") for name in listed} == {
        name for name, _ in backbone.body.named_parameters() if name in backbone.body.no_weight_decay()
    }
    assert any(name.endswith("temperature") for name in listed)
