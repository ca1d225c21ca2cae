"""What a request of the page says: its body, its question, and the place and picture in it."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.requests import Request

from foveal.app.download import Wanted
from foveal.app.look import Place
from foveal.errors import FovealError
from foveal.image_files import MOST_BYTES, check_bytes

MOST_JSON = 2**16  # bytes of a question
MOST_DRAINED = 2**30  # bytes of a body that is too long
Question = dict[str, Any]


async def read_body(request: Request, most: int = MOST_BYTES) -> bytes:
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


async def read_question(request: Request) -> Question:
    """Return the JSON object that the body is; raise FovealError if it is none."""
    try:
        question = json.loads(await read_body(request, MOST_JSON))
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        raise FovealError("The request is not a JSON object: load the page again.")
    return question


def place_of(question: Question) -> Place:
    """Return the place of a question; raise FovealError if it is none."""
    point = question.get("point")
    try:
        at = None if point is None else (float(point[0]), float(point[1]))  # of a list; KeyError for an object
        if at is not None and not all(map(math.isfinite, at)):
            raise ValueError("not finite")
        return Place(
            at,
            int(question.get("stage", 2)),
            int(question.get("block", -1)),
            tuple(int(head) for head in question.get("heads", ())),
        )
    except (TypeError, ValueError, LookupError, OverflowError):
        raise FovealError(
            "A place is a point of two numbers, a stage, a block and heads: load the page again."
        ) from None


def wanted_of(question: Question) -> Wanted:
    """Return what a question wants to download; raise FovealError if numbers are none."""
    form: Any = str(question.get("form", "png"))
    method: Any = str(question.get("method", "grad"))
    try:
        index, stage = int(question.get("index", 0)), int(question.get("evidence_stage", -1))
    except (TypeError, ValueError, OverflowError):
        raise FovealError("A class and a stage are given by numbers: load the page again.") from None
    return Wanted(str(question.get("what")), form, place_of(question), index, stage, method)
