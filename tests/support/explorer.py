"""A running explorer, and clients of it."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from foveal.app.networks import Network
from foveal.app.session import Sessions


@dataclass
class Explorer:
    """A server in this process."""

    address: str
    sessions: Sessions
    networks: dict[str, Network]

    def client(self) -> Client:
        return Client(self.address)


@dataclass
class Client:
    """Somebody with a session of their own."""

    address: str
    session: str = field(init=False)

    def __post_init__(self) -> None:
        self.session = json.loads(self.post("session", b"")[1])["session"]

    def post(self, what: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        named = {"X-Foveal-Session": getattr(self, "session", "")} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        request = urllib.request.Request(f"{self.address}api/{what}", body, named, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ask(self, what: str, **question: Any) -> Any:
        """Return the answer, with arrays; whatever it is."""
        _, content = self.post(what, json.dumps(question).encode())
        return json.loads(content, object_hook=_array)

    def open(self, image: Image.Image, name: str = "a.png") -> Any:
        return json.loads(self.post("image", png(image), X_Foveal_Name=name)[1])


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noise(seed: int, height: int = 70, width: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _array(value: dict) -> Any:
    if "float32" not in value:
        return value
    return np.frombuffer(base64.b64decode(value["float32"]), "<f4").reshape(value["shape"])
