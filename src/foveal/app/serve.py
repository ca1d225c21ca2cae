"""Serve the explorer until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec

from foveal.app.networks import Networks
from foveal.errors import FovealError


def check_installed() -> None:
    """Raise FovealError if the packages of the extra ``app`` are missing."""
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise FovealError('The explorer needs starlette and uvicorn: install them with `pip install "foveal[app]"`.')


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise FovealError if the port is taken or the host is not of this machine."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FovealError(f"{host}:{port} cannot be used ({reason}): pass another --port or --host.") from error


def serve(networks: Networks, listening: socket.socket, host: str, on_address: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C; then all sessions end.

    Args:
        networks: that can be looked at.
        listening: of ``listen``.
        host: the address that it listens on.
        on_address: called with the page's address when it can be opened.
    """
    import uvicorn

    from foveal.app.server import create_app

    config = uvicorn.Config(
        create_app(networks, bound=host),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        ws="none",
    )
    on_address(address_of(listening, host))
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        _abandon_threads()
        raise


def _abandon_threads(patience: float = 0.5) -> None:
    """End the process if a thread still computes an answer: nobody waits for it, and a thread cannot be stopped.

    Nothing is lost, since the explorer writes no files.
    """
    others = [one for one in threading.enumerate() if not one.daemon and one is not threading.current_thread()]
    for thread in others:
        thread.join(patience / len(others))
    if any(thread.is_alive() for thread in others):
        print("foveal: Stopped.", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)


def address_of(listening: socket.socket, host: str) -> str:
    """Return the address to open on this machine."""
    port = listening.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/"


def open_browser(address: str) -> None:
    """Open the page in the browser, if there is one."""
    webbrowser.open(address)
