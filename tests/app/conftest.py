"""A running explorer with two small networks, and a client of it."""

import threading
import time

import pytest

from foveal.app.networks import Network, Networks
from foveal.app.serve import listen
from foveal.app.session import Sessions
from foveal.report.explanation.subject import create_subject
from support.chromium import Chromium, Tab, find_chromium
from support.explorer import Explorer, noise

SIZE = 64  # pixels: the side of the networks' images


@pytest.fixture(scope="module")
def explorer():
    import uvicorn

    from foveal.app.server import create_app

    named = [Network(name, create_subject(name, SIZE)) for name in ("transnext_atto", "transxnet_atto")]
    sessions = Sessions()
    listening = listen("127.0.0.1", 0)
    app = create_app(Networks(named, lambda name: create_subject(name, SIZE)), sessions)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    yield Explorer(address, sessions, {network.key: network for network in named})
    server.should_exit = True
    thread.join(20)
    assert len(sessions) == 0, "sessions outlived the server"


@pytest.fixture
def client(explorer):
    one = explorer.client()
    yield one
    one.post("close", one.session.encode())


@pytest.fixture(scope="module")
def browser():
    one = Chromium(find_chromium())
    yield one
    one.close()


@pytest.fixture
def tab(browser, explorer):
    tabs = []

    def opened(**options):
        tabs.append(Tab(browser, explorer.address, **options))
        tabs[-1].wait("document.querySelectorAll('#networks article').length == 2")
        return tabs[-1]

    yield opened
    for one in tabs:
        one.close()


@pytest.fixture
def photo(tmp_path):
    def saved(seed, name):
        noise(seed).save(tmp_path / name)
        return tmp_path / name

    return saved
