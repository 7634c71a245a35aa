"""The events that become traces, and finished spans. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.events import AnyEvent
from services.metrics_gateway.state.span import Span

MAX_OPEN = 64
"""Deployments in progress on one bus. Beyond that the oldest has lost its end, and its trace is dropped."""

MAX_EVENTS = 2000
"""Events of one deployment: those of some three hundred replicas."""

MAX_SPANS = 2048
"""Spans that wait for a push, at some hundred bytes each; the SDK's own queue has this size, too."""


class DeploymentTrace(msgspec.Struct):
    """The events of a deployment in their order. `ended`: the deployment has ended, but a batch is missing."""

    host: str
    app: str
    events: list[AnyEvent] = []
    ended: bool = msgspec.field(default=False, name="over")


class Tracing(msgspec.Struct):
    """The part of the state that becomes traces. All of it is bounded.

    `open` holds deployments that have not ended, `finished` the spans that are not exported yet. `dropped` counts spans
    that were not exported in time. `last` is the trace and the first span of each app's last deployment, by host and
    app.
    """

    open: dict[str, DeploymentTrace] = {}
    finished: list[Span] = []
    dropped: int = 0
    last: dict[tuple[str, str], tuple[str, str]] = {}

    def add(self, spans: Iterable[Span], position: int) -> None:
        """Add spans that ended with the message at `position` of the log."""
        self.finished += [msgspec.structs.replace(span, position=position) for span in spans]
        surplus = len(self.finished) - MAX_SPANS
        if surplus > 0:
            self.dropped += surplus
            del self.finished[:surplus]
