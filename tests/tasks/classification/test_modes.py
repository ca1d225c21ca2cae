"""Evaluation at several sizes and modes equals that of models created with these settings."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.evaluate import EvaluationSettings, score
from foveal.tasks.classification.imagenet.sets import SIZES, published
from foveal.tasks.classification.modes import in_mode, linear_pool
from foveal.tasks.classification.names import MODES
from foveal.tasks.classification.network import Classifier, released_name
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.survey import EvaluationGrid, survey
from support.nets import SHALLOW, atto, image, lively, shrunk

MADE = {
    "normal": {},
    "linear": {"pool_size": 2},
    "no_length_scaling": {"length_scaling": False},
    "interpolate": {"position_bias": "interpolate"},
}
ALONE = EvaluationSettings(batch_size=5, workers=0, device=torch.device("cpu"))
FIT = Preprocessing((64, 64), crop=0.8, whole_from=96)


@pytest.fixture
def classifier():
    """A classifier trained at 64 pixels."""
    net = atto(pretrain_size=64, img_size=64, num_classes=3)
    return Classifier("transnext_atto", net, ["cat", "dog", "eel"], FIT, trained_here=True)


def made_so(classifier, mode, size):
    """A model created in that mode with the same weights; interpolation uses the training size as reference."""
    reference = 64 if mode == "interpolate" else size
    options = {"pretrain_size": 64, "img_size": reference, "num_classes": 3, "depths": SHALLOW, **MADE[mode]}
    net = timm.create_model("transnext_atto", **options)
    net.load_state_dict(classifier.model.state_dict())
    return net.eval()


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_equals_a_model_created_in_it(classifier, mode, size):
    x = image(size, size)
    found = in_mode(classifier, mode, (size, size))
    with torch.no_grad():
        assert torch.equal(found.model(x), made_so(classifier, mode, size)(x))
    assert found.fit == replace(FIT, size=(size, size))


def test_modes_agree_at_the_training_size_and_differ_beyond(classifier):
    with torch.no_grad():
        trained = [in_mode(classifier, mode, (64, 64)).model(image(64, 64)) for mode in MODES]
        larger = [in_mode(classifier, mode, (128, 128)).model(image(128, 128)) for mode in MODES]
    for logits in trained[1:]:
        torch.testing.assert_close(logits, trained[0])
    assert all(not torch.allclose(a, b) for i, a in enumerate(larger) for b in larger[:i])


def test_modes_do_not_change_the_classifier(classifier):
    for mode in MODES:
        in_mode(classifier, mode, (96, 96))
    model = classifier.model
    assert (model.img_size, model.pool_size, model.bias_mode, model.length_scaling) == (
        (64, 64),
        None,
        "extrapolate",
        True,
    )


def test_a_model_trained_in_linear_mode_keeps_it_by_default(classifier):
    linear = in_mode(classifier, "linear", (96, 96))
    assert in_mode(linear, None, (128, 128)).model.pool_size == (2, 2)
    assert in_mode(linear, "normal", (64, 64)).model.pool_size is None


def test_linear_mode_pools_to_7_for_weights_of_224_pixels(classifier):
    assert linear_pool(replace(classifier, model=atto())) == 7
    assert linear_pool(classifier) == 2
    assert linear_pool(replace(classifier, model=shrunk("transxnet_atto"))) is None


def test_unsupported_modes_raise_a_one_line_error(classifier):
    other = replace(classifier, model=timm.create_model("test_convnext", num_classes=3))
    with pytest.raises(FovealError, match=r"ConvNeXt has no modes, only TransNeXt has: leave --mode out"):
        in_mode(other, "linear", (64, 64))
    with pytest.raises(FovealError, match=r"no linear mode at 32 pixels: pool_size 2 x 2 must be smaller"):
        in_mode(classifier, "linear", (32, 32))


def quiet():
    return contextlib.nullcontext(lambda title, done, total: None)


def prepared(path, size):
    """Preprocessing of the papers, written out: a crop of 0.8 of the short side, the entire image from 96 pixels up."""
    picture = Image.open(path)
    if size >= 96:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    else:
        short = int(size / 0.8)
        width, height = (int(short * side / min(picture.size)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - size) / 2), round((height - size) / 2)
        picture = picture.crop((left, top, left + size, top + size))
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(FIT.mean)[:, None, None]) / torch.tensor(FIT.std)[:, None, None]


def test_survey_results_match_manual_counts(classifier, pets):
    """Compares with models created with these settings, image by image."""
    sizes = (64, 80, 96)
    plan = EvaluationGrid(pets, modes=MODES, sizes=tuple((size, size) for size in sizes))
    cells = survey(classifier, plan, ALONE, quiet)
    assert [(cell.mode, cell.size[0]) for cell in cells] == [(mode, size) for size in sizes for mode in MODES]
    assert [cell.pool_size for cell in cells] == [2 if cell.mode == "linear" else None for cell in cells]
    files = [
        (path, label) for label, name in enumerate(classifier.classes) for path in sorted(pets.glob(f"val/{name}/*"))
    ]
    for cell in cells:
        net, size, right, loss = made_so(classifier, cell.mode, cell.size[0]), cell.size[0], 0, 0.0
        with torch.no_grad():
            for path, label in files:
                logits = net(prepared(path, size)[None])[0].double()
                right += int(logits.argmax()) == label
                loss -= logits.log_softmax(0)[label].item()
        assert cell.score.top1 == pytest.approx(100 * right / len(files))
        assert cell.score.loss == pytest.approx(loss / len(files), rel=1e-4)


@pytest.mark.parametrize("family", ["transxnet", "vit"])
def test_models_without_modes_can_be_evaluated_at_several_sizes(family, classifier, pets):
    name = {"transxnet": "transxnet_atto", "vit": "test_vit"}[family]
    torch.manual_seed(0)
    net = lively(timm.create_model(name, num_classes=3, img_size=64)).eval()
    one = replace(classifier, name=name, model=net)
    cells = survey(one, EvaluationGrid(pets, sizes=((64, 64), (96, 96))), ALONE, quiet)
    assert [cell.size for cell in cells] == [(64, 64), (96, 96)]
    again = timm.create_model(name, num_classes=3, img_size=64)
    again.load_state_dict(net.state_dict())
    again.set_input_size((96, 96))
    files = [
        (path, label)
        for label, folder in enumerate(classifier.classes)
        for path in sorted(pets.glob(f"val/{folder}/*"))
    ]
    with torch.no_grad():
        logits = again.eval()(torch.stack([prepared(path, 96) for path, _ in files]))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label for _, label in files])).item()
    assert cells[1].score.loss == pytest.approx(loss, rel=1e-4)


def test_half_precision_and_folding_change_the_loss_only_slightly(classifier, pets):
    images = open_split(pets, "val", FIT.transform())
    plain = score(classifier, images, None, ALONE)
    folded = score(classifier, images, None, replace(ALONE, folded=True))
    half = score(classifier, images, None, replace(ALONE, precision="bf16"))
    both = score(classifier, images, None, replace(ALONE, precision="bf16", folded=True))
    assert folded.loss == pytest.approx(plain.loss, rel=1e-4)
    assert half.loss == pytest.approx(plain.loss, rel=0.05)
    assert both.loss == pytest.approx(plain.loss, rel=0.05)
    assert half.loss != plain.loss
    other = replace(classifier, model=timm.create_model("test_convnext", num_classes=3))
    with pytest.raises(FovealError, match=r"there is nothing to fold\): leave --optimize out"):
        score(other, images, None, replace(ALONE, folded=True))


def test_published_values_match_the_papers():
    """Some values of each table; top-1 at 224 pixels is the same in every mode."""
    tiny = "transnext_tiny.in1k"
    assert SIZES == (224, 256, 320, 384, 480, 512, 640)
    assert [published(tiny, "val", "linear", (s, s)) for s in SIZES] == [84.0, 84.0, 83.9, 84.1, 83.0, 82.6, 80.7]
    assert [published("transnext_base.in1k", "val", None, (s, s)) for s in (224, 384, 640)] == [84.8, 85.5, 82.8]
    assert published("transnext_small.in1k", "val", "interpolate", (224, 224)) is None
    assert [published(tiny, name, None, (224, 224)) for name in ("c", "a", "r", "sketch", "v2")] == [
        46.5,
        39.9,
        49.6,
        37.6,
        73.8,
    ]
    assert published(tiny, "a", None, (256, 256)) is published(tiny, "a", "linear", (224, 224)) is None
    assert published("transnext_base.in1k_384", "a", "normal", (384, 384)) == 61.6
    assert published("transxnet_b.in1k", "v2", None, (224, 224)) == 75.0
    assert published("transxnet_b.in1k_384", "val", None, (384, 384)) == 85.5
    assert published("convnext_tiny.fb_in1k", "val", None, (224, 224)) is None


@pytest.mark.parametrize(
    ("model", "size", "weights"),
    [
        ("transnext_small", 224, "transnext_small.in1k"),
        ("transnext_small", 384, "transnext_small.in1k_384"),
        ("transnext_micro_aaaa", 256, "transnext_micro_aaaa.in1k_256"),
        ("transxnet_b", 384, "transxnet_b.in1k_384"),
        ("transnext_tiny", 640, "transnext_tiny.in1k"),
        ("transnext_atto", 224, None),
    ],
)
def test_released_weights_are_selected_by_size(model, size, weights):
    assert released_name(model, (size, size)) == weights
