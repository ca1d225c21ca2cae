"""examples/browser: the page gives the classes and probabilities of ONNX Runtime in Python, and says what is wrong."""

import io
import os
import re
import shutil
import subprocess
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.chromium import Chromium, Tab, find_chromium
from support.exported_classifier import probabilities

FOLDER = Path(__file__).parents[2] / "examples" / "browser"
FILL = re.search(r"^npm pack (onnxruntime-web@\S+) .*$", (FOLDER / "README.md").read_text(), re.M)
CLASSES = """[...document.querySelectorAll('#classes li')].map((item) =>
    [item.querySelector('.class').textContent, Number(item.dataset.probability)])"""
ERROR = "document.getElementById('error').textContent"
READY = "document.readyState === 'complete' && !document.getElementById('photo').disabled"
ANSWERED = "/^[0-9]+ ms:/.test(document.getElementById('status').textContent)"

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine, which onnxruntime-web comes by"),
]


@pytest.fixture(scope="module")
def runtime():
    """The two files of onnxruntime-web, by the README's own command; kept for the next run."""
    kept = Path(tempfile.gettempdir()) / f"foveal-{FILL[1].replace('@', '-')}"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            subprocess.run(["bash", "-ec", FILL[0]], cwd=folder, check=True, capture_output=True, timeout=240)
            try:
                os.rename(Path(folder) / "ort", kept)
            except OSError:
                assert kept.is_dir()  # another process was faster
    return kept


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory, exported, runtime):
    folder = tmp_path_factory.mktemp("site") / "browser"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("ort", "*.onnx"))
    (folder / "ort").symlink_to(runtime)
    shutil.copy(exported, folder / "model.onnx")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    one = Chromium(find_chromium())
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(browser, site):
    """The page with its network, opened once: onnxruntime-web has 14 MB."""
    tab = Tab(browser, site)
    tab.wait(READY)
    yield tab
    tab.close()


def asked(tab, path):
    tab.run("document.getElementById('status').textContent = document.getElementById('error').textContent = ''")
    tab.choose_file("#photo", path)
    tab.wait(f"{ANSWERED} || {ERROR}")
    return tab.run(CLASSES)


def astronaut():
    from skimage import data

    return Image.fromarray(data.astronaut())


def china():
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "image"),
    [("astronaut.png", astronaut), ("china.jpg", china)]
    + [(f"{w}x{h}.png", partial(noise, w, h)) for w, h in ((301, 97), (40, 55), (73, 600), (1, 1))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_probabilities_are_those_of_python(page, exported, tmp_path, name, image):
    path = tmp_path / name
    image().save(path, quality=90)
    right = probabilities(exported, Image.open(path))
    given = asked(page, path)
    assert [one for one, _ in given] == sorted(right, key=right.get, reverse=True)[:5]
    assert [share for _, share in given] == pytest.approx([right[one] for one, _ in given], abs=1e-3)


def test_photographs_are_upright(page, exported, tmp_path):
    image, exif = china(), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    right = probabilities(exported, image.transpose(Image.Transpose.ROTATE_270))
    given = asked(page, tmp_path / "turned.png")
    assert dict(given) == pytest.approx({one: right[one] for one, _ in given}, abs=1e-3)


@pytest.mark.parametrize("cut", [False, True], ids=["text", "cut"])
def test_what_is_no_image_is_refused_in_one_sentence(page, tmp_path, cut):
    file = io.BytesIO()
    noise(90, 90).save(file, "PNG")
    path = tmp_path / "notes.png"
    path.write_bytes(file.getvalue()[:40] if cut else b"The quick brown fox.")
    asked(page, path)
    assert page.run(ERROR) == "notes.png is not an image that this browser can read."
    assert page.run("document.getElementById('result').hidden")
    china().save(tmp_path / "china.png")
    assert len(asked(page, tmp_path / "china.png")) == 5
    assert page.run(ERROR) == ""


def test_a_network_that_is_missing_is_named_and_may_be_chosen(browser, site, exported, tmp_path):
    tab = Tab(browser, f"{site}?model=nothing.onnx")
    message = tab.wait(f"document.readyState === 'complete' && {ERROR}")
    assert message == "There is no network at nothing.onnx: put one there, or choose a file."
    tab.choose_file("#model", exported)
    tab.wait(READY)
    china().save(tmp_path / "china.png")
    assert len(asked(tab, tmp_path / "china.png")) == 5
    tab.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda file: b"The quick brown fox.", "not an ONNX file."),
        (lambda file: file[: len(file) // 2], "cut off or not an ONNX file."),
        (lambda file: file.replace(b"foveal", b"others"), "does not describe itself: write it with foveal export."),
    ],
    ids=["text", "cut", "no card"],
)
def test_a_file_that_is_no_exported_classifier_is_refused_in_one_sentence(page, exported, tmp_path, content, words):
    (tmp_path / "other.onnx").write_bytes(content(exported.read_bytes()))
    page.run("document.getElementById('error').textContent = ''")
    page.choose_file("#model", tmp_path / "other.onnx")
    assert page.wait(ERROR).endswith(words)
    china().save(tmp_path / "china.png")
    assert len(asked(page, tmp_path / "china.png")) == 5  # by the network that was there


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_the_window(page, tmp_path, width, dark):
    path = tmp_path / "a photograph with a name that is rather long, as cameras and people give them.jpg"
    china().save(path)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])
    asked(page, path)
    assert page.run("document.documentElement.scrollWidth") == width
    if shots := os.environ.get("FOVEAL_SCREENSHOTS"):
        page.screenshot(Path(shots) / f"browser-{width}-{'dark' if dark else 'light'}.png")


def test_everything_is_reached_by_keyboard(page):
    page.run("document.activeElement.blur(); document.getElementById('photo').focus()")
    label = "getComputedStyle(document.querySelector('label[for=photo]'))"
    page.press("Tab")
    assert page.run("document.activeElement.id") == "model"
    assert page.run(f"{label.replace('photo', 'model')}.outlineStyle") == "solid"
    assert page.run(f"{label}.outlineStyle") == "none"
