"""The explorer's server: the page, and its questions as JSON. Imports Starlette, so it is imported when it is needed.

A request names its session in the header ``X-Foveal-Session``. Questions run in threads, those of a session one after
another; a request that waits for its turn holds no thread. Whatever arrives is answered, if not by what it asks for
then by ``{"error": one sentence}``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

import numpy as np
from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
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
from foveal.app.session import (
    MOST_BYTES,
    Overtaken,
    Session,
    SessionEnded,
    Sessions,
    TooLarge,
    check_bytes,
    decode_image,
)
from foveal.errors import FovealError

PAGE = Path(__file__).parent / "page"
SWEEP = 60  # seconds between looks for idle sessions
MOST_JSON = 2**16  # bytes of a question
MOST_DRAINED = 2**30  # bytes of a body that is too long
MOST_AT_ONCE = 40  # questions that are computed, in threads of their own: files of the page never wait for one
UNEXPECTED = "The server could not answer: its terminal says why."
Question = dict[str, Any]
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
        exception_handlers={
            FovealError: _sentence,
            HTTPException: _nothing,
            ClientDisconnect: _gone,
            Exception: _unexpected,
        },
        lifespan=functools.partial(_lifespan, sessions),
    )


class _Api:
    """What the page asks. ``question`` is the JSON of the request, ``seen`` what the network in it saw."""

    def __init__(self, networks: Networks, sessions: Sessions):
        self.networks, self.sessions = networks, sessions

    @functools.cached_property
    def threads(self) -> CapacityLimiter:
        return CapacityLimiter(MOST_AT_ONCE)  # of the event loop that runs

    async def in_turn(self, request: Request, session: Session, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread when it is the session's turn, unless the client has gone by then."""
        async with session.turn:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await to_thread.run_sync(work, limiter=self.threads)

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
        arrival, content = session.arrival(), await _body(request)
        return await self.take(request, session, arrival, functools.partial(decode_image, content, name))

    async def open_sample(self, request: Request) -> Response:
        """Take one of scikit-learn's photographs as the image."""
        session = self.session(request)
        arrival, name = session.arrival(), str((await _question(request)).get("name"))
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
        """Stream the receptive field of one stage per line, as each is computed.

        Every stage waits for its turn, so other questions are answered in between. Another image ends the stream.
        """
        session, question = self.session(request), await _question(request)

        async def lines() -> AsyncGenerator[str, None]:
            seen = await self.in_turn(request, session, functools.partial(self.seen, session, question))
            with contextlib.closing(_Fields(seen)) as fields:
                while session.image is seen.image:
                    line = await self.in_turn(request, session, fields.line)
                    if line is None:
                        break
                    yield line

        return _Lines(_with_sentence(lines()), media_type="application/x-ndjson")

    def session(self, request: Request) -> Session:
        return self.sessions.get(request.headers.get("x-foveal-session", ""))

    def seen(self, session: Session, question: Question) -> Seen:
        return session.seen_by(self.networks.get(str(question.get("network"))))


async def _answered(api: _Api, answer: Callable[[Session, Question], Any], request: Request) -> Response:
    session, question = api.session(request), await _question(request)

    def answered() -> Response:
        found = answer(session, question)
        return found if isinstance(found, Response) else Response(_json(found), media_type="application/json")

    return await api.in_turn(request, session, answered)


class _Fields:
    """Receptive fields as lines of JSON, one stage per call."""

    def __init__(self, seen: Seen):
        self._fields = seen.fields()

    def line(self) -> str | None:
        """Compute the next stage; None after the last."""
        for name, field, done, total in self._fields:
            return _json({**look.field_shown(name, field), "done": done, "total": total}) + "\n"
        return None

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # the server ends, and does not wait for the stage that is computed
            self._fields.close()


async def _with_sentence(lines: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Give the lines, and what went wrong as the last one: the status has been sent."""
    async with contextlib.aclosing(lines):
        try:
            async for line in lines:
                yield line
        except FovealError as error:
            yield _json({"error": str(error)}) + "\n"
        except ClientDisconnect:
            return
        except Exception:
            logging.getLogger(__name__).exception(UNEXPECTED)
            yield _json({"error": UNEXPECTED}) + "\n"


class _Lines(StreamingResponse):
    """A stream that is closed when the client has gone, not when it is collected as garbage."""

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(cast(AsyncGenerator[str, None], self.body_iterator)):
            await super().stream_response(send)


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
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        raise FovealError("The request is not a JSON object: load the page again.")
    return question


def _place(question: Question) -> look.Place:
    point = question.get("point")
    try:
        at = None if point is None else (float(point[0]), float(point[1]))  # of a list; KeyError for an object
        if at is not None and not all(map(math.isfinite, at)):
            raise ValueError("not finite")
        return look.Place(
            at,
            int(question.get("stage", 2)),
            int(question.get("block", -1)),
            tuple(int(head) for head in question.get("heads", ())),
        )
    except (TypeError, ValueError, LookupError, OverflowError):
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
    statuses: dict[type[Exception], int] = {SessionEnded: 410, TooLarge: 413, Overtaken: 409}
    return JSONResponse({"error": str(error)}, statuses.get(type(error), 400))


async def _nothing(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    sentence = "There is nothing at this address: open the one that foveal app printed."
    return JSONResponse({"error": sentence}, status, headers=cast(HTTPException, error).headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Answer a bug; Starlette then raises it again, and uvicorn prints it in the terminal."""
    return JSONResponse({"error": UNEXPECTED}, 500, headers=HEADERS)


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
