"""Released weights without a connection: one sentence, at once, and what is in the cache is still found."""

import logging
import socket
import threading

import pytest
from huggingface_hub import constants

from foveal.errors import FovealError
from foveal.models.fetching import fetching, is_reachable
from foveal.tasks.network import create_network


@pytest.fixture
def listening():
    """The URL of a port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed(listening):
    """The URL of a port that nothing listens on."""
    with socket.socket() as bound:  # bound, so that nobody else takes it, and not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setattr("foveal.models.fetching.getproxies", dict)


def test_a_host_is_reachable_if_it_accepts_connections(listening, closed):
    assert is_reachable(listening)
    assert not is_reachable(closed)


def test_a_search_for_a_host_that_takes_longer_than_the_patience_is_given_up(monkeypatch, listening):
    given_up = threading.Event()

    def slow(*_, **__):
        given_up.wait()
        raise OSError

    monkeypatch.setattr(socket, "create_connection", slow)
    assert not is_reachable(listening, patience=0.05)
    given_up.set()


def test_a_host_behind_a_proxy_is_left_to_the_proxy(monkeypatch, closed):
    monkeypatch.setattr("foveal.models.fetching.getproxies", lambda: {"http": "http://proxy:3128"})
    assert is_reachable(closed)


@pytest.mark.parametrize("model", ["transnext_micro", "resnet18"])
def test_without_a_connection_one_sentence_names_the_host_and_what_to_do(model, monkeypatch, closed, capfd, tmp_path):
    asked = []
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", asked.append)
    with pytest.raises(FovealError) as raised:
        create_network(model, None, None, pretrained=True)
    assert str(raised.value) == (
        f"The released weights of {model} cannot be fetched (127.0.0.1 cannot be reached): check the connection, or "
        "download the file elsewhere and pass it as --checkpoint."
    )
    assert not asked  # the hub's client did not wait to ask again
    assert capfd.readouterr() == ("", "")


def test_without_a_connection_the_cache_is_searched_and_settings_are_restored(monkeypatch, closed):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    logger, before = logging.getLogger("huggingface_hub"), logging.getLogger("huggingface_hub").level
    with fetching("a_network"):
        assert constants.HF_HUB_OFFLINE
        assert logger.level == logging.ERROR
    assert not constants.HF_HUB_OFFLINE
    assert logger.level == before


def test_with_a_connection_the_home_is_asked(monkeypatch, listening):
    monkeypatch.setattr(constants, "ENDPOINT", listening)
    with fetching("a_network"):
        assert not constants.HF_HUB_OFFLINE


def test_other_errors_keep_their_reason(monkeypatch, closed):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with (
        pytest.raises(FovealError, match=r"a_network cannot be fetched \(No space left\): check"),
        fetching("a_network"),
    ):
        raise OSError("No space left. Delete something.")
