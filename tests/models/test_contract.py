"""timm's backbone interface, for every registered model (with one block per stage)."""

import math
from functools import cache

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_weight_decay
from torch import nn

from support.accuracy import assert_same
from support.nets import COMPARED, NAMES, PVT, ROADMAP, TRANSNEXT, atto, gradients, image, lively, on_meta, shrunk

FAMILIES = ("transnext", "transxnet")
every_name = pytest.mark.parametrize("name", [*NAMES, *ROADMAP, *PVT, COMPARED])
every_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def net_on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return shrunk(name, device="meta").eval()


@every_name
def test_every_parameter_gets_a_gradient(name):
    net = shrunk(name, num_classes=7, drop_path_rate=0.0).train()
    out = net(image(64, 64, batch=2))
    assert out.shape == (2, 7)
    assert out.isfinite().all()
    out.square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@every_name
def test_features_only_returns_four_maps_of_strides_4_to_32(name):
    net = shrunk(name, features_only=True).eval()
    assert net.feature_info.reduction() == [4, 8, 16, 32]
    maps = net(image(96, 130))
    sizes = [(math.ceil(96 / s), math.ceil(130 / s)) for s in (4, 8, 16, 32)]
    assert [(m.shape[1], tuple(m.shape[2:])) for m in maps] == list(
        zip(net.feature_info.channels(), sizes, strict=True)
    )


@every_name
def test_metadata_matches_the_model(name):
    net = net_on_meta(name)
    state, cfg = net.state_dict(), net.pretrained_cfg
    side = cfg["input_size"][-1]
    assert state[cfg["first_conv"] + ".weight"].shape[1] == net.in_chans == cfg["input_size"][0] == 3
    assert state[cfg["classifier"] + ".weight"].shape[:2] == (1000, net.num_features)
    assert net.num_classes == cfg["num_classes"] == 1000
    assert net.head_hidden_size == net.num_features == net.feature_info[-1]["num_chs"]
    features = net.forward_features(torch.empty(1, 3, side, side, device="meta"))
    if name in PVT:  # tokens, as of timm's vision transformers
        assert features.shape == (1, 1 + math.prod(cfg["pool_size"]), net.num_features)
    else:
        assert features.shape[2:] == cfg["pool_size"]


@every_name
def test_unknown_arguments_are_rejected(name):
    with torch.device("meta"), pytest.raises(TypeError, match="not_an_argument"):
        shrunk(name, device="meta", not_an_argument=1)


@every_family
@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
@pytest.mark.parametrize("classes", [0, 7])
@torch.no_grad()
def test_every_pooling_works_with_and_without_a_classifier(family, pool, classes):
    net, x = atto(family, num_classes=classes, global_pool=pool), image(64, 64, batch=2)
    features = net.num_features * (2 if pool == "catavgmax" else 1)
    assert net(x).shape == (2, classes or features)
    assert net.forward_head(net.forward_features(x), pre_logits=True).shape == (2, features)
    assert net.head_hidden_size == features


@every_name
def test_without_pooling_and_classifier_the_feature_map_is_returned(name):
    with torch.device("meta"):
        net = shrunk(name, device="meta", num_classes=0, global_pool="")
    shape = (2, 1 + 2 * 3, net.num_features) if name in PVT else (2, net.num_features, 2, 3)
    assert net(torch.empty(2, 3, 64, 96, device="meta")).shape == shape


@every_name
@pytest.mark.parametrize(("device", "dtype"), [("meta", torch.float64), ("cpu", torch.bfloat16)], ids=["meta", "bf16"])
def test_device_and_dtype_apply_to_every_tensor(name, device, dtype):
    net = shrunk(name, device=torch.device(device), dtype=dtype, embed_dims=(96, 144, 240, 384), num_classes=3)
    tensors = [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]
    assert {(t.device.type, t.dtype) for t in tensors} == {(device, dtype)}


@every_name
def test_group_matcher_layers_cover_the_model_in_order(name):
    net = on_meta(name)
    names = [n for n, _ in net.named_parameters()]
    layers = group_parameters(net, net.group_matcher(), reverse=True)
    assert set(layers) == set(names)

    def place(parameter: str) -> tuple:
        """Position of the parameter between input and output."""
        parts = parameter.split(".")
        if parts[0] != "stages":
            return (4, 1)
        return (
            (int(parts[1]), int(parts[3]))
            if parts[2] == "blocks"
            else (int(parts[1]), -1 if parts[2] != "norm" else 99)
        )

    ordered = sorted(names, key=place)
    numbers = [layers[n] for n in ordered]
    assert numbers == sorted(numbers)
    blocks = sum(len(stage.blocks) for stage in net.stages)
    assert blocks < len(set(numbers)) <= blocks + 6
    coarse = group_parameters(net, net.group_matcher(coarse=True), reverse=True)
    assert set(coarse) == set(names)
    assert 4 <= len(set(coarse.values())) <= 6


@every_name
def test_parameters_without_weight_decay_match_the_paper(name):
    """1-D parameters, biases, four names of TransNeXt, and PVT's class token; by the parameter groups of timm."""
    net = on_meta(name)
    spared_words = ("query_embedding", "relative_pos_bias_local", "cpb", "temperature") if "next" in name else ()
    spared_words = ("class_token",) if name in PVT else spared_words
    groups = param_groups_weight_decay(net, 0.05, no_weight_decay_list=net.no_weight_decay())
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for parameter, p in net.named_parameters():
        spared = p.ndim <= 1 or parameter.endswith(".bias") or any(word in parameter for word in spared_words)
        assert decays[id(p)] == (0.0 if spared else 0.05), parameter
    assert net.no_weight_decay() <= {n for n, _ in net.named_parameters()}


@every_family
@torch.no_grad()
def test_intermediates_equal_the_features_and_the_last_map(family):
    net = atto(family)
    x = image(96, 64)
    last, maps = net.forward_intermediates(x)
    assert torch.equal(last, net.forward_features(x))
    getter = atto(family, features_only=True).model.eval()
    getter.load_state_dict(net.state_dict(), strict=False)
    assert all(
        torch.equal(a, b) for a, b in zip(maps, getter.forward_intermediates(x, intermediates_only=True), strict=True)
    )
    assert torch.equal(net.forward_head(last), net(x))
    _, normed = net.forward_intermediates(x, norm=True)
    assert torch.equal(normed[-1], last)
    assert all(torch.equal(a, b) for a, b in zip(normed[:-1], maps[:-1], strict=True))


@every_family
@pytest.mark.parametrize(
    ("indices", "taken"), [(None, [0, 1, 2, 3]), (2, [2, 3]), ([0, 2], [0, 2]), ([-1], [3]), ((1,), [1])]
)
@pytest.mark.parametrize("stop_early", [False, True])
@torch.no_grad()
def test_intermediates_can_be_selected(family, indices, taken, stop_early):
    net = atto(family)
    x = image(64, 96)
    _, everything = net.forward_intermediates(x)
    ran = []
    for i, stage in enumerate(net.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append(i))
    nchw = net.forward_intermediates(x, indices=indices, stop_early=stop_early, intermediates_only=True)
    assert ran == list(range(taken[-1] + 1 if stop_early else 4))
    assert all(torch.equal(m, everything[i]) for m, i in zip(nchw, taken, strict=True))
    nhwc = net.forward_intermediates(x, indices=indices, output_fmt="NHWC", intermediates_only=True)
    assert all(torch.equal(m.permute(0, 3, 1, 2), everything[i]) for m, i in zip(nhwc, taken, strict=True))


@every_family
@pytest.mark.parametrize("out_indices", [(0,), (1, 3), (0, 1, 2, 3)])
@torch.no_grad()
def test_feature_models_keep_only_the_modules_their_maps_need(family, out_indices):
    """DDP raises an error for parameters without a gradient."""
    net = atto(family, features_only=True, out_indices=out_indices).train()
    with torch.enable_grad():
        sum(m.square().mean() for m in net(image(64, 64, batch=2))).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert len(net.model.stages) == out_indices[-1] + 1
    assert [f["reduction"] for f in net.feature_info.get_dicts()] == [4 * 2**i for i in out_indices]


@every_family
@torch.no_grad()
def test_a_feature_model_gives_the_maps_of_the_complete_model(family):
    net, x = atto(family), image(64, 64)
    features = timm.create_model(
        f"{family}_atto", depths=(1, 1, 1, 1), img_size=64, features_only=True, out_indices=(0, 2)
    )
    features.model.load_state_dict({n: t for n, t in net.state_dict().items() if n in features.model.state_dict()})
    _, maps = net.forward_intermediates(x, indices=[0, 2])
    assert all(torch.equal(a, b) for a, b in zip(features.eval()(x), maps, strict=True))


@every_family
@pytest.mark.parametrize(
    ("indices", "kept", "head"), [([0], 1, False), ([1, 2], 3, False), ([3], 4, False), ([3], 4, True)]
)
@torch.no_grad()
def test_pruning_drops_later_stages(family, indices, kept, head):
    net, x = atto(family), image(64, 64)
    expected = net.forward_intermediates(x, indices=indices, intermediates_only=True)
    logits = net(x)
    assert net.prune_intermediate_layers(indices, prune_head=not head) == indices
    assert len(net.stages) == kept
    found = net.forward_intermediates(x, indices=indices, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert net.num_features == net.feature_info[kept - 1]["num_chs"]
    assert net(x).shape[1] == net.num_features if not head else torch.equal(net(x), logits)


@every_family
@torch.no_grad()
def test_a_pruned_model_accepts_a_new_classifier_and_new_sizes(family):
    net = atto(family)
    net.prune_intermediate_layers([1])
    net.set_input_size(img_size=(96, 64))
    net.reset_classifier(5, "avg")
    assert net(image(96, 64)).shape == (1, 5)


@every_name
def test_reset_classifier_replaces_the_head(name):
    net = shrunk(name, num_classes=10).eval()
    with torch.no_grad():
        net.head.fc.weight.fill_(3.0)
        net.head.fc.bias.fill_(3.0)
    old = net.get_classifier()
    net.reset_classifier(10)
    fresh = net.get_classifier()
    assert fresh is not old
    assert fresh.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not fresh.bias.any()
    assert net(image(64, 64)).shape == (1, 10)
    net.reset_classifier(3)
    assert net.num_classes == 3
    assert net(image(64, 64)).shape == (1, 3)


@every_family
def test_reset_classifier_keeps_device_dtype_mode_pooling_and_frozen_weights(family):
    net = atto(family, global_pool="max", device="meta", dtype=torch.float64).requires_grad_(False)
    net.reset_classifier(4)
    assert {(p.device.type, p.dtype) for p in net.get_classifier().parameters()} == {("meta", torch.float64)}
    assert not any(module.training for module in net.modules())
    assert net.head.global_pool.pool_type == "max"
    assert all(p.requires_grad for p in net.get_classifier().parameters())
    net.reset_classifier(0)
    assert not any(p.requires_grad for p in net.parameters())


@every_family
@torch.no_grad()
def test_removing_the_classifier_returns_its_input(family):
    net, x = atto(family), image(64, 96)
    pooled = net.forward_head(net.forward_features(x), pre_logits=True)
    net.reset_classifier(0)
    assert torch.equal(net(x), pooled)
    net.reset_classifier(0, "")
    assert torch.equal(net(x), net.forward_features(x))
    net.reset_classifier(0, "avg")
    assert torch.equal(net(x), pooled)
    assert_same(pooled, net.forward_features(x).mean((2, 3)), reduction=100)


@every_family
def test_an_unknown_pooling_is_rejected(family):
    with pytest.raises(ValueError, match="global_pool 'median'"):
        shrunk(f"{family}_atto", global_pool="median")
    net = atto(family)
    with pytest.raises(ValueError, match="global_pool 'median'"):
        net.reset_classifier(3, "median")
    assert net.num_classes == 10


@every_family
@pytest.mark.parametrize("features_only", [False, True])
def test_grad_checkpointing_does_not_change_gradients(family, features_only):
    net = atto(family, features_only=features_only, drop_path_rate=0.2, attn_drop_rate=0.1, proj_drop_rate=0.1).train()
    x = image(64, 64, batch=2)
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    torch.manual_seed(3)
    plain = gradients(net, x)
    for n, b in net.named_buffers():
        b.copy_(buffers[n])
    getattr(net, "model", net).set_grad_checkpointing(True)  # timm's FeatureGetterNet does not define this method
    torch.manual_seed(3)
    checkpointed = gradients(net, x)
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(checkpointed[n], g) for n, g in plain.items())


@every_family
def test_grad_checkpointing_saves_fewer_activations(family):
    net = atto(family).train()

    def kept() -> int:
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()), lambda t: t):
            net(image(64, 64, batch=2))
        return sum(held)

    plain = kept()
    net.set_grad_checkpointing()
    assert kept() < plain / 2
    net.set_grad_checkpointing(False)
    assert kept() == plain


@pytest.mark.parametrize("name", ["transnext_atto", "transnext_micro_aaaa"])
@torch.no_grad()
def test_set_input_size_equals_a_model_created_that_way(name):
    """Each argument on its own, then all together."""
    changes = [
        dict(img_size=(96, 128)),
        dict(pool_size=1),
        dict(pool_size=None),
        dict(position_bias="interpolate"),
        dict(length_scaling=False),
        dict(pretrain_size=(128, 256)),
        dict(img_size=64, pool_size=1, position_bias="extrapolate", length_scaling=True, pretrain_size=224),
    ]
    made_with = dict(pretrain_size=256) if "aaaa" in name else {}
    torch.manual_seed(0)
    net = lively(shrunk(name, **made_with)).eval()
    for change in changes:
        made_with |= change
        net.set_input_size(**change)
        fresh = shrunk(name, **{**made_with, "pool_size": made_with.get("pool_size")}).eval()
        fresh.load_state_dict(net.state_dict())
        assert torch.equal(net(image(80, 64)), fresh(image(80, 64))), change


@pytest.mark.parametrize("size", [64, (96, 160), (33, 47)], ids=str)
@torch.no_grad()
def test_set_input_size_of_transxnet_keeps_the_output_at_that_size(size):
    """The tables are resized once instead of in every call."""
    net = atto("transxnet")
    x = image(*(size if isinstance(size, tuple) else (size, size)))
    before = net(x)
    net.set_input_size(size)
    tokens = math.ceil(x.shape[2] / 4) * math.ceil(x.shape[3] / 4)
    assert net.stages[0].position_bias.table.shape[2] == tokens
    assert_same(net(x), before, reduction=10_000)


@every_family
def test_a_rejected_size_leaves_the_model_unchanged(family):
    net, x = atto(family), image(64, 64)
    before = net(x)
    with pytest.raises(ValueError, match="at least 32"):
        net.set_input_size(img_size=(31, 64))
    if family == "transnext":
        for wrong in (
            dict(pool_size=16),
            dict(position_bias="none", pretrain_size=32),
            dict(pool_size=0, pretrain_size=32),
        ):
            with pytest.raises(ValueError):
                net.set_input_size(**wrong)
    net.train().eval()  # clears cached biases
    assert torch.equal(net(x), before)


@every_family
def test_frozen_models_stay_frozen(family):
    net = atto(family).requires_grad_(False)
    net.reset_classifier(0)
    net.set_input_size(img_size=(128, 96))
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", TRANSNEXT)
def test_drop_path_increases_linearly_over_all_blocks(name):
    with torch.device("meta"):
        net = timm.create_model(name, device="meta", drop_path_rate=0.6)
    rates = [block.drop_path.drop_prob for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.6 * i / (len(rates) - 1) for i in range(len(rates))])


def test_transxnet_drop_path_increases_linearly_over_all_blocks():
    with torch.device("meta"):
        net = timm.create_model("transxnet_t", device="meta", drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.4 * i / 17 for i in range(18)])


@every_family
@pytest.mark.parametrize("rate", ["drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_every_drop_rate_acts_only_in_training(family, rate):
    net = atto(family, **{rate: 0.5})
    x = image(64, 64, batch=2)
    assert torch.equal(net(x), net(x))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    net.train()
    assert not torch.equal(net(x), net(x))


@every_family
def test_images_of_another_shape_are_rejected(family):
    net = atto(family)
    for wrong in (torch.zeros(3, 64, 64), torch.zeros(1, 1, 64, 64), torch.zeros(1, 64, 64, 3)):
        with pytest.raises(ValueError, match=r"expected images of shape \(batch, 3, height, width\)"):
            net(wrong)
