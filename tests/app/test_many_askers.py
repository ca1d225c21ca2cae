"""The explorer under many requests at once: nobody gets another's answer, and nobody's requests stop the others."""

import concurrent.futures
import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from urllib.parse import urlsplit

import numpy as np
import pytest

from foveal.app.networks import Network
from foveal.app.seen import Seen
from foveal.app.session import Overtaken, Session, SessionEnded
from foveal.explain import watch_mixers
from support.explorer import Client, noise, png

NEXT, XNET = "transnext_atto", "transxnet_atto"


@contextlib.contextmanager
def asking_again_and_again(ask):
    """Call ``ask`` in a thread for as long as the block runs."""
    stopped = threading.Event()

    def run():
        while not stopped.is_set():
            ask()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def asked_of_a_stream(one: Client, network: str) -> socket.socket:
    """Send the question for receptive fields, and return the connection when the first line has come."""
    place = urlsplit(one.address)
    connection = socket.create_connection((place.hostname, place.port), timeout=60)
    body = json.dumps({"network": network}).encode()
    head = f"POST /api/fields HTTP/1.1\r\nHost: {place.netloc}\r\nX-Foveal-Session: {one.session}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    while b"stage 1" not in connection.recv(2**20):
        pass
    return connection


@pytest.fixture
def held(monkeypatch):
    """Make every receptive field wait after its first stage; returns (reached, released)."""
    reached, released = threading.Event(), threading.Event()
    fields = Seen.fields

    def slow(seen):
        for number, found in enumerate(fields(seen)):
            if number == 1:
                reached.set()
                assert released.wait(60)
            yield found

    monkeypatch.setattr(Seen, "fields", slow)
    yield reached, released
    released.set()


def test_a_session_gets_no_answer_about_another_sessions_image(explorer):
    """While one asks about branches, others open images, which runs the network that both share."""
    first = explorer.client()
    first.open(noise(20))
    image = noise(21)
    subject = explorer.networks[XNET].subject
    expected = watch_mixers(subject.body, subject.photograph(image, "a").tensor).energies(0, -1).enhanced
    with asking_again_and_again(lambda: first.ask("branches", network=XNET, stage=0)):
        for _ in range(15):
            other = explorer.client()
            other.open(image)
            found = other.ask("branches", network=XNET, stage=0)["maps"]["STE"]["values"]
            other.post("close", other.session.encode())
            np.testing.assert_array_equal(found, expected)


def test_questions_wait_while_the_network_runs_for_somebody_else(explorer):
    one = explorer.client()
    one.open(noise(22))
    network: Network = explorer.networks[XNET]
    for what in ("branches", "attention", "download"):
        body = json.dumps({"network": XNET, "what": "branches"}).encode()
        assert one.post(what, body)[0] == 200
        with concurrent.futures.ThreadPoolExecutor() as pool:
            with network.lock:
                answer = pool.submit(one.post, what, body)
                with pytest.raises(concurrent.futures.TimeoutError):
                    answer.result(0.5)
            assert answer.result(60)[0] == 200


def test_a_broken_connection_leaves_the_session_free_and_its_image_forgotten(explorer, held):
    reached, released = held
    one = explorer.client()
    one.open(noise(23))
    session = explorer.sessions.get(one.session)
    image = weakref.ref(session.image)
    connection = asked_of_a_stream(one, NEXT)
    assert reached.wait(60)  # before the end, so that it comes while a stage is computed
    connection.close()
    released.set()
    assert "window" in one.ask("attention", network=NEXT)
    assert one.post("close", one.session.encode())[0] == 204
    del session
    for _ in range(100):  # the stream ends in its own time
        gc.collect()
        if image() is None:
            break
        time.sleep(0.05)
    assert image() is None


def test_another_image_ends_the_stream_of_the_last(client, held):
    reached, released = held
    client.open(noise(25))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stream = pool.submit(client.post, "fields", json.dumps({"network": NEXT}).encode())
        assert reached.wait(60)
        opened = pool.submit(client.open, noise(26))
        time.sleep(0.2)  # so that it waits for its turn
        released.set()
        assert opened.result(60)["name"] == "a"
        lines = [json.loads(line) for line in stream.result(60)[1].splitlines()]
    assert [line["layer"] for line in lines] == ["stage 1", "stage 2"]


def test_requests_that_wait_for_their_session_do_not_stop_other_people(explorer, held):
    reached, released = held
    busy, other = explorer.client(), explorer.client()
    busy.open(noise(27))
    with concurrent.futures.ThreadPoolExecutor(61) as pool:
        stream = pool.submit(busy.post, "fields", json.dumps({"network": NEXT}).encode())
        assert reached.wait(60)
        waiting = [pool.submit(busy.post, "attention", json.dumps({"network": NEXT}).encode()) for _ in range(60)]
        time.sleep(0.5)
        other.open(noise(28))
        assert "window" in other.ask("attention", network=NEXT)
        assert not any(one.done() for one in waiting)
        released.set()
        assert {one.result(60)[0] for one in [*waiting, stream]} == {200}


def test_the_last_image_that_was_asked_for_wins(explorer, monkeypatch):
    """The first file takes long to decode, and the second is there before it is done."""
    import foveal.app.server

    decode, decoding = foveal.app.server.decode_image, threading.Event()

    def slow(content, name):
        if name == "large.png":
            decoding.set()
            time.sleep(0.5)
        return decode(content, name)

    monkeypatch.setattr(foveal.app.server, "decode_image", slow)
    one = explorer.client()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(one.open, noise(29, 200, 200), "large.png")
        assert decoding.wait(60)
        one.open(noise(30, 70, 90), "small.png")
        first.result(60)
    assert explorer.sessions.get(one.session).image.size == (90, 70)


def test_an_image_whose_body_took_longer_than_a_later_one_is_refused(explorer):
    one = explorer.client()
    place, content = urlsplit(one.address), png(noise(31, 200, 200))
    with socket.create_connection((place.hostname, place.port), timeout=60) as slow:
        head = f"POST /api/image HTTP/1.1\r\nHost: {place.netloc}\r\nX-Foveal-Session: {one.session}\r\n"
        slow.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:1000])
        time.sleep(0.3)
        one.open(noise(32, 70, 90))
        slow.sendall(content[1000:])
        answer = slow.recv(2**16)
    assert b" 409 " in answer.splitlines()[0]
    assert explorer.sessions.get(one.session).image.size == (90, 70)


def test_a_session_that_has_ended_takes_no_image():
    session = Session("token", 0.0)
    session.open(2, "second", noise(33))
    with pytest.raises(Overtaken, match="meanwhile"):
        session.open(1, "first", noise(34))
    session.end()
    with pytest.raises(SessionEnded, match="load the page again"):
        session.open(3, "third", noise(35))
    assert session.image is None


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_ends_the_server_while_requests_run_and_wait():
    words = ["app", "--model", NEXT, "--size", "64", "--port", "0", "--no-browser"]
    endless = "import time, foveal.app.look as look; look.depth = lambda _: time.sleep(1000)"
    code = f"{endless}; from foveal.cli.app import main; main({words!r})"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with (
        subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as process,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        try:
            one = Client(re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0])
            one.open(noise(36))
            asked = [pool.submit(one.post, "depth", json.dumps({"network": NEXT}).encode()) for _ in range(4)]
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert [answer.result(20)[0] for answer in asked] == [503] * 4
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
