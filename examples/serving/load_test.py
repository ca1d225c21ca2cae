"""Load the server of serve.py on this machine: requests per second, latency, errors, and what a killed worker loses.

    python load_test.py FILE.onnx [--clients 8] [--seconds 20] [--kill]

It starts the server itself, sends generated photographs, and compares every answer with that of ONNX Runtime called
directly. Stretches of both alternate, so that their ratio is of one run. Linux alone, for --kill.
"""

import argparse
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import serve
from PIL import Image

STRETCH = 2.0  # seconds of either, in turn
TOLERANCE = 1e-3  # in a probability: batches of other sizes round differently
PAUSE = 0.2  # before a refused request is sent again


def photographs(count: int = 8, width: int = 640, height: int = 427) -> list[bytes]:
    """Return JPEG files of smooth noise in the size of a small photograph."""
    files, random = [], np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 18, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


class Direct:
    """The same work without a server: an image at a time is decoded and classified."""

    def __init__(self, path: str):
        self.classifier = serve.Classifier(path, os.cpu_count() or 1, max_batch_size=2)  # LitServe warns at 1
        self.classifier.setup("cpu")

    def __call__(self, photograph: bytes) -> list[dict]:
        one = self.classifier
        pixels = serve.decode(photograph, one.card)
        return one.encode_response(one.predict(one.decode_request(pixels)))["classes"]


@dataclass
class Tally:
    """What the clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: Counter = field(default_factory=Counter)  # answers other than 200, each sent again
    lost: int = 0  # requests without any answer of the server


class Client(threading.Thread):
    """Send one request after another, on one connection per stretch, until told to stop."""

    def __init__(self, port: int, files: list[bytes], answers: list[list[dict]], first: int, tally: Tally):
        super().__init__(daemon=True)
        self.port, self.files, self.answers, self.next, self.tally = port, files, answers, first, tally
        self.go, self.idle, self.ended = threading.Event(), threading.Event(), False
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def run(self) -> None:
        while not self.ended:
            if not self.go.is_set():
                self.connection.close()  # the server would, after some seconds without a request
                self.idle.set()
                self.go.wait(0.05)
                continue
            self.idle.clear()
            index = self.next % len(self.files)
            self.next += 1
            self.ask(self.files[index], self.answers[index])

    def ask(self, file: bytes, right: list[dict]) -> None:
        """Send a request until it is answered."""
        start = time.perf_counter()
        while True:
            try:
                self.connection.request("POST", "/predict", file)
                response = self.connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                self.connection.close()
                with self.tally.lock:
                    self.tally.lost += 1
                time.sleep(PAUSE)
                continue
            if response.status == 200:
                break
            with self.tally.lock:
                self.tally.refused[response.status] += 1
            time.sleep(PAUSE)
        took, given = time.perf_counter() - start, json.loads(content)["classes"]
        with self.tally.lock:
            self.tally.seconds.append(took)
            self.tally.wrong += not same(given, right)


def same(given: list[dict], right: list[dict]) -> bool:
    """Whether two answers agree up to rounding, which may exchange classes of nearly equal probability."""
    pairs = zip(given, right, strict=True)
    return all(abs(one["probability"] - other["probability"]) < TOLERANCE for one, other in pairs)


def start(path: str, workers: int) -> tuple[subprocess.Popen, int]:
    """Start the server on a free port and wait until it is healthy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = str(Path(serve.__file__).resolve())
    words = [sys.executable, script, path, "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.1)
    process.kill()
    raise SystemExit("The server did not start: run serve.py to see why.")


def worker_of(server: subprocess.Popen) -> int:
    """Return the process id of a worker: LitServe starts them by multiprocessing's spawn."""
    for thread in Path(f"/proc/{server.pid}/task").glob("*/children"):  # each lists what it started itself
        for pid in thread.read_text().split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise SystemExit("The server has no worker to kill.")


def measure(path: str, clients: int, seconds: float, workers: int, kill: bool) -> None:
    """Run the test and print its figures."""
    files, direct, tally = photographs(), Direct(path), Tally()
    answers = [direct(file) for file in files]
    server, port = start(path, workers)
    try:
        threads = [Client(port, files, answers, first, tally) for first in range(clients)]
        for thread in threads:
            thread.start()
        alone, served, spent = [], [], 0.0
        while spent < seconds:
            alone.append(stretch_alone(direct, files))
            killing = kill and spent <= seconds / 2 < spent + 2 * STRETCH
            served.append(stretch_served(threads, tally, server if killing else None))
            spent += 2 * STRETCH
        for thread in threads:
            thread.ended = True
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
    report(alone, served, tally, clients)


def stretch_alone(direct: Direct, files: list[bytes]) -> float:
    """Return images per second of direct calls."""
    start, count = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < STRETCH:
        direct(files[count % len(files)])
        count += 1
    return count / took


def stretch_served(threads: list[Client], tally: Tally, victim: subprocess.Popen | None) -> float:
    """Return answers per second, of all clients; a worker of ``victim`` is killed in the middle."""
    start, before = time.perf_counter(), len(tally.seconds)
    for thread in threads:
        thread.go.set()
    time.sleep(STRETCH / 2)
    if victim:
        os.kill(worker_of(victim), signal.SIGKILL)
    time.sleep(STRETCH / 2)
    for thread in threads:
        thread.go.clear()
        thread.idle.clear()
    for thread in threads:
        thread.idle.wait(60)
    return (len(tally.seconds) - before) / (time.perf_counter() - start)


def report(alone: list[float], served: list[float], tally: Tally, clients: int) -> None:
    """Print the figures."""
    ratio = statistics.median(one / other for one, other in zip(served, alone))
    p50, p99 = np.percentile(tally.seconds, [50, 99]) * 1000
    print(f"direct        {statistics.median(alone):.1f} images/s, one at a time")
    print(f"served        {statistics.median(served):.1f} requests/s with {clients} clients: {ratio:.2f} times direct")
    print(f"latency       p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {max(tally.seconds) * 1000:.0f} ms")
    print(f"answered      {len(tally.seconds)}, of which {tally.wrong} differ from ONNX Runtime called directly")
    refused = ", ".join(f"{count} times {status}" for status, count in tally.refused.items()) or "none"
    print(f"sent again    {refused}; without an answer: {tally.lost}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="an exported classifier")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=1, help="of the server")
    parser.add_argument("--kill", action="store_true", help="kill a worker midway")
    given = parser.parse_args()
    measure(given.file, given.clients, given.seconds, given.workers, given.kill)
