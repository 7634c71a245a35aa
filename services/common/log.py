"""Logging: structlog, as text for people or one JSON object a line for machines, on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog

from services.common.config.settings import LogFormat, LogLevel


class _Stderr:
    """Standard error as it is when a line is written. A line that cannot be written is lost, and nothing else is."""

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


def get(service: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a service; every line carries its name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(service=service)
    return logger
