"""What a trace is told from: the events of one deployment. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.events import AnyEvent
from services.metrics_gateway.state.span import Span

MAX_OPEN = 64
MAX_EVENTS = 2000
MAX_SPANS = 2048


class DeploymentTrace(msgspec.Struct):
    """The events of a deployment so far, in the order in which they came. `over`: it ended, but a batch is missing."""

    host: str
    app: str
    events: list[AnyEvent] = []
    ended: bool = msgspec.field(default=False, name="over")


class Tracing(msgspec.Struct):
    """The part of the state that becomes traces; all of it is bounded.

    `open` holds deployments that have not ended, `finished` spans that were not exported yet, `dropped` counts those
    that nobody took in time. `last` is the trace and the first span of each app's last deployment, by host and app.
    """

    open: dict[str, DeploymentTrace] = {}
    finished: list[Span] = []
    dropped: int = 0
    last: dict[tuple[str, str], tuple[str, str]] = {}

    def add(self, spans: Iterable[Span], position: int) -> None:
        """Spans that are over with that message of the log."""
        self.finished += [msgspec.structs.replace(span, position=position) for span in spans]
        surplus = len(self.finished) - MAX_SPANS
        if surplus > 0:
            self.dropped += surplus
            del self.finished[:surplus]
