"""Released weights from their public home: quick to answer where there is no connection.

huggingface_hub 2.4.0 retries for 23 seconds, with a warning each time, before it reports that a host cannot be reached
(findings/huggingface-hub-no-connection.sh). Here the host is looked for first. Without it, only the cache is searched.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies

from foveal.errors import FovealError
from foveal.wording import first_sentence

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
        reason = f"{host} cannot be reached" if missing and of_hub else first_sentence(error)
        raise FovealError(
            f"The released weights of {name} cannot be fetched ({reason}): check the connection, or {advice}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(loudness)


def is_reachable(url: str, patience: float = PATIENCE) -> bool:
    """Return True if the host of ``url`` accepts connections within ``patience`` seconds, or if a proxy is configured.

    Resolving a host name has no timeout of its own, so it runs in a daemon thread, which is not waited for any longer.
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
