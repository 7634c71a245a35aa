"""Commands to a deployer, as spans. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.events import CommandAnswered
from services.metrics_gateway.state.span import Attribute, Span, is_trace, known_span

CLI = "cli"


def spans(host: str, app: str, event: CommandAnswered) -> Iterator[Span]:
    """Yield the command as the deployer executed it, and before it the waiting command line, if that sent it.

    Yield nothing for a command without the ids of a trace.
    """
    if not (is_trace(event.trace) and known_span(event.span)):
        return
    attributes: dict[str, Attribute] = {
        "host.name": host,
        "longshore.app": app,
        "longshore.by": event.by,
        "longshore.answer": event.message,
    }
    error = "" if event.ok else event.message
    if event.caller == CLI and known_span(event.parent):
        yield Span(
            trace=event.trace,
            id=event.parent,
            parent=known_span(event.caller_parent),
            name=f"longshore {event.command}",
            kind="client",
            start=min(event.sent, event.time),
            end=event.time,
            attributes=attributes,
            error=error,
        )
    yield Span(
        trace=event.trace,
        id=event.span,
        parent=known_span(event.parent),
        name=f"command {event.command}",
        kind="server",
        start=event.time - max(0.0, event.duration),
        end=event.time,
        attributes=attributes,
        error=error,
    )
