"""``foveal app`` as a process: it prints its address, answers, and ends with Ctrl-C."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("uvicorn", reason='the explorer needs the extra "app"')


def test_the_page_is_served_until_ctrl_c():
    words = ["app", "--model", "transnext_atto", "--size", "64", "--port", "0", "--no-browser"]
    code = f"from foveal.cli.app import main; main({words!r})"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert b"<title>Foveal explorer</title>" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_a_port_that_is_taken_is_one_sentence(foveal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = foveal("app", "--port", taken.getsockname()[1], "--no-browser")
    assert said.code == 1
    assert said.is_one_sentence("pass another --port")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--pretrained"], 2, "--pretrained takes"),
        (["--port", "70000"], 2, "--port must be"),
        (["--model", "transnext_tinny", "--port", "0"], 1, "transnext_tinny"),
        (["--checkpoint", "nowhere.pt", "--port", "0"], 1, "nowhere.pt"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(foveal, words, code, part):
    said = foveal("app", *words, "--no-browser")
    assert said.code == code
    assert said.is_one_sentence(part)
