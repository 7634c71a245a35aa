"""Pushing the metrics to an OTLP endpoint: at an interval, in a thread, without harm when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os

import msgspec
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL
from opentelemetry.sdk.metrics import Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from services.common import log
from services.common.errors import BusError, ObjectError, SettingsError
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.export import otlp_channel
from services.metrics_gateway.export.otlp import Collector
from services.metrics_gateway.instruments.instrument import Kind
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings

DEFAULT_INTERVAL = 60.0
PUSHED_VALUES = "pushed"
"""Object with what the collector was told, when it is told what was added."""

STOP_TIMEOUT = 3.0

_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_DELTA = AggregationTemporality.DELTA


class Pusher:
    """Pushes while `run` runs, and once more on `close`. A streak of failures is one line in the log."""

    def __init__(self, settings: GatewaySettings, projection: Projection, resource: Resource, objects: Objects) -> None:
        endpoint = settings.endpoint("metrics")
        self._endpoint = endpoint.target if endpoint else ""
        self._interval = settings.otlp_interval or export_interval()
        self._projection = projection
        self._log = log.get("gateway")
        self._failing = False
        self._reason = _Reason()
        self._is_exporting = False
        _EXPORTER_LOG.addFilter(self._reason)
        self._settings = settings
        self._certificates = otlp_channel.CertificateWatcher(settings, "metrics")
        otlp_channel.forget_empty_variables()
        self._exporter = _exporter(settings)
        self._collector = Collector(projection.measurement, resource, self._delta())
        self._running: asyncio.Task[None] | None = None
        self._objects = objects
        self._acquisitions = 0

    async def run(self) -> None:
        """Push at every interval, until cancelled; what is under way then goes on."""
        while True:
            await asyncio.sleep(self._interval)
            self._running = asyncio.create_task(self.push(), name="push")
            await asyncio.shield(self._running)

    async def push(self) -> None:
        """Push once, unless the state is not complete yet, or another gateway does."""
        if not self._projection.is_caught_up or not self._projection.has_role("metrics") or not await self._has_begun():
            return
        succeeded = True
        taken = self._collector.take()
        position = taken.measurement.state.position
        for push in await asyncio.to_thread(self._collector.requests, taken):
            if not self._projection.has_role("metrics"):  # it was stopped for a while: another one may push now
                return
            if await asyncio.to_thread(self._export, push.data):
                self._collector.pushed(push)
                self._done(position)
            else:
                succeeded = False
        self._account(succeeded)
        if not succeeded and self._certificates.changed():
            self._renew()
        await self._keep()

    async def close(self) -> None:
        """Push what came last, within a few seconds, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                if self._running:
                    await self._running
                await self.push()
        self._exporter.shutdown()
        if not self._is_exporting:  # one that goes on in its thread still has something to say
            _EXPORTER_LOG.removeFilter(self._reason)

    def _renew(self) -> None:
        with contextlib.suppress(SettingsError):  # of files that are about to be replaced
            fresh = _exporter(self._settings)
            self._exporter.shutdown()
            self._exporter = fresh

    def _delta(self) -> set[Kind]:
        preferred = self._exporter._preferred_temporality or {}
        kinds: dict[Kind, type] = {"counter": ObservableCounter, "histogram": Histogram}
        return {kind for kind, instrument in kinds.items() if preferred.get(instrument) is _DELTA}

    def _done(self, position: int) -> None:
        """What is counted up to that message of the log is pushed, at least in part."""
        if lease := self._projection.leases.get("metrics"):
            lease.processed = position

    async def _has_begun(self) -> bool:
        """Whether this gateway can go on where the one before it ended: it has read as far, and deltas know the values.

        Values of one that is behind would go back, and stores would take that for a restart and count all of it again.
        """
        lease = self._projection.leases.get("metrics")
        if lease is None or lease.acquisitions == self._acquisitions:
            return True
        acquisitions = lease.acquisitions
        try:
            if await self._projection.is_behind(lease.processed):
                return False
            if self._collector.is_delta:
                self._collector.begin(await self._objects.get(PUSHED_VALUES))
        except BusError as error:
            self._log.warning("cannot read what was pushed, trying again", reason=str(error))
            return False
        except (ObjectError, msgspec.MsgspecError) as error:
            self._log.warning("what was pushed before is not known: pushing everything", reason=str(error))
            self._collector.begin(None)
        self._acquisitions = acquisitions
        return True

    async def _keep(self) -> None:
        """Keep what was pushed, for the gateway that goes on after this one."""
        if self._collector.is_delta and self._projection.has_role("metrics"):
            try:
                await self._objects.put(PUSHED_VALUES, self._collector.pushed_values())
            except BusError as error:
                self._log.warning("cannot keep what was pushed: it may be pushed again", reason=str(error))

    def _export(self, data: MetricsData) -> bool:
        self._is_exporting = True
        try:
            return self._exporter.export(data) is MetricExportResult.SUCCESS
        except Exception as error:
            self._reason.text = repr(error)
            return False
        finally:
            self._is_exporting = False

    def _account(self, succeeded: bool) -> None:
        self._projection.otlp_exports["success" if succeeded else "failure"] += 1
        if succeeded and self._failing:
            self._log.info("pushing metrics works again", endpoint=self._endpoint)
        if not succeeded and not self._failing:
            self._log.warning("cannot push metrics, trying on", endpoint=self._endpoint, reason=self._reason.text)
        self._failing = not succeeded


def _exporter(settings: GatewaySettings) -> OTLPMetricExporter:
    return OTLPMetricExporter(**otlp_channel.options(settings, "metrics"), preferred_temporality=_temporality(settings))


def export_interval() -> float:
    """Seconds between two pushes: OTEL_METRIC_EXPORT_INTERVAL (milliseconds), or a minute if that is no duration."""
    try:
        seconds = float(os.environ.get(OTEL_METRIC_EXPORT_INTERVAL, "")) / 1000
    except ValueError:
        return DEFAULT_INTERVAL
    return seconds if 0 < seconds < math.inf else DEFAULT_INTERVAL


def _temporality(settings: GatewaySettings) -> dict[type, AggregationTemporality]:
    """What the option says; nothing: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE decides."""
    if settings.otlp_temporality is None:
        return {}
    chosen = AggregationTemporality[settings.otlp_temporality.upper()]
    return {ObservableCounter: chosen, Histogram: chosen}


class _Reason(logging.Filter):
    """Keeps the exporter's last complaint, and keeps it out of the log."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False
