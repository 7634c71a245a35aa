"""Pushing the metrics to an OTLP endpoint at an interval."""

from __future__ import annotations

import asyncio
import math
import os

import msgspec
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL
from opentelemetry.sdk.metrics import Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource

from services.common.errors import BusError, ObjectError
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.export import otlp_channel
from services.metrics_gateway.export.otlp import Collector
from services.metrics_gateway.export.otlp_pusher import OtlpPusher
from services.metrics_gateway.instruments.instrument import Kind
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings

DEFAULT_INTERVAL = 60.0
PUSHED_VALUES = "pushed"
"""Name of the object with the values that the collector has, when it gets deltas."""

_DELTA = AggregationTemporality.DELTA


class MetricsPusher(OtlpPusher):
    """Pushes the metrics at every interval while `run` runs, and once more on `close`."""

    _exporter: OTLPMetricExporter

    def __init__(self, settings: GatewaySettings, projection: Projection, resource: Resource, objects: Objects) -> None:
        super().__init__(settings, projection, "metrics")
        self._interval = settings.otlp_interval or export_interval()
        self._collector = Collector(projection.measurement, resource, self._delta())
        self._running: asyncio.Task[None] | None = None
        self._objects = objects
        self._acquisitions = 0

    async def run(self) -> None:
        """Push at every interval, until cancelled; a push in progress then goes on."""
        while True:
            await asyncio.sleep(self._interval)
            self._running = asyncio.create_task(self.push(), name="push")
            await asyncio.shield(self._running)

    async def push(self) -> None:
        """Push once, unless the state is not complete yet, or another gateway pushes."""
        if not self._projection.is_caught_up or not self._projection.has_role("metrics") or not await self._is_ready():
            return
        succeeded = True
        taken = self._collector.take()
        position = taken.measurement.state.position
        for push in await asyncio.to_thread(self._collector.requests, taken):
            if not self._projection.has_role("metrics"):  # this process was stopped for a while: another may push now
                return
            if await self._export(push.data):
                self._collector.pushed(push)
                self._mark_pushed(position)
            else:
                succeeded = False
        self._projection.otlp_exports["success" if succeeded else "failure"] += 1
        self._finish(succeeded)
        await self._save_pushed_values()

    async def close(self) -> None:
        """Push the last values, within a few seconds, and end."""
        await self._close(self._push_rest())

    async def _push_rest(self) -> None:
        if self._running:
            await self._running
        await self.push()

    def _new_exporter(self) -> OTLPMetricExporter:
        arguments = otlp_channel.options(self._settings, "metrics")
        return OTLPMetricExporter(**arguments, preferred_temporality=_temporality(self._settings))

    def _delta(self) -> set[Kind]:
        preferred = self._exporter._preferred_temporality or {}
        kinds: dict[Kind, type] = {"counter": ObservableCounter, "histogram": Histogram}
        return {kind for kind, instrument in kinds.items() if preferred.get(instrument) is _DELTA}

    def _mark_pushed(self, position: int) -> None:
        """Note in the lease that the log is pushed up to this message, at least in part."""
        if lease := self._projection.leases.get("metrics"):
            lease.processed = position

    async def _is_ready(self) -> bool:
        """Return whether this gateway can continue where the last one ended.

        It must have read as far as that one: its values would go back, and stores would take that for a restart and
        count everything again. Deltas need the values that were pushed last.
        """
        lease = self._projection.leases.get("metrics")
        if lease is None or lease.acquisitions == self._acquisitions:
            return True
        acquisitions = lease.acquisitions
        try:
            if await self._projection.is_behind(lease.processed):
                return False
            if self._collector.is_delta:
                self._collector.start_from(await self._objects.get(PUSHED_VALUES))
        except BusError as error:
            self._log.warning("cannot read the pushed values, trying again", reason=str(error))
            return False
        except (ObjectError, msgspec.MsgspecError) as error:
            self._log.warning("the pushed values are unknown: pushing everything", reason=str(error))
            self._collector.start_from(None)
        self._acquisitions = acquisitions
        return True

    async def _save_pushed_values(self) -> None:
        """Save what was pushed, for the gateway that continues after this one."""
        if self._collector.is_delta and self._projection.has_role("metrics"):
            try:
                await self._objects.put(PUSHED_VALUES, self._collector.pushed_values())
            except BusError as error:
                self._log.warning("cannot save the pushed values: some may be pushed again", reason=str(error))


def export_interval() -> float:
    """Return the seconds between two pushes: OTEL_METRIC_EXPORT_INTERVAL (milliseconds), or 60 if that is invalid."""
    try:
        seconds = float(os.environ.get(OTEL_METRIC_EXPORT_INTERVAL, "")) / 1000
    except ValueError:
        return DEFAULT_INTERVAL
    return seconds if 0 < seconds < math.inf else DEFAULT_INTERVAL


def _temporality(settings: GatewaySettings) -> dict[type, AggregationTemporality]:
    """Return what the option asks for. Empty: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE decides."""
    if settings.otlp_temporality is None:
        return {}
    chosen = AggregationTemporality[settings.otlp_temporality.upper()]
    return {ObservableCounter: chosen, Histogram: chosen}
