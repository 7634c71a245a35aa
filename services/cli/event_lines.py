"""An event as a line of text, and as an object."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import Event
from services.cli import output
from services.client.client import LoggedEvent
from services.metrics_gateway.views.times import iso

TIMES = ("sent",)
"""Fields of events that are unix times, besides `time`, which begins the line."""


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def as_object(recorded: LoggedEvent) -> dict[str, Any]:
    """Return an event as JSON has it: as the admin API, and its fields once more beside the envelope, as ever.

    A field that is called as a part of the envelope is in `details` only.
    """
    event, kind = recorded.event, type(recorded.event).__name__
    fields = _fields(event)
    envelope = {name: getattr(recorded, name) for name in ("sequence", "service", "host", "app")}
    details = {name: value for name, value in fields.items() if name != "time"}
    return fields | envelope | {"kind": kind, "event": kind, "at": iso(event.time), "details": details}


def as_line(recorded: LoggedEvent) -> str:
    event = recorded.event
    details = " ".join(f"{name}={_shown(name, value)}" for name, value in _fields(event).items() if name != "time")
    return (
        f"{output.clock(event.time, fraction=True)} {recorded.service}/{recorded.app} {type(event).__name__} {details}"
    )


def _shown(name: str, value: Any) -> str:
    """Return a field's value: a time as date and time, other numbers in full, a text in quotes where it needs them."""
    if name in TIMES:
        value = output.clock(value) if value else ""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """Return a text in quotes if it is empty, or has blanks, quotes, or characters that a terminal would obey."""
    if text and text.isprintable() and not any(one in text for one in ' "'):
        return text
    quoted = msgspec.json.encode(text).decode()
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in quoted)  # JSON leaves some as they are
