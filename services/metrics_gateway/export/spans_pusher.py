"""Pushing spans to an OTLP endpoint."""

from __future__ import annotations

import asyncio
from collections import deque

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from schemas.limits import LARGEST
from services.common.version import VERSION
from services.metrics_gateway.export import otlp_channel
from services.metrics_gateway.export.otlp_pusher import OtlpPusher
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.state.span import Attribute, Span
from services.metrics_gateway.state.tracing import MAX_SPANS

INTERVAL = 1.0
BATCH = 512
LONGEST = 1000
"""Characters of an attribute that are pushed. 512 spans with such attributes are below a collector's 4 MiB."""

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SCOPE = InstrumentationScope("longshore", VERSION)


class SpansPusher(OtlpPusher):
    """Pushes the spans of the fold, and those that are recorded here, while `run` runs and once more on `close`.

    Spans that the collector has not taken go out with the next push. A span of the fold stays in the state until it is
    delivered, so that a restart loses none; one that was delivered just before a crash may come again, with the same
    id. One gateway on the bus pushes the spans of the fold; the others drop them when they see in the lease that they
    are pushed.
    """

    def __init__(self, settings: GatewaySettings, projection: Projection, resource: Resource) -> None:
        super().__init__(settings, projection, "traces")
        self._resource = resource
        self._recorded: deque[Span] = deque(maxlen=MAX_SPANS)
        self._pushing = asyncio.Lock()
        self._acquisitions = 0

    def record(self, span: Span) -> None:
        """Add a span of this process itself."""
        if len(self._recorded) == MAX_SPANS:
            self._projection.otlp_spans["dropped"] += 1
        self._recorded.append(span)

    async def run(self) -> None:
        """Push all spans every second, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self._push_all()

    async def push(self) -> bool:
        """Push a batch. Return whether there may be more to push now."""
        async with self._pushing:
            if not self._projection.is_caught_up:
                return False
            self._drop_pushed_elsewhere()
            state, pushes = self._projection.state, self._projection.has_role("traces")
            position, folded = state.position, state.tracing.finished[:BATCH] if pushes else []
            own = list(self._recorded)[: BATCH - len(folded)]
            spans = [*folded, *own]
            if pushes and not folded:
                self._mark_pushed(position)
            if not spans:
                return False
            succeeded = await self._export([_readable(span, self._resource) for span in spans])
            self._projection.otlp_spans["success" if succeeded else "failure"] += len(spans)
            self._finish(succeeded)
            if succeeded:
                self._drop_delivered({(span.trace, span.id) for span in spans})
            return succeeded and len(spans) == BATCH

    async def close(self) -> None:
        """Push the last spans, within a few seconds, and end."""
        await self._close(self._push_all())

    async def _push_all(self) -> None:
        while await self.push():
            pass

    def _new_exporter(self) -> OTLPSpanExporter:
        return OTLPSpanExporter(**otlp_channel.options(self._settings, "traces"))

    def _mark_pushed(self, position: int) -> None:
        """Note in the lease that all spans up to this message of the log are pushed."""
        if lease := self._projection.leases.get("traces"):
            lease.processed = position

    def _drop_pushed_elsewhere(self) -> None:
        """Drop the spans that another gateway has pushed, or had pushed when this one took over from it."""
        lease, tracing = self._projection.leases.get("traces"), self._projection.state.tracing
        if lease and not (lease.is_held and lease.acquisitions == self._acquisitions):
            self._acquisitions = lease.acquisitions if lease.is_held else self._acquisitions
            tracing.finished = [span for span in tracing.finished if not 0 < span.position <= lease.processed]

    def _drop_delivered(self, ids: set[tuple[str, str]]) -> None:
        tracing = self._projection.state.tracing
        tracing.finished = [span for span in tracing.finished if (span.trace, span.id) not in ids]
        left = [span for span in self._recorded if (span.trace, span.id) not in ids]
        self._recorded.clear()
        self._recorded.extend(left)


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        name=span.name[:LONGEST],
        context=_context(span.trace, span.id),
        parent=_context(span.trace, span.parent) if span.parent else None,
        resource=resource,
        attributes={name: _attribute(value) for name, value in span.attributes.items()},
        links=[Link(_context(*link)) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error[:LONGEST]) if span.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(max(span.start, span.end)),
        instrumentation_scope=_SCOPE,
    )


def _attribute(value: Attribute) -> Attribute:
    """Return the value as a collector takes it: text of a bounded length, integers of 64 bits."""
    if isinstance(value, str):
        return value[:LONGEST]
    return float(value) if abs(value) >= 2**63 else value


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9) if 0 <= seconds < LARGEST else 0


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
