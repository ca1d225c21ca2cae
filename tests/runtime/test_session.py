"""Exported files in their runtimes: answers, shapes, and one sentence for each file that cannot be run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import foveal
from foveal.errors import FovealError
from foveal.runtime import open_session
from foveal.runtime.card import Card, Resizing
from support.exported import SIDE, card, linear_logits, write_linear

ENDINGS = [".onnx", ".xml"]


def images(count, side=SIDE, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32) + 1


def close(logits, expected):
    """Float32 rounds to 6e-8; a sum of products of both signs keeps a few of these of its largest term."""
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_images_runs_whatever_the_batch_of_the_file(tmp_path, ending, batch, count):
    session = open_session(write_linear(tmp_path / f"a{ending}", card(batch=batch)), threads=1)
    given = images(count)
    found = session.run(given)
    assert list(found) == ["logits"]
    assert found["logits"].shape == (count, 10)
    close(found["logits"], linear_logits(given))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_any_size_runs_at_others(tmp_path, ending):
    session = open_session(write_linear(tmp_path / f"a{ending}", card(any_size=True)))
    for side in (SIDE, 77):
        close(session.run(images(2, side))["logits"], linear_logits(images(2, side)))
    with pytest.raises(FovealError) as error:  # the network refuses them, the file would answer
        session.run(images(2, 63))
    assert one_sentence(error, "takes images of at least 64 pixels, not 63 x 63")


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_need_not_be_contiguous(tmp_path, ending):
    session = open_session(write_linear(tmp_path / f"a{ending}"))
    channels_last = np.ascontiguousarray(images(2).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    close(session.run(channels_last)["logits"], linear_logits(images(2)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_card_is_that_of_the_file(tmp_path, ending):
    written = card(classes=("Löwe", 'a "b" <c> & 日本', *map(str, range(8))), settings={"a": [1, None]}, batch=2)
    assert open_session(write_linear(tmp_path / f"a{ending}", written)).card == written


@pytest.mark.parametrize("ending", ENDINGS)
def test_answers_of_earlier_runs_stay(tmp_path, ending):
    session = open_session(write_linear(tmp_path / f"a{ending}", card(batch=1)))
    first = session.run(images(1))["logits"]
    session.run(images(1, seed=1))
    close(first, linear_logits(images(1)))


def test_openvino_computes_files_of_fp32_in_fp32(tmp_path):
    """Where a processor has bfloat16 instructions its own choice is bfloat16, which keeps 3 digits."""
    session = open_session(write_linear(tmp_path / "a.xml"))
    hint = session._runtime._compiled.get_property("INFERENCE_PRECISION_HINT")
    assert hint.to_string() == "f32"


def test_openvino_computes_files_of_bf16_in_bf16_if_the_processor_can(tmp_path):
    import openvino

    can = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    session = open_session(write_linear(tmp_path / "a.xml", card(precision="bf16")))
    hint = session._runtime._compiled.get_property("INFERENCE_PRECISION_HINT")
    assert hint.to_string() == ("bf16" if can else "f32")
    forced = open_session(tmp_path / "a.xml", precision="fp32")
    assert forced._runtime._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        (images(2)[0], "(3, 64, 64) float32"),
        (images(2)[:, :1], "(2, 1, 64, 64) float32"),
        (images(2, 32), "(2, 3, 32, 32) float32"),
        (images(2).astype(np.float64), "(2, 3, 64, 64) float64"),
        (images(2).astype(np.uint8), "(2, 3, 64, 64) uint8"),
        (images(0), "(0, 3, 64, 64) float32"),
        (images(2).tolist(), "list"),
    ],
    ids=["no batch", "one channel", "size", "double", "bytes", "none", "list"],
)
def test_images_of_another_shape_or_type_are_refused_before_the_runtime(tmp_path, ending, given, named):
    session = open_session(write_linear(tmp_path / f"a{ending}"))
    with pytest.raises(FovealError) as error:
        session.run(given)
    assert one_sentence(error, f"a{ending} takes ", "(B, 3, 64, 64) float32", f"not {named}")


def one_sentence(error, *parts):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert re.search(r"src/|Exception from|\[ONNXRuntimeError\]|\.cc:|\.cpp:", text) is None
    return all(part in text for part in parts)


def refused(path, *parts, **options):
    with pytest.raises(FovealError) as error:
        open_session(path, **options)
    assert one_sentence(error, *parts), str(error.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_is_named(tmp_path, ending):
    refused(tmp_path / f"a{ending}", f"There is no file at {tmp_path / f'a{ending}'}")
    (tmp_path / f"a{ending}").mkdir()
    refused(tmp_path / f"a{ending}", "There is no file at")


def test_another_ending_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"weights")
    refused(tmp_path / "a.pt", "a.pt is not an exported file by its name: pass FILE.onnx or FILE.xml.")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_cut_file_is_damaged(tmp_path, ending, share):
    path = write_linear(tmp_path / f"a{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, f"a{ending}", "damaged")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_text_is_damaged(tmp_path, ending):
    path = write_linear(tmp_path / f"a{ending}")
    path.write_text("<html><body>Not found</body></html>")
    refused(path, f"a{ending}", "damaged")


def test_cut_weights_of_openvino_are_damaged(tmp_path):
    path = write_linear(tmp_path / "a.xml")
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-8])
    refused(path, "a.xml or a.bin is damaged")
    weights.unlink()
    refused(path, "a.xml keeps its weights in a.bin, which is not beside it: copy both files.")


def test_weights_of_an_onnx_file_may_be_beside_it(tmp_path):
    path = write_linear(tmp_path / "a.onnx", external=True)
    close(open_session(path).run(images(1))["logits"], linear_logits(images(1)))
    data = tmp_path / "a.onnx.data"
    data.write_bytes(data.read_bytes()[:-8])
    refused(path, "a.onnx", "damaged")
    data.unlink()
    refused(path, "a.onnx keeps its weights in a.onnx.data, which is not beside it: copy both files.")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_without_a_card_is_not_of_foveal(tmp_path, ending):
    refused(write_linear(tmp_path / f"a{ending}", None), f"a{ending} was not written by foveal export: ")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_card_that_cannot_be_read_is_said_so(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(Card, "text", lambda self: '{"task": "depth"}')
    path = write_linear(tmp_path / f"a{ending}")
    advice = "update foveal, or export the network again."
    refused(path, f"The description in {path} is damaged or of a newer version: {advice}")


@pytest.mark.parametrize(
    "changes",
    [
        dict(resizing=Resizing(0.9, False, "bicubic", (0.5, 0.5), (0.2, 0.2))),
        dict(resizing=Resizing(0.0, False, "bicubic", (0.5,) * 3, (0.2,) * 3)),
        dict(resizing=Resizing(0.9, False, "bicubic", (0.5,) * 3, (0.2, 0.0, 0.2))),
        dict(size=(0, 64)),
    ],
    ids=str,
)
def test_numbers_that_no_file_has_are_refused(changes):
    with pytest.raises(FovealError, match="The description in a is damaged or of a newer version"):
        Card.of(card(**changes).text(), "a")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("written", "changes"),
    [
        ({}, {"name": "x"}),
        ({}, {"outputs": ("scores",)}),
        ({}, {"channels": 1, "resizing": Resizing(0.875, False, "bicubic", (0.5,), (0.5,))}),
        ({}, {"size": (32, 32)}),
        ({}, {"any_size": True}),
        ({"batch": 2}, {"batch": None}),
        ({"batch": 2}, {"batch": 1}),
    ],
)
def test_a_card_of_another_file_is_refused(tmp_path, ending, written, changes):
    path = write_linear(tmp_path / f"a{ending}", card(**written), says=card(**{**written, **changes}))
    refused(path, "has other inputs and outputs than its description")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_card_may_promise_less_than_its_file_takes(tmp_path, ending):
    path = write_linear(tmp_path / f"a{ending}", card(any_size=True), says=card(batch=2))
    close(open_session(path).run(images(3))["logits"], linear_logits(images(3)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_of_the_runtime_is_one_sentence(tmp_path, ending):
    """Without our check of the size, the runtime is given images that it does not take."""
    session = open_session(write_linear(tmp_path / f"a{ending}", card(batch=2)))
    object.__setattr__(session.card.input, "any_size", True)
    with pytest.raises(FovealError) as error:
        session.run(images(2, 96))
    assert one_sentence(error, "cannot run ", "(2, 3, 96, 96)")


def test_options_that_make_no_sense_are_refused(tmp_path):
    path = write_linear(tmp_path / "a.onnx")
    refused(path, "threads must be a whole number from 1 to 1,024, not 0.", threads=0)
    refused(path, "precision must be fp32 or bf16, not int4.", precision="int4")
    refused(path, "ONNX Runtime computes ", "as it is, in fp32", precision="bf16")


@pytest.mark.parametrize(("ending", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_missing_runtime_is_named_with_the_extra_to_install(tmp_path, monkeypatch, ending, package):
    path = write_linear(tmp_path / f"a{ending}")
    monkeypatch.setitem(sys.modules, package, None)
    refused(path, 'install it with `pip install "foveal[export]"`.')


SIGNALLED = """
import gc, signal, sys
from foveal.runtime import open_session
first, second = open_session(sys.argv[1]), open_session(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGTERM, lambda *about: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_signals_are_handled_after_sessions_were_closed(tmp_path, ending):
    path = write_linear(tmp_path / f"a{ending}")
    done = subprocess.run([sys.executable, "-c", SIGNALLED, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


WITHOUT_TORCH = """
import importlib.machinery, sys, types
import numpy as np
for name in ("torch", "timm", "torchvision"):
    sys.modules[name] = None
foveal = types.ModuleType("foveal")  # its __init__ registers models, with torch
foveal.__path__ = [{source!r}]
sys.modules["foveal"] = foveal
from foveal.image_files import decode_limited
from foveal.runtime.classification import predict
from foveal.runtime.session import open_session
for path in {paths!r}:
    session = open_session(path)
    print(predict(session, [{image!r}], top_k=1)[0].guesses[0].index, session.run(np.load({arrays!r}))["logits"].sum())
decode_limited(open({image!r}, "rb").read(), "a")
"""


def test_exported_files_run_where_torch_is_not_installed(tmp_path):
    from PIL import Image

    paths = [str(write_linear(tmp_path / f"a{ending}")) for ending in ENDINGS]
    given = images(2)
    np.save(tmp_path / "images.npy", given)
    Image.new("RGB", (80, 70), (255, 0, 0)).save(tmp_path / "a.png")
    code = WITHOUT_TORCH.format(
        source=str(Path(foveal.__file__).parent), paths=paths, image=str(tmp_path / "a.png"),
        arrays=str(tmp_path / "images.npy"),
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    normalised = (np.array([1, 0, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    best = int(linear_logits(normalised[None, :, None, None]).argmax())
    for line in done.stdout.splitlines():
        index, total = line.split()
        assert int(index) == best
        assert float(total) == pytest.approx(linear_logits(given).sum(), rel=1e-4)
    assert len(done.stdout.splitlines()) == 2
