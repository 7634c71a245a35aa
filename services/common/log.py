"""Logging: structlog on stderr, as text for people or as one JSON object a line for machines."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Literal, TextIO, TypeAlias, cast

import structlog

from services.common.config.settings import LogFormat, LogLevel

Logger: TypeAlias = structlog.typing.FilteringBoundLogger

MOST_REASONS = 5
"""Reasons that are logged of one outage: a reason with an address or a time in it is another one each time."""


class _Stderr:
    """The standard error that is in place when a line is written. A line that cannot be written is lost."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # broken, closed
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(log_format: LogFormat, log_level: LogLevel) -> None:
    """Set up logging for this process, the standard library's loggers included."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    )
    stderr = cast(TextIO, _Stderr())
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class Outage:
    """Log lines about something that fails again and again: one when it begins, and one when it ends.

    `failure` and `recovery` are the texts of the lines; without a `recovery`, the end is not logged.
    """

    def __init__(
        self,
        logger: Logger,
        failure: str,
        recovery: str = "",
        level: Literal["warning", "error"] = "warning",
        **fields: object,
    ) -> None:
        self._log = logger
        self._level = level
        self._failure = failure
        self._recovery = recovery
        self._fields = fields
        self._reasons: set[str] = set()

    def failed(self, reason: str, **fields: object) -> None:
        """Log a failure, unless one with this reason is logged already; after a few reasons, log no more."""
        if reason not in self._reasons and len(self._reasons) < MOST_REASONS:
            getattr(self._log, self._level)(self._failure, reason=reason, **self._fields, **fields)
            self._reasons.add(reason)

    def recovered(self) -> None:
        """Log the recovery, if there was a failure."""
        if self._reasons and self._recovery:
            self._log.info(self._recovery, **self._fields)
        self._reasons.clear()


def get(service: str) -> Logger:
    """Return the logger of a service; every line carries its name."""
    logger: Logger = structlog.get_logger(service=service)
    return logger
