"""How far a browser's own resizing moves a classifier's probabilities, next to that of examples/browser.

    PYTHONPATH=tests python benchmarks/canvas_resizing.py FILE.onnx

Needs Chromium, and the packages of the extras dense, train and export. Images: scikit-image's astronaut and
scikit-learn's china. Every row is the largest difference in a probability from Pillow's resizing, and in a pixel.
"""

import argparse
import base64
import io
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from support.chromium import Chromium, Tab, find_chromium

FOLDER = Path(__file__).parents[1] / "examples" / "browser"
READ = """const [w, h] = [%d, %d], bytes = Uint8Array.from(atob('%s'), (letter) => letter.charCodeAt(0));
const file = new File([bytes], 'image.png');
const draw = async (quality) => {
  const bitmap = await createImageBitmap(file), context = new OffscreenCanvas(w, h).getContext('2d');
  Object.assign(context, {imageSmoothingQuality: quality});
  context.drawImage(bitmap, 0, 0, w, h);
  return context.getImageData(0, 0, w, h).data;
};"""
WAYS = {
    "canvas, imageSmoothingQuality low (default)": "draw('low')",
    "canvas, imageSmoothingQuality high": "draw('high')",
    "createImageBitmap, resizeQuality high": """createImageBitmap(file, {resizeWidth: w, resizeHeight: h,
        resizeQuality: 'high'}).then((bitmap) => {const context = new OffscreenCanvas(w, h).getContext('2d');
        context.drawImage(bitmap, 0, 0); return context.getImageData(0, 0, w, h).data;})""",
    "examples/browser": """import('/preprocess.js').then(async (own) =>
        own.resize(await own.decode(file), w, h, 'bicubic').data)""",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def shares(session: onnxruntime.InferenceSession, card: dict, pixels: np.ndarray) -> np.ndarray:
    """Return the probabilities of an image (height, width, 3) that has been resized, for its centre crop."""
    height, width = card["input"]["size"]
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    x = pixels[top : top + height, left : left + width].transpose(2, 0, 1) / np.float32(255)
    mean, std = (np.float32(card["resizing"][name])[:, None, None] for name in ("mean", "std"))
    (logits,) = session.run(None, {card["input"]["name"]: ((x - mean) / std)[None]})
    powers = np.exp(logits[0] - logits[0].max())
    return powers / powers.sum()


def measure(path: str) -> None:
    """Print a row per image and way of resizing."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["foveal"])
    short = int(card["input"]["size"][0] / card["resizing"]["crop"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=FOLDER))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Chromium(find_chromium())
    tab = Tab(browser, f"http://127.0.0.1:{server.server_port}/style.css")
    tab.wait("document.readyState === 'complete'")
    for name, pixels in (("astronaut", data.astronaut()), ("china", load_sample_image("china.jpg"))):
        image, file = Image.fromarray(pixels), io.BytesIO()
        image.save(file, "PNG")
        size = tuple(int(side * short / min(image.size)) for side in image.size)
        right = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        before = shares(session, card, right)
        for way, script in WAYS.items():
            read = READ % (*size, base64.b64encode(file.getvalue()).decode())
            values = tab.run(f"(async () => {{ {read} return Array.from(await {script}); }})()")
            given = np.array(values, np.uint8).reshape(size[1], size[0], 4)[..., :3]
            after, apart = shares(session, card, given), np.abs(given.astype(int) - right).max()
            first = "same class" if before.argmax() == after.argmax() else "OTHER CLASS"
            print(f"{name:10} {way:44} probability {np.abs(after - before).max():.4f}, pixel {apart:3}, {first}")
    browser.close()
    server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="an exported classifier")
    measure(parser.parse_args().file)
