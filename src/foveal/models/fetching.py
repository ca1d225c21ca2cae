"""Released weights from their public home: quick to answer where there is no connection.

huggingface_hub 1.x asks six times within 23 seconds, and says so each time, before it reports that a host cannot be
reached. Here the host is looked for first. Without it, only the cache on disk is searched.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies

from foveal.errors import FovealError

PATIENCE = 4.0  # seconds for finding the host, and for a connection to it
PORTS = {"http": 80, "https": 443}


@contextlib.contextmanager
def fetching(name: str, advice: str = "download the file elsewhere and pass it as --checkpoint") -> Iterator[None]:
    """Fetch the released weights of the network ``name`` in this context.

    Args:
        advice: what to do without a connection, for the error.

    Raises:
        FovealError: they are not in the cache and cannot be fetched.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    host, offline, loudness = urlsplit(constants.ENDPOINT).hostname, constants.HF_HUB_OFFLINE, logging.get_verbosity()
    missing = not offline and not is_reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = offline or missing
    logging.set_verbosity_error()  # its warnings repeat what the error says
    try:
        yield
    except OSError as error:
        of_hub = type(error).__module__.startswith("huggingface_hub")
        reason = f"{host} cannot be reached" if missing and of_hub else _first_sentence(error)
        raise FovealError(
            f"The released weights of {name} cannot be fetched ({reason}): check the connection, or {advice}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(loudness)


def is_reachable(url: str, patience: float = PATIENCE) -> bool:
    """Return whether the host of a URL accepts connections, or is behind a proxy.

    The search for its address has no time limit of its own, so it runs in a thread that is left behind.
    """
    parts = urlsplit(url)
    if parts.scheme in getproxies() or parts.hostname is None:
        return True
    found = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), timeout=patience).close()
            found.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(patience)
    return found.is_set()


def _first_sentence(error: Exception) -> str:
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first_line.split(". ")[0].rstrip(".")
