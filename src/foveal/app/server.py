"""The explorer's server: the page, and its questions as JSON. Imports Starlette, so it is imported when it is needed.

A request names its session in the header ``X-Foveal-Session``. Questions run in a pool of threads, those of a session
one after another. Whatever a person can do wrong is answered by ``{"error": one sentence}``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foveal.app import look
from foveal.app.download import MEDIA, Wanted, download, reduced_heat, shown
from foveal.app.guard import HEADERS, refusal
from foveal.app.networks import Networks
from foveal.app.samples import SAMPLES, sample, samples_exist
from foveal.app.seen import Seen
from foveal.app.session import MOST_BYTES, Session, SessionEnded, Sessions, TooLarge, check_bytes, decode_image
from foveal.errors import FovealError

PAGE = Path(__file__).parent / "page"
SWEEP = 60  # seconds between looks for idle sessions
MOST_JSON = 2**16  # bytes of a question
MOST_DRAINED = 2**30  # bytes of a body that is too long
Question = dict[str, Any]


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
            ("sample", api.sample),
            ("download", api.download),
        )
    ]
    routes = [
        Route("/", lambda _: FileResponse(PAGE / "index.html")),
        Mount("/page", StaticFiles(directory=PAGE)),
        Route("/api/session", api.open_session, methods=["POST"]),
        Route("/api/close", api.close_session, methods=["POST"]),
        Route("/api/image", api.open_image, methods=["POST"]),
        Route("/api/fields", api.fields, methods=["POST"]),
        Mount("/api", routes=asked),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, bound=bound)],
        exception_handlers={FovealError: _sentence, ClientDisconnect: _gone},
        lifespan=functools.partial(_lifespan, sessions),
    )


class _Api:
    """What the page asks. ``question`` is the JSON of the request, ``seen`` what the network in it saw."""

    def __init__(self, networks: Networks, sessions: Sessions):
        self.networks, self.sessions = networks, sessions

    async def open_session(self, request: Request) -> Response:
        """Return a session's token, and what can be chosen."""
        named = [network.described() for network in self.networks.named]
        listed = {"networks": named, "catalogue": self.networks.listed()}
        samples = dict(SAMPLES) if samples_exist() else {}
        return JSONResponse({"session": self.sessions.create().token, "samples": samples, **listed})

    async def close_session(self, request: Request) -> Response:
        """End the session whose token is the body: a closing tab can send no header."""
        self.sessions.close((await _body(request, MOST_JSON)).decode(errors="replace"))
        return Response(status_code=204)

    async def open_image(self, request: Request) -> Response:
        """Take the body as an image file. It is read into memory; a form would be spooled to disk."""
        session, name = self.session(request), unquote(request.headers.get("x-foveal-name", "image"))
        content = await _body(request)
        return JSONResponse(await run_in_threadpool(_take, session, functools.partial(decode_image, content, name)))

    def sample(self, session: Session, question: Question) -> Any:
        """Take one of scikit-learn's photographs as the image."""
        name = str(question.get("name"))
        return _take(session, lambda: sample(name), SAMPLES.get(name, ""), locked=True)

    def network(self, session: Session, question: Question) -> Any:
        """Return a description of a network, opened if need be."""
        return self.networks.get(str(question.get("network"))).described()

    def attention(self, session: Session, question: Question) -> Any:
        return look.attention(self.seen(session, question), _place(question))

    def depth(self, session: Session, question: Question) -> Any:
        return look.depth(self.seen(session, question))

    def branches(self, session: Session, question: Question) -> Any:
        return look.branches(self.seen(session, question), _place(question))

    def answers(self, session: Session, question: Question) -> Any:
        return look.answers(self.seen(session, question))

    def evidence(self, session: Session, question: Question) -> Any:
        seen, wanted = self.seen(session, question), _wanted(question)
        return {"heat": reduced_heat(look.evidence(seen, wanted.index, wanted.stage, wanted.method))}

    def picture(self, session: Session, question: Question) -> Any:
        """Return a PNG; the header has the picture's height and width before it was reduced."""
        content, size = shown(self.seen(session, question), str(question.get("what")))
        return Response(content, media_type="image/png", headers={"x-foveal-size": "{} {}".format(*size)})

    def download(self, session: Session, question: Question) -> Any:
        wanted = _wanted(question)
        name, content = download(self.seen(session, question), wanted)
        disposition = f"attachment; filename*=utf-8''{quote(name)}"
        return Response(content, media_type=MEDIA[wanted.form], headers={"content-disposition": disposition})

    async def fields(self, request: Request) -> Response:
        """Stream the receptive field of one stage per line, as each is computed."""
        session, question = self.session(request), await _question(request)

        def lines() -> Iterator[str]:
            try:
                with session.lock:
                    for name, field, done, total in self.seen(session, question).fields():
                        yield _json({**look.field_shown(name, field), "done": done, "total": total}) + "\n"
            except FovealError as error:
                yield _json({"error": str(error)}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def session(self, request: Request) -> Session:
        return self.sessions.get(request.headers.get("x-foveal-session", ""))

    def seen(self, session: Session, question: Question) -> Seen:
        return session.seen_by(self.networks.get(str(question.get("network"))))


async def _answered(api: _Api, answer: Callable[[Session, Question], Any], request: Request) -> Response:
    session, question = api.session(request), await _question(request)

    def locked() -> Response:
        with session.lock:
            found = answer(session, question)
        return found if isinstance(found, Response) else Response(_json(found), media_type="application/json")

    return await run_in_threadpool(locked)


def _take(
    session: Session, opened: Callable[[], tuple[str, Any]], credit: str = "", locked: bool = False
) -> dict[str, Any]:
    """Make an image the session's; ``opened`` is called before the lock is taken, so a broken file changes nothing."""
    name, image = opened()
    with contextlib.nullcontext() if locked else session.lock:
        session.open(name, image, credit)
    return {"name": name, "height": image.height, "width": image.width}


async def _body(request: Request, most: int = MOST_BYTES) -> bytes:
    """Return the body. One that is too long is read to its end but not kept: a browser reads no answer before."""
    content, count = bytearray(), 0
    async for part in request.stream():
        count += len(part)
        if count <= most:
            content += part
        elif count > MOST_DRAINED:
            break
    if most == MOST_BYTES:
        check_bytes(count)
    elif count > most:
        raise FovealError("The request is too long: load the page again.")
    return bytes(content)


async def _question(request: Request) -> Question:
    try:
        question = json.loads(await _body(request, MOST_JSON))
    except ValueError:
        question = None
    if not isinstance(question, dict):
        raise FovealError("The request is not a JSON object: load the page again.")
    return question


def _place(question: Question) -> look.Place:
    point = question.get("point")
    try:
        at = None if point is None else (float(point[0]), float(point[1]))
        if at is not None and not all(map(math.isfinite, at)):
            raise ValueError("not finite")
        return look.Place(
            at,
            int(question.get("stage", 2)),
            int(question.get("block", -1)),
            tuple(int(head) for head in question.get("heads", ())),
        )
    except (TypeError, ValueError, IndexError, OverflowError):
        raise FovealError(
            "A place is a point of two numbers, a stage, a block and heads: load the page again."
        ) from None


def _wanted(question: Question) -> Wanted:
    form: Any = str(question.get("form", "png"))
    method: Any = str(question.get("method", "grad"))
    try:
        index, stage = int(question.get("index", 0)), int(question.get("evidence_stage", -1))
    except (TypeError, ValueError, OverflowError):
        raise FovealError("A class and a stage are given by numbers: load the page again.") from None
    return Wanted(str(question.get("what")), form, _place(question), index, stage, method)


def _json(answer: Any) -> str:
    """Return JSON; arrays become their shape and their float32 numbers in base64."""
    return json.dumps(answer, default=_array, allow_nan=False)


def _array(values: np.ndarray) -> dict[str, Any]:
    packed = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(packed.shape), "float32": base64.b64encode(packed.tobytes()).decode()}


async def _sentence(request: Request, error: Exception) -> Response:
    status = 410 if isinstance(error, SessionEnded) else 413 if isinstance(error, TooLarge) else 400
    return JSONResponse({"error": str(error)}, status)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await app(scope, receive, with_headers)
