"""The explorer's server: the page, and its questions as JSON. Imports Starlette, so it is imported when it is needed.

A request names its session in the header ``X-Foveal-Session``. Questions run in threads, those of a session one after
another; a request that waits for its turn holds no thread. Whatever arrives is answered, if not by what it asks for
then by ``{"error": one sentence}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foveal.app import look
from foveal.app.answering import SENTENCES, Lines, to_json, with_sentence
from foveal.app.download import MEDIA, download, reduced_heat, shown
from foveal.app.guard import HEADERS, refusal
from foveal.app.networks import Networks
from foveal.app.reading import MOST_JSON, Question, place_of, read_body, read_question, wanted_of
from foveal.app.samples import SAMPLES, sample, samples_exist
from foveal.app.seen import Seen
from foveal.app.session import Session, Sessions, decode_image

PAGE = Path(__file__).parent / "page"
SWEEP = 60  # seconds between looks for idle sessions
MOST_AT_ONCE = 32  # questions that are computed, of Starlette's 40 threads: some are left for files of the page
T = TypeVar("T")


def create_app(networks: Networks, sessions: Sessions | None = None, bound: str = "127.0.0.1") -> Starlette:
    """Return the server as an ASGI application.

    Args:
        networks: that can be looked at.
        sessions: None for new ones; all end when the application shuts down.
        bound: the address that it is served on, see ``guard.refusal``.
    """
    sessions = Sessions() if sessions is None else sessions
    api = _Api(networks, sessions)
    asked = [
        Route(f"/{name}", functools.partial(_answered, api, answer), methods=["POST"])
        for name, answer in (
            ("network", api.network),
            ("attention", api.attention),
            ("depth", api.depth),
            ("branches", api.branches),
            ("answers", api.answers),
            ("evidence", api.evidence),
            ("picture", api.picture),
            ("download", api.download),
        )
    ]
    routes = [
        Route("/", lambda _: FileResponse(PAGE / "index.html")),
        Mount("/page", StaticFiles(directory=PAGE)),
        Route("/api/session", api.open_session, methods=["POST"]),
        Route("/api/close", api.close_session, methods=["POST"]),
        Route("/api/image", api.open_image, methods=["POST"]),
        Route("/api/sample", api.open_sample, methods=["POST"]),
        Route("/api/fields", api.fields, methods=["POST"]),
        Mount("/api", routes=asked),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, bound=bound)],
        exception_handlers=SENTENCES,
        lifespan=functools.partial(_lifespan, sessions),
    )


class _Api:
    """What the page asks. ``question`` is the JSON of the request, ``seen`` what the network in it saw."""

    def __init__(self, networks: Networks, sessions: Sessions):
        self.networks, self.sessions = networks, sessions
        self.threads = asyncio.Semaphore(MOST_AT_ONCE)

    async def in_turn(self, request: Request, session: Session, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread when it is the session's turn, unless the client has gone by then."""
        async with session.turn, self.threads:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await run_in_threadpool(work)

    async def open_session(self, request: Request) -> Response:
        """Return a session's token, and what can be chosen."""
        named = [network.described() for network in self.networks.named]
        listed = {"networks": named, "catalogue": self.networks.listed()}
        samples = dict(SAMPLES) if samples_exist() else {}
        return JSONResponse({"session": self.sessions.create().token, "samples": samples, **listed})

    async def close_session(self, request: Request) -> Response:
        """End the session whose token is the body: a closing tab can send no header."""
        self.sessions.close((await read_body(request, MOST_JSON)).decode(errors="replace"))
        return Response(status_code=204)

    async def open_image(self, request: Request) -> Response:
        """Take the body as an image file. It is read into memory; a form would be spooled to disk."""
        session, name = self.session(request), unquote(request.headers.get("x-foveal-name", "image"))
        arrival, content = session.arrival(), await read_body(request)
        return await self.take(request, session, arrival, functools.partial(decode_image, content, name))

    async def open_sample(self, request: Request) -> Response:
        """Take one of scikit-learn's photographs as the image."""
        session = self.session(request)
        arrival, name = session.arrival(), str((await read_question(request)).get("name"))
        return await self.take(request, session, arrival, functools.partial(sample, name), SAMPLES.get(name, ""))

    async def take(
        self,
        request: Request,
        session: Session,
        arrival: int,
        read: Callable[[], tuple[str, Image.Image]],
        credit: str = "",
    ) -> Response:
        """Make an image the session's. The last request wins, and one whose file is broken changes nothing."""

        def taken() -> dict[str, Any]:
            name, image = read()
            session.open(arrival, name, image, credit)
            return {"name": name, "height": image.height, "width": image.width}

        return JSONResponse(await self.in_turn(request, session, taken))

    def network(self, session: Session, question: Question) -> Any:
        """Return a description of a network, opened if need be."""
        return self.networks.get(str(question.get("network"))).described()

    def attention(self, session: Session, question: Question) -> Any:
        return look.attention(self.seen(session, question), place_of(question))

    def depth(self, session: Session, question: Question) -> Any:
        return look.depth(self.seen(session, question))

    def branches(self, session: Session, question: Question) -> Any:
        return look.branches(self.seen(session, question), place_of(question))

    def answers(self, session: Session, question: Question) -> Any:
        return look.answers(self.seen(session, question))

    def evidence(self, session: Session, question: Question) -> Any:
        seen, wanted = self.seen(session, question), wanted_of(question)
        return {"heat": reduced_heat(look.evidence(seen, wanted.index, wanted.stage, wanted.method))}

    def picture(self, session: Session, question: Question) -> Any:
        """Return a PNG; the header has the picture's height and width before it was reduced."""
        content, size = shown(self.seen(session, question), str(question.get("what")))
        return Response(content, media_type="image/png", headers={"x-foveal-size": "{} {}".format(*size)})

    def download(self, session: Session, question: Question) -> Any:
        wanted = wanted_of(question)
        name, content = download(self.seen(session, question), wanted)
        disposition = f"attachment; filename*=utf-8''{quote(name)}"
        return Response(content, media_type=MEDIA[wanted.form], headers={"content-disposition": disposition})

    async def fields(self, request: Request) -> Response:
        """Stream the receptive field of one stage per line, as each is computed.

        Every stage waits for its turn, so other questions are answered in between. Another image ends the stream.
        """
        session, question = self.session(request), await read_question(request)

        async def lines() -> AsyncGenerator[str, None]:
            seen = await self.in_turn(request, session, functools.partial(self.seen, session, question))
            with contextlib.closing(_FieldLines(session, seen)) as fields:
                while (line := await self.in_turn(request, session, fields.line)) is not None:
                    yield line

        return Lines(with_sentence(lines()), media_type="application/x-ndjson")

    def session(self, request: Request) -> Session:
        return self.sessions.get(request.headers.get("x-foveal-session", ""))

    def seen(self, session: Session, question: Question) -> Seen:
        return session.seen_by(self.networks.get(str(question.get("network"))))


async def _answered(api: _Api, answer: Callable[[Session, Question], Any], request: Request) -> Response:
    session, question = api.session(request), await read_question(request)

    def answered() -> Response:
        found = answer(session, question)
        return found if isinstance(found, Response) else Response(to_json(found), media_type="application/json")

    return await api.in_turn(request, session, answered)


class _FieldLines:
    """Receptive fields as lines of JSON, one stage per call."""

    def __init__(self, session: Session, seen: Seen):
        self._session, self._image, self._fields = session, seen.image, seen.fields()

    def line(self) -> str | None:
        """Compute the next stage; None after the last, or if the session's image is another one."""
        if self._session.image is not self._image:
            return None
        for name, field, done, total in self._fields:
            return to_json({**look.field_shown(name, field), "done": done, "total": total}) + "\n"
        return None

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # the server ends, and does not wait for the stage that is computed
            self._fields.close()


@contextlib.asynccontextmanager
async def _lifespan(sessions: Sessions, _: Starlette) -> AsyncIterator[None]:
    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            sessions.sweep()

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        sessions.close_all()


class _Guard:
    """Refuses what ``guard.refusal`` names, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, bound: str):
        self.app, self.bound = app, bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = refusal(headers.get("host"), headers.get("origin"), self.bound)
        app = self.app if refused is None else cast(ASGIApp, JSONResponse({"error": refused}, 403))
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        try:
            await app(scope, receive, with_headers)
        except asyncio.CancelledError:  # the server ends; uvicorn would print a traceback per request
            if not started:
                await JSONResponse({"error": "The server has ended."}, 503)(scope, receive, with_headers)
