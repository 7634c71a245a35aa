"""Errors as RFC 9457 problems: one line of JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from structlog.typing import FilteringBoundLogger

from services.common import log

MEDIA_TYPE = "application/problem+json"
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer: clients do not cache it and do not guess its type."""


class Problem(msgspec.Struct, frozen=True):
    """An error. `title` names the status, `detail` the problem and its remedy."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"


def specs(*codes: int) -> dict[int, ResponseSpec]:
    """Return the problems that a route may answer with, for its description; every route may answer 400."""
    return {
        code: ResponseSpec(Problem, generate_examples=False, description=HTTPStatus(code).phrase, media_type=MEDIA_TYPE)
        for code in (400, *codes)
    }


def answer(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Return the problem for an exception."""
    return _response(Problem(error.status_code, _title(error.status_code), _detail(error)), error.headers)


def unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Log the traceback of a bug in Longshore, and return a problem."""
    logger: FilteringBoundLogger = log.get("gateway")
    logger.error("cannot answer", path=request.url.path, exc_info=error)
    return _response(Problem(500, _title(500), "this is a bug: the gateway's log says more"), None)


def _response(problem: Problem, headers: dict[str, str] | None) -> Response[bytes]:
    body = msgspec.json.encode(problem) + b"\n"
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=HEADERS | (headers or {}))


def _title(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Error"


def _detail(error: HTTPException) -> str:
    """Return one line with the problem of each parameter or field."""
    words = [error.detail]
    if isinstance(error.extra, list):
        words = [": ".join(filter(None, (str(one.get("key", "")), str(one.get("message", ""))))) for one in error.extra]
    return " ".join("; ".join(words).split())
