"""examples/serving: right answers in batches, one sentence for what is no image, and a server that stays alive."""

import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.exported_classifier import SIZE, probabilities

SERVE = Path(__file__).parents[2] / "examples" / "serving" / "serve.py"
SECONDS = 90  # to start, on a machine that other tests load


class Server:
    """A running serve.py, and questions to it."""

    def __init__(self, path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [sys.executable, str(SERVE), str(path), "--port", str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, method, where, content=None):
        """Return (status, headers, body) of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, where, content)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def classify(self, content):
        status, headers, body = self.ask("POST", "/predict", content)
        return status, headers, json.loads(body)

    def wait_until_healthy(self):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, "the server ended"
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except ConnectionError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not healthy in {SECONDS} s")

    def children(self):
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")  # each lists what it started itself
        return [int(child) for thread in threads for child in thread.read_text().split()]

    def worker(self):
        spawned = [pid for pid in self.children() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(spawned) == 1
        return spawned[0]

    def peak_memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def server(exported):
    one = Server(exported)
    try:
        one.wait_until_healthy()
        yield one
    finally:
        ended(one)
        one.process.kill()


def ended(server):
    """Whether the server and its processes end after SIGTERM."""
    children = server.children()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    until = time.monotonic() + 10
    while any(map(running, children)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(running, children))


def running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def encoded(image, form="PNG"):
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def noise(seed, width=96, height=80):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def header_of(width, height):
    """A PNG that says its size and stops."""
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")
    chunks = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def agrees(answer, right):
    """Whether an answer is the five most likely classes, in order, with their probabilities."""
    best = sorted(right, key=right.get, reverse=True)[:5]
    given = answer["classes"]
    near = [one["probability"] == pytest.approx(right[one["name"]], abs=1e-4) for one in given]
    return [one["name"] for one in given] == best and all(near)


def test_many_requests_at_once_get_the_answers_of_onnxruntime(server, exported):
    images = [noise(seed) for seed in range(6)]
    rights = [probabilities(exported, image) for image in images]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(server.classify, [encoded(image) for image in images] * 4))
    assert [status for status, _, _ in answers] == [200] * 24
    for (_, _, answer), right in zip(answers, rights * 4):
        assert agrees(answer, right)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1, 1), (200, 30, 90)),
        noise(1).convert("L"),
        noise(2).convert("P"),
        noise(3).resize((900, SIZE)),
    ],
    ids=["one pixel", "grey", "palette", "long"],
)
def test_images_of_other_modes_and_shapes_are_classified_as_rgb(server, exported, image):
    status, _, answer = server.classify(encoded(image))
    assert status == 200
    assert agrees(answer, probabilities(exported, image))


def test_of_sixteen_bits_the_upper_eight_count(server, exported):
    levels = np.random.default_rng(0).integers(0, 2**16, (70, 70), np.uint16)
    status, _, answer = server.classify(encoded(Image.fromarray(levels)))
    assert status == 200
    assert agrees(answer, probabilities(exported, Image.fromarray((levels // 256).astype(np.uint8))))


def test_a_photograph_is_turned_upright(server, exported):
    image, exif = noise(4), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    _, _, answer = server.classify(file.getvalue())
    assert agrees(answer, probabilities(exported, image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"The quick brown fox.", 415, "not an image"),
        (b"", 415, "not an image"),
        (encoded(noise(0))[:9000], 422, "cut off or damaged"),
        (encoded(noise(0), "JPEG")[:1500], 422, "cut off or damaged"),
        (encoded(Image.new("L", (1, 30_000))), 422, "too narrow"),
        (encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), 422, "32 bits per pixel"),
        (bytes(17 * 2**20), 413, "at most 16,777,216 bytes"),
    ],
    ids=["text", "nothing", "cut PNG", "cut JPEG", "a line", "floats", "many bytes"],
)
def test_what_is_no_image_is_refused_in_one_sentence(server, content, status, words):
    given, _, answer = server.classify(content)
    assert given == status
    assert words in answer["error"]
    assert answer["error"].count(".") == 1
    assert server.ask("GET", "/health")[0] == 200


def test_the_header_is_checked_before_memory_is_taken_for_the_pixels(server):
    server.classify(encoded(noise(0)))
    before = server.peak_memory()
    status, _, answer = server.classify(header_of(20_000, 20_000))
    assert status == 413
    assert "20000 x 20000" in answer["error"]
    assert server.peak_memory() - before < 64 * 2**20  # its pixels would take 1.2 GB


def test_requests_beyond_those_that_may_wait_are_sent_again(server):
    content, unfinished = encoded(noise(0)), b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
    try:
        for one in slow:
            one.sendall(unfinished)
        until = time.monotonic() + 10
        while (answer := server.classify(content))[0] == 200 and time.monotonic() < until:
            time.sleep(0.05)  # until all of them have arrived
    finally:
        for one in slow:
            one.close()
    status, headers, refusal = answer
    assert (status, headers["Retry-After"]) == (503, "1")
    assert refusal["error"] == "Too many requests wait: send it again."
    until = time.monotonic() + 10
    while server.classify(content)[0] != 200:
        assert time.monotonic() < until, "those that were given up still count"
        time.sleep(0.05)


def test_after_a_worker_was_killed_every_request_is_answered_or_may_be_sent_again(server, exported):
    image = noise(5)
    content, right = encoded(image), probabilities(exported, image)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.classify, content) for _ in range(40)]
        victim = server.worker()
        os.kill(victim, signal.SIGKILL)
        answers = [one.result() for one in asked]
    for status, headers, answer in answers:
        assert status in (200, 503)
        assert agrees(answer, right) if status == 200 else headers["Retry-After"] == "1"
    server.wait_until_healthy()
    assert server.worker() != victim
    status, _, answer = server.classify(content)
    assert status == 200
    assert agrees(answer, right)


def test_the_server_and_its_processes_end_when_told_to(exported):
    one = Server(exported)
    try:
        one.wait_until_healthy()
        assert len(one.children()) >= 2
        assert ended(one)
        assert one.process.returncode == 0
    finally:
        one.process.kill()


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (81, 40)], ids=str)
def test_images_are_resized_as_the_library_does(size):
    from foveal.runtime.card import Resizing
    from foveal.runtime.images import fit

    spec = importlib.util.spec_from_file_location("serve", SERVE)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    how = Resizing(0.875, False, "bicubic", (0.5,) * 3, (0.5,) * 3)
    card = {"input": {"size": size}, "resizing": asdict(how)}
    draw = np.random.default_rng(0)
    for height, width in draw.integers(20, 200, (60, 2)):
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))
        np.testing.assert_array_equal(
            serve.preprocess(image, card), np.asarray(fit(image, how, size)), f"{height}, {width}"
        )
