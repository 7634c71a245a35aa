"""Pushing spans to an OTLP endpoint, in a thread, without harm when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from schemas.limits import LARGEST
from services.common import log
from services.common.errors import SettingsError
from services.common.version import VERSION
from services.metrics_gateway.export import otlp_channel
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.state.span import Attribute, Span
from services.metrics_gateway.state.tracing import MAX_SPANS

INTERVAL = 1.0
STOP_TIMEOUT = 3.0
BATCH = 512
LONGEST = 1000
"""Characters of an attribute that are pushed."""

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SCOPE = InstrumentationScope("longshore", VERSION)
_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")


class Tracer:
    """Pushes what the fold has finished and what is recorded here, while `run` runs and once more on `close`.

    What a push did not deliver goes out with the next. A span that was folded stays in the state until it is
    delivered, so that a restart loses none; one that was delivered just before a crash may come again, the same id.
    Of several gateways one pushes what was folded; the others forget what they see that it has pushed.
    """

    def __init__(self, settings: GatewaySettings, projection: Projection, resource: Resource) -> None:
        endpoint = settings.endpoint("traces")
        self._endpoint = endpoint.target if endpoint else ""
        self._projection = projection
        self._resource = resource
        self._recorded: deque[Span] = deque(maxlen=MAX_SPANS)
        self._log = log.get("gateway")
        self._failing = False
        self._reason = _Reason()
        self._is_exporting = False
        _EXPORTER_LOG.filters.insert(0, self._reason)
        self._settings = settings
        self._certificates = otlp_channel.CertificateWatcher(settings, "traces")
        otlp_channel.forget_empty_variables()
        self._exporter = OTLPSpanExporter(**otlp_channel.options(settings, "traces"))
        self._pushing = asyncio.Lock()
        self._acquisitions = 0

    def record(self, span: Span) -> None:
        """A span of this process itself."""
        if len(self._recorded) == MAX_SPANS:
            self._projection.otlp_spans["dropped"] += 1
        self._recorded.append(span)

    async def run(self) -> None:
        """Push what there is, again and again, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            while await self.push():
                pass

    async def push(self) -> bool:
        """Push a batch; whether there may be more to push now."""
        async with self._pushing:
            if not self._projection.is_caught_up:
                return False
            self._forget()
            state, pushes = self._projection.state, self._projection.has_role("traces")
            position, folded = state.position, state.tracing.finished[:BATCH] if pushes else []
            own = list(self._recorded)[: BATCH - len(folded)]
            spans = [*folded, *own]
            if pushes and not folded:
                self._done(position)
            if not spans:
                return False
            succeeded = await asyncio.to_thread(self._export, [_readable(span, self._resource) for span in spans])
            self._account(succeeded, len(spans))
            if not succeeded and self._certificates.changed():
                self._renew()
            if succeeded:
                self._delivered({(span.trace, span.id) for span in spans})
            return succeeded and len(spans) == BATCH

    def _renew(self) -> None:
        with contextlib.suppress(SettingsError):  # of files that are about to be replaced
            fresh = OTLPSpanExporter(**otlp_channel.options(self._settings, "traces"))
            self._exporter.shutdown()
            self._exporter = fresh

    def _done(self, position: int) -> None:
        """Everything is pushed that was over at that message of the log."""
        if lease := self._projection.leases.get("traces"):
            lease.processed = position

    def _forget(self) -> None:
        """Forget what another gateway has pushed, or had when this one took over from it."""
        lease, tracing = self._projection.leases.get("traces"), self._projection.state.tracing
        if lease and not (lease.is_held and lease.acquisitions == self._acquisitions):
            self._acquisitions = lease.acquisitions if lease.is_held else self._acquisitions
            tracing.finished = [span for span in tracing.finished if not 0 < span.position <= lease.processed]

    async def close(self) -> None:
        """Push what came last, within a few seconds, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                while await self.push():
                    pass
        self._exporter.shutdown()
        if not self._is_exporting:  # one that goes on in its thread still has something to say
            _EXPORTER_LOG.removeFilter(self._reason)

    def _delivered(self, ids: set[tuple[str, str]]) -> None:
        tracing = self._projection.state.tracing
        tracing.finished = [span for span in tracing.finished if (span.trace, span.id) not in ids]
        left = [span for span in self._recorded if (span.trace, span.id) not in ids]
        self._recorded.clear()
        self._recorded.extend(left)

    def _export(self, spans: list[ReadableSpan]) -> bool:
        self._is_exporting = True
        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:
            self._reason.text = repr(error)
            return False
        finally:
            self._is_exporting = False

    def _account(self, succeeded: bool, count: int) -> None:
        self._projection.otlp_spans["success" if succeeded else "failure"] += count
        if succeeded and self._failing:
            self._log.info("pushing traces works again", endpoint=self._endpoint)
        if not succeeded and not self._failing:
            self._log.warning("cannot push traces, trying on", endpoint=self._endpoint, reason=self._reason.text)
        self._failing = not succeeded


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
    """As a collector takes it: text of a bounded length, so that a batch is below 4 MiB, integers of 64 bits."""
    if isinstance(value, str):
        return value[:LONGEST]
    return float(value) if abs(value) >= 2**63 else value


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9) if 0 <= seconds < LARGEST else 0


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class _Reason(logging.Filter):
    """Keeps the exporter's last complaint about traces, and keeps it out of the log."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "traces" not in message:
            return True
        self.text = message
        return False
