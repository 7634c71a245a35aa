"""Pushing the metrics to an OTLP endpoint: at the SDK's interval, in a thread, without harm when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from services.common import log
from services.metrics_gateway.live import Live
from services.metrics_gateway.otlp import Collector
from services.metrics_gateway.settings import GatewaySettings

DEFAULT_INTERVAL = 60.0
STOP_TIMEOUT = 3.0

_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")


class Pusher:
    """Pushes while `run` runs, and once more on `close`. A streak of failures is one line in the log."""

    def __init__(self, settings: GatewaySettings, live: Live, resource: Resource) -> None:
        self._endpoint = settings.otlp_endpoint
        self._live = live
        self._log = log.get("gateway")
        self._failing = False
        self._reason = _Reason()
        _EXPORTER_LOG.addFilter(self._reason)
        # None leaves the choice to OTEL_EXPORTER_OTLP_INSECURE, and TLS is its default.
        self._exporter = OTLPMetricExporter(self._endpoint, insecure=True if settings.otlp_insecure else None)
        self._collector = Collector(live.moment, resource, self._exporter._preferred_temporality)

    async def run(self) -> None:
        """Push at every interval, until cancelled."""
        interval = export_interval()
        while True:
            await asyncio.sleep(interval)
            await self.push()

    async def push(self) -> None:
        """Push once, unless the state is not complete yet."""
        if self._live.is_caught_up:
            succeeded = await asyncio.to_thread(self._export, self._collector.collect())
            self._account(succeeded)

    async def close(self) -> None:
        """Push what came last, within a few seconds, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.push()
        self._exporter.shutdown()
        self._collector.close()

    def _export(self, data: MetricsData) -> bool:
        try:
            return self._exporter.export(data) is MetricExportResult.SUCCESS
        except Exception as error:
            self._reason.text = repr(error)
            return False

    def _account(self, succeeded: bool) -> None:
        self._live.otlp_exports["success" if succeeded else "failure"] += 1
        if succeeded and self._failing:
            self._log.info("pushing metrics works again", endpoint=self._endpoint)
        if not succeeded and not self._failing:
            self._log.warning("cannot push metrics, trying on", endpoint=self._endpoint, reason=self._reason.text)
        self._failing = not succeeded


def export_interval() -> float:
    """Seconds between two pushes: OTEL_METRIC_EXPORT_INTERVAL (milliseconds), or a minute if that is no duration."""
    try:
        seconds = float(os.environ.get(OTEL_METRIC_EXPORT_INTERVAL, "")) / 1000
    except ValueError:
        return DEFAULT_INTERVAL
    return seconds if 0 < seconds < math.inf else DEFAULT_INTERVAL


class _Reason(logging.Filter):
    """Keeps the exporter's last complaint, and keeps it out of the log."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False
