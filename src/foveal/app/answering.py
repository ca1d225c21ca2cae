"""Answers as the page gets them: JSON with arrays, lines of a stream, and one sentence for whatever went wrong."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from foveal.app.guard import HEADERS
from foveal.app.session import Overtaken, SessionEnded
from foveal.errors import FovealError
from foveal.image_files import TooLarge

UNEXPECTED = "The server could not answer: its terminal says why."


def to_json(answer: Any) -> str:
    """Return JSON; arrays become their shape and their float32 numbers in base64."""
    return json.dumps(answer, default=_array, allow_nan=False)


def _array(values: np.ndarray) -> dict[str, Any]:
    packed = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(packed.shape), "float32": base64.b64encode(packed.tobytes()).decode()}


async def with_sentence(lines: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Give the lines, and what went wrong as the last one: the status has been sent."""
    async with contextlib.aclosing(lines):
        try:
            async for line in lines:
                yield line
        except FovealError as error:
            yield to_json({"error": str(error)}) + "\n"
        except ClientDisconnect:
            return
        except Exception:  # a bug: uvicorn prints it in the terminal
            yield to_json({"error": UNEXPECTED}) + "\n"
            raise


class Lines(StreamingResponse):
    """A stream that is closed when the client has gone, not when it is collected as garbage."""

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(cast(AsyncGenerator[str, None], self.body_iterator)):
            await super().stream_response(send)


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


SENTENCES: Any = {FovealError: _sentence, HTTPException: _nothing, ClientDisconnect: _gone, Exception: _unexpected}
