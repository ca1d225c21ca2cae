"""Sessions: one per browser tab, with its image and what networks saw of it. All is in memory, nothing on disk."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePath

from PIL import Image

from foveal.app.networks import Network
from foveal.app.seen import Seen
from foveal.errors import FovealError
from foveal.image_files import decode_limited

MOST_NETWORKS = 3  # that one session keeps its image's maps of
MOST_SESSIONS = 64
IDLE = 30 * 60  # seconds without a request, after which a session ends
ENDED = "This session has ended and its image is gone: load the page again."


class SessionEnded(FovealError):
    """The session is closed, or was idle for too long."""


class Overtaken(FovealError):
    """Another image was opened by a later request."""


class Session:
    """One person's image. Requests of a session are answered one at a time, by its turn.

    Attributes:
        token: 32 random bytes as text, which every request names.
        turn: held while a request is answered. Those that wait for it hold no thread.
        used: time of the last request, in seconds of the clock of ``Sessions``.
    """

    def __init__(self, token: str, now: float):
        self.token, self.used = token, now
        self.turn = asyncio.Lock()
        self._state = threading.Lock()  # of all below: a session may end while a thread answers its request
        self._ended = False
        self._arrivals = itertools.count(1)
        self._opened = 0  # number of the request that opened the image
        self._image: tuple[str, Image.Image, str] | None = None
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def arrival(self) -> int:
        """Return the number of a request for another image, to be taken before its body is read."""
        return next(self._arrivals)

    def open(self, arrival: int, name: str, image: Image.Image, credit: str = "") -> None:
        """Take another image, an RGB one, and forget what belongs to the last.

        Raises:
            Overtaken: a request that arrived later has opened its image already.
            SessionEnded: the session has ended.
        """
        with self._state:
            self._check()
            if arrival < self._opened:
                raise Overtaken("Another image was opened meanwhile.")
            self._opened, self._image = arrival, (name, image, credit)
            self._seen.clear()

    def seen_by(self, network: Network) -> Seen:
        """Return what a network saw of the image; raise FovealError if there is no image, or the session has ended."""
        with self._state:
            self._check()
            if self._image is None:
                raise FovealError("There is no image yet: choose a file, drop one, or take a sample.")
            found = self._seen.get(network.key)
            if found is None or found.network is not network:
                found = self._seen[network.key] = Seen(network, *self._image)
            self._seen.move_to_end(network.key)
            while len(self._seen) > MOST_NETWORKS:
                self._seen.popitem(last=False)
            return found

    @property
    def image(self) -> Image.Image | None:
        """The image, or None."""
        opened = self._image
        return None if opened is None else opened[1]

    def end(self) -> None:
        """Forget the image and all that belongs to it, and take no other."""
        with self._state:
            self._ended, self._image = True, None
            self._seen.clear()

    def _check(self) -> None:
        if self._ended:
            raise SessionEnded(ENDED)


class Sessions:
    """The sessions of a server, by token.

    Args:
        idle: seconds without a request, after which a session ends.
        clock: the time in seconds.
    """

    def __init__(self, idle: float = IDLE, clock: Callable[[], float] = time.monotonic):
        self._idle, self._clock = idle, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self) -> Session:
        """Return a new session; the one that was not used for longest ends if there are too many."""
        session = Session(secrets.token_urlsafe(32), self._clock())
        with self._lock:
            self._sessions[session.token] = session
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)[1].end()
        return session

    def get(self, token: str) -> Session:
        """Return a session and note its use; raise SessionEnded if there is none."""
        self.sweep()
        with self._lock:
            session = self._sessions.get(token)
            if session is None:
                raise SessionEnded(ENDED)
            session.used = self._clock()
            self._sessions.move_to_end(token)
            return session

    def close(self, token: str) -> None:
        """End a session, if there is one."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            session.end()

    def sweep(self) -> None:
        """End the sessions that were idle for too long."""
        oldest = self._clock() - self._idle
        with self._lock:
            ended = [token for token, session in self._sessions.items() if session.used < oldest]
        for token in ended:
            self.close(token)

    def close_all(self) -> None:
        """End all sessions."""
        for token in list(self._sessions):
            self.close(token)


def decode_image(content: bytes, name: str) -> tuple[str, Image.Image]:
    """Return the name without its ending, and the image in RGB, upright.

    Raises:
        TooLarge: it has more than 32 MB or 40 megapixels. Its pixels are not decoded then.
        FovealError: it is not a readable image, or too narrow.
    """
    name = PurePath(name.replace("\\", "/")).name or "image"
    return PurePath(name).stem, decode_limited(content, name, formats=None)
