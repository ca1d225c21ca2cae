"""Serve an exported classifier over HTTP: post an image, get its most likely classes.

    python serve.py FILE.onnx
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

LitServe gathers the requests that wait into one batch for ONNX Runtime. The file needs neither foveal nor PyTorch:
what it says about itself, the card, is in its metadata. Images are checked and decoded before they are queued, so that
a refused one never fails the batch of others.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import struct
from typing import Annotated, Any

import litserve as ls
import numpy as np
import onnxruntime
from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from PIL import Image, ImageOps
from starlette.exceptions import HTTPException

MAX_BYTES = 16 * 2**20  # of a request
MAX_PIXELS = 50_000_000  # of an image; checked in its header, before memory for the pixels is taken
MAX_WAITING = 64  # requests at a time, so that memory is bounded
SECONDS = 20  # to answer a request, from its first byte
TOP = 5
WATCH_SECONDS = 0.2  # between two looks at whether the workers live
BROKEN = (OSError, SyntaxError, ValueError, LookupError, EOFError, OverflowError, struct.error)  # what Pillow raises

decoding = asyncio.Semaphore(2)  # images decoded at a time
server: ls.LitServer


def open_session(path: str, threads: int) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """Return a session of an exported classifier and its card."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no common class
        raise SystemExit(f"{path} cannot be opened: {error}") from error
    text = session.get_modelmeta().custom_metadata_map.get("foveal")
    if text is None:
        raise SystemExit(f"{path} does not describe itself: write it with `foveal export`.")
    card = json.loads(text)
    if card["task"] != "classification":
        raise SystemExit(f"{path} is for {card['task']}: this example serves classifiers.")
    if card["input"]["batch"] not in (None, 1):
        raise SystemExit(f"{path} takes {card['input']['batch']} images at a time: export it for any number.")
    return session, card


def preprocess(image: Image.Image, card: dict[str, Any]) -> np.ndarray:
    """Return an image as (height, width, 3) uint8 in the size of the network."""
    (height, width), how = card["input"]["size"], card["resizing"]
    method = Image.Resampling[how["interpolation"].upper()]
    if how["whole"]:
        return np.asarray(image.resize((width, height), method))
    tall, wide = int(height / how["crop"]), int(width / how["crop"])
    if tall != wide:  # timm rounds so, and torchvision cuts for squares
        ratio = min(image.height / tall, image.width / wide)
        size = (round(image.width / ratio), round(image.height / ratio))
    elif image.height <= image.width:
        size = (int(image.width * tall / image.height), tall)
    else:
        size = (wide, int(image.height * wide / image.width))
    if max(size) > 20_000:
        raise HTTPException(422, "The image is too narrow for this network: crop it.")
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return np.asarray(image.resize(size, method).crop((left, top, left + width, top + height)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image upright, as RGB with 8 bits per channel."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        levels = (np.asarray(image) >> 8).astype(np.uint8)  # Pillow would clip 16 bits instead
        return Image.fromarray(levels).convert("RGB")
    if image.mode in ("I", "F"):
        raise HTTPException(422, "The image has 32 bits per pixel, of unknown range: send one of 8 or 16.")
    return ImageOps.exif_transpose(image).convert("RGB")


def decode(content: bytes, card: dict[str, Any]) -> np.ndarray:
    """Return the pixels of an image file, or raise the refusal as an HTTPException."""
    Image.MAX_IMAGE_PIXELS = None  # the check below is stricter, and a sentence
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise HTTPException(413, f"The image has {size}: send at most {MAX_PIXELS:,} pixels.")
            return preprocess(to_rgb(image), card)
    except Image.UnidentifiedImageError as error:
        raise HTTPException(415, "The request is not an image: send the bytes of a JPEG, PNG or WebP.") from error
    except BROKEN as error:
        raise HTTPException(422, "The image cannot be decoded: it is cut off or damaged.") from error


async def read_image(request: Request) -> np.ndarray:
    """Read a request piece by piece, no further than MAX_BYTES, and decode it outside of the event loop."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"The request is too large: send at most {MAX_BYTES:,} bytes.")
    async with decoding:
        return await asyncio.to_thread(decode, bytes(content), request.app.state.card)


class Classifier(ls.LitAPI):
    """What a worker process does with a batch."""

    def __init__(self, path: str, threads: int, **batching: Any):
        super().__init__(**batching)
        self.path, self.threads = path, threads

    def setup(self, device: str) -> None:
        self.session, self.card = open_session(self.path, self.threads)
        self.mean, self.std = (np.float32(self.card["resizing"][name])[:, None, None] for name in ("mean", "std"))

    def health(self) -> bool:
        """Whether every worker lives: LitServe's own answer stays "ok" until its monitor has looked."""
        return all(worker.is_alive() for worker in server.inference_workers)

    def decode_request(self, request: Annotated[np.ndarray, Depends(read_image)]) -> np.ndarray:
        return (request.transpose(2, 0, 1) / np.float32(255) - self.mean) / self.std

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def predict(self, x: np.ndarray) -> np.ndarray:
        images = x if x.ndim == 4 else x[None]  # LitServe does not call batch() if batches hold one image
        (logits,) = self.session.run([self.card["outputs"][0]], {self.card["input"]["name"]: images})
        if self.card.get("settings", {}).get("multi_label"):  # each class has a probability of its own
            shares = 1 / (1 + np.exp(-logits))
        else:
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
        return shares if x.ndim == 4 else shares[0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        best = np.argsort(-output)[:TOP]
        return {"classes": [{"name": self.card["classes"][i], "probability": float(output[i])} for i in best]}


def again(why: str) -> JSONResponse:
    """Return the refusal of a request that had no effect, and may therefore be sent again."""
    return JSONResponse({"error": f"{why}: send it again."}, 503, {"Retry-After": "1"})


class Patience:
    """Refuse requests beyond MAX_WAITING, and end those that are not answered in time.

    LitServe checks its own timeout when a worker takes a request: one that was lost with a worker would wait for ever.
    """

    def __init__(self, app: Any):
        self.app, self.waiting = app, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] == "GET":
            return await self.app(scope, receive, send)
        if self.waiting >= MAX_WAITING:
            return await again("Too many requests wait")(scope, receive, send)
        self.waiting += 1
        try:
            await asyncio.wait_for(self.app(scope, receive, send), SECONDS)
        except asyncio.TimeoutError:
            await again(f"There was no answer in {SECONDS} seconds")(scope, receive, send)
        finally:
            self.waiting -= 1


async def refuse(request: Request, error: HTTPException) -> JSONResponse:
    """Answer with one sentence. LitServe's 500 is a worker that ended or failed."""
    if error.status_code == 500:
        return again("The worker ended before it answered")
    return JSONResponse({"error": error.detail}, error.status_code)


def create_server(path: str, workers: int, batch: int) -> ls.LitServer:
    """Return a server of an exported file."""
    _, card = open_session(path, 1)
    threads = max(1, (os.cpu_count() or 1) // workers)
    api = Classifier(path, threads, max_batch_size=card["input"]["batch"] or batch, batch_timeout=0.002)
    watched = {"restart_workers": True, "timeout": SECONDS, "middlewares": [Patience]}
    one = ls.LitServer(api, accelerator="cpu", workers_per_device=workers, **watched)
    one.monitor_internal = WATCH_SECONDS
    one.app.state.card = card
    one.app.add_exception_handler(HTTPException, refuse)
    return one


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="an exported classifier")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1: this machine alone; 0.0.0.0: all")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes that run the network")
    parser.add_argument("--batch", type=int, default=8, help="images per call of the network, at most")
    given = parser.parse_args()
    server = create_server(given.file, given.workers, given.batch)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # LitServe ends its workers after Ctrl-C alone
    # Threads: with processes, LitServe does not find the requests of a worker that ended, and they are never answered.
    server.run(given.host, given.port, num_api_servers=1, api_server_worker_type="thread", generate_client_file=False)
    os._exit(0)  # LitServe has ended its workers, but cannot end a thread of its own
