"""PVT-Tiny: its printed figures, a plain form of the network, the class token, and other sizes."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal
from foveal.models.pvt import PVT
from support.nets import image, in_double, lively, shrunk


def small(**options) -> PVT:
    torch.manual_seed(0)
    return lively(shrunk("pvt_tiny", **{"num_classes": 10, **options})).eval()


def attention(w: dict[str, Tensor], at: str, x: Tensor, heads: int, ratio: int, size: tuple[int, int]) -> Tensor:
    q = F.linear(x, w[f"{at}.q.weight"], w[f"{at}.q.bias"])
    reduced = x
    if ratio > 1:
        grid = x.transpose(1, 2).unflatten(2, size)
        grid = F.conv2d(grid, w[f"{at}.sr.weight"], w[f"{at}.sr.bias"], stride=ratio).flatten(2).transpose(1, 2)
        reduced = F.layer_norm(grid, grid.shape[-1:], w[f"{at}.norm.weight"], w[f"{at}.norm.bias"], 1e-5)
    k, v = F.linear(reduced, w[f"{at}.kv.weight"], w[f"{at}.kv.bias"]).chunk(2, -1)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    y = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return F.linear(y.transpose(1, 2).flatten(2), w[f"{at}.proj.weight"], w[f"{at}.proj.bias"])


def plain_pvt(net: PVT, x: Tensor) -> Tensor:
    """The class token of a PVT of one block per stage in float64, as its paper describes the network."""
    w, x = in_double(net), x.double()

    def norm(t: Tensor, at: str, eps: float = 1e-6) -> Tensor:
        return F.layer_norm(t, t.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], eps)

    for i, (heads, ratio) in enumerate(zip((1, 2, 5, 8), (8, 4, 2, 1))):
        stage, block = f"stages.{i}", f"stages.{i}.blocks.0"
        weight = w[f"{stage}.downsample.proj.weight"]
        x = F.conv2d(x, weight, w[f"{stage}.downsample.proj.bias"], stride=weight.shape[-1])
        size = (x.shape[2], x.shape[3])
        t = norm(x.flatten(2).transpose(1, 2), f"{stage}.downsample.norm", 1e-5)
        if i == 3:
            t = torch.cat([w[f"{stage}.class_token"].expand(len(t), -1, -1), t], 1)
        t = t + w[f"{stage}.position_embedding"]
        t = t + attention(w, f"{block}.attn", norm(t, f"{block}.norm1"), heads, ratio, size)
        mlp, hidden = f"{block}.mlp", norm(t, f"{block}.norm2")
        hidden = F.gelu(F.linear(hidden, w[f"{mlp}.fc1.weight"], w[f"{mlp}.fc1.bias"]))
        t = t + F.linear(hidden, w[f"{mlp}.fc2.weight"], w[f"{mlp}.fc2.bias"])
        if i < 3:
            x = t.transpose(1, 2).unflatten(2, size)
    return F.linear(norm(t, "norm")[:, 0], w["head.fc.weight"], w["head.fc.bias"])


def test_pvt_tiny_has_the_printed_figures():
    """Step 0 of the roadmap: 13.2 M parameters and 1.9 G multiply-adds."""
    with torch.device("meta"):
        count = foveal.flops(timm.create_model("pvt_tiny", device="meta"), 224)
    assert (round(count.params / 1e6, 1), round(count.macs / 1e9, 1)) == (13.2, 1.9)


def test_pvt_computes_its_formula():
    net, x = small(), image(64, 64, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(net(x).double(), plain_pvt(net, x), rtol=1e-4, atol=1e-4)


def test_names_of_the_authors_files_are_read():
    """Names as in the code of PVT's authors: ``pos_embed4`` holds the class token's position."""
    net = small()
    theirs = {}
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if parts[0] == "stages":
            number = int(parts[1]) + 1
            rest = ".".join(parts[3:])
            name = {
                "downsample": f"patch_embed{number}.{rest}", "blocks": f"block{number}.{rest}",
                "position_embedding": f"pos_embed{number}", "class_token": "cls_token",
            }[parts[2]]  # fmt: skip
        theirs[name.replace("head.fc.", "head.")] = tensor
    assert {"pos_embed1", "cls_token", "block2.0.attn.sr.weight", "norm.weight", "head.bias"} <= theirs.keys()
    fresh, x = shrunk("pvt_tiny", num_classes=10).eval(), image(64, 64)
    fresh.load_state_dict(foveal.models.pvt.checkpoint_filter_fn(theirs, fresh))
    with torch.no_grad():
        assert torch.equal(fresh(x), net(x))


def test_features_are_tokens_and_the_class_token_comes_first():
    net, x = small(), image(64, 96, batch=2)
    with torch.no_grad():
        tokens = net.forward_features(x)
        assert tokens.shape == (2, 1 + 2 * 3, 512)
        assert torch.equal(net.forward_head(tokens), net(x))
        assert torch.equal(net.forward_head(tokens, pre_logits=True), tokens[:, 0])
        last = net.forward_intermediates(x, norm=True, intermediates_only=True)[-1]
        torch.testing.assert_close(last.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_the_other_poolings_take_the_mean_of_the_other_tokens_or_all():
    net, x = small(), image(64, 64)
    with torch.no_grad():
        tokens = net.forward_features(x)
        net.reset_classifier(0, "avg")
        torch.testing.assert_close(net(x), tokens[:, 1:].mean(1))
        net.reset_classifier(0, "")
        assert torch.equal(net(x), tokens)
        net.reset_classifier(4, "token")
        assert net(x).shape == (1, 4)
    with pytest.raises(ValueError, match='must be "token", "avg" or "", got \'max\''):
        net.reset_classifier(4, "max")


def test_positions_are_resized_bilinearly_for_images_of_another_size():
    """Positions that grow linearly stay linear inside, between the centres of the outer cells."""
    net = small(img_size=128)
    stage = net.stages[0]
    ramp = torch.arange(32.0) + 0.5
    with torch.no_grad():
        stage.position_embedding.copy_(ramp.repeat(32)[None, :, None].expand_as(stage.position_embedding))
        found = stage._positions((16, 64)).unflatten(1, (16, 64))[0, 3, :, 0]
    torch.testing.assert_close(found[1:-1], (torch.arange(64.0)[1:-1] + 0.5) / 2)
    with torch.no_grad():
        assert net(image(70, 45)).isfinite().all()


def test_weights_of_another_image_size_are_loaded_with_resized_positions():
    net, x = small(img_size=96), image(128, 128)
    other = shrunk("pvt_tiny", num_classes=10, img_size=128).eval()
    other.load_state_dict(foveal.models.pvt.checkpoint_filter_fn(net.state_dict(), other))
    with torch.no_grad():
        torch.testing.assert_close(other(x), net(x), rtol=1e-4, atol=1e-5)


def test_set_input_size_resizes_the_learned_positions():
    net, x = small(img_size=96), image(64, 64)
    with torch.no_grad():
        expected = net(x)
        net.set_input_size(64)
        assert torch.equal(net(x), expected)
    assert [stage.position_embedding.shape[1] for stage in net.stages] == [16 * 16, 8 * 8, 4 * 4, 1 + 2 * 2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sr_ratios": (8, 4, 2, 2)}, "the last of sr_ratios must be 1"),
        ({"img_size": 16}, "img_size must be at least 32 x 32, got 16 x 16"),
        ({"num_heads": (1, 2, 3, 8)}, "num_heads must divide embed_dims, and 3 does not divide 320"),
        ({"depths": (2, 2, 2)}, "embed_dims must be 3 numbers, one per stage"),
        ({"global_pool": "max"}, 'must be "token", "avg" or "", got'),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        timm.create_model("pvt_tiny", **options)


def test_a_file_of_another_family_is_refused():
    from foveal.models import CheckpointError

    with pytest.raises(CheckpointError, match="PVT"):
        foveal.models.transnext.checkpoint_filter_fn(small().state_dict(), shrunk("transnext_atto"))


def test_an_optimised_and_a_checkpointed_network_give_the_same():
    net, x = small(), image(64, 96)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(foveal.optimize(net)(x), expected, rtol=1e-4, atol=1e-4)
    net.set_grad_checkpointing()
    out = net.train()(x)
    torch.testing.assert_close(out.detach(), expected, rtol=1e-5, atol=1e-5)
    out.sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_export_keeps_the_class_token():
    net, x = small(), image(64, 64)
    program = torch.export.export(net, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_pruned_network_returns_the_map_of_its_last_stage():
    net, x = small(), image(64, 64)
    with torch.no_grad():
        expected = net.forward_intermediates(x, indices=[1], intermediates_only=True)[0]
        net.prune_intermediate_layers([1])
        assert torch.equal(net(x), expected)
    assert isinstance(net.get_classifier(), nn.Identity)
