"""Logging goes to whatever standard error is now, and never fails what it tells about."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest
import structlog

from services.common import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_goes_to_the_standard_error_of_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    log.configure("json", "info")
    logger = log.get("health")
    for name in ("first", "second"):
        now = io.StringIO()
        monkeypatch.setattr(sys, "stderr", now)
        logger.info(name)
        logging.getLogger("library").warning(name)
        assert [json.loads(line)["event"] for line in now.getvalue().splitlines()] == [name, name]


def test_a_standard_error_that_is_closed_or_read_by_nobody_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    unread = os.fdopen(writer, "w", buffering=1)
    log.configure("json", "info")
    monkeypatch.setattr(sys, "stderr", unread)
    tell("nobody reads this")
    with pytest.raises(BrokenPipeError):
        unread.close()
    tell("and now it is closed")


def tell(text: str) -> None:
    log.get("health").warning(text)
    logging.getLogger("library").warning(text)
