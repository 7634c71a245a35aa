"""The common part of pushing a signal to an OTLP endpoint: the exporter in a thread, its failures, its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from enum import Enum
from typing import Any, Protocol

from services.common import log
from services.common.errors import SettingsError
from services.metrics_gateway.export.otlp_channel import CertificateWatcher, forget_empty_variables
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.telemetry_settings import SIGNALS, Signal

STOP_TIMEOUT = 3.0
"""Seconds for the last push when the gateway stops. The supervisor kills a service that takes much longer."""

_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")


class Exporter(Protocol):
    """An OTLP exporter of OpenTelemetry's SDK."""

    def export(self, data: Any, /) -> Enum:
        """Push; this blocks. Return SUCCESS or FAILURE of an enumeration."""
        ...

    def shutdown(self) -> None:
        """Close the channel."""
        ...


class OtlpPusher(ABC):
    """Pushes one signal. The log gets one line when pushes begin to fail, and one when they work again."""

    def __init__(self, settings: GatewaySettings, projection: Projection, signal: Signal) -> None:
        endpoint = settings.endpoint(signal)
        self._signal = signal
        self._endpoint = endpoint.target if endpoint else ""
        self._settings = settings
        self._projection = projection
        self._log = log.get("gateway")
        self._failing = False
        self._exporting = 0
        self._messages = _ExporterMessages(signal)
        # First: the exporters' own filter drops the second of two messages that differ only in the signal.
        _EXPORTER_LOG.filters.insert(0, self._messages)
        self._certificates = CertificateWatcher(settings, signal)
        forget_empty_variables()
        self._exporter = self._new_exporter()

    @abstractmethod
    def _new_exporter(self) -> Exporter:
        """Return an exporter for the settings. Raises SettingsError for certificates that cannot be read."""

    async def _export(self, data: object) -> bool:
        """Push, in a thread. Return whether the collector has taken it."""
        self._exporting += 1
        return await asyncio.to_thread(self._export_blocking, data)

    def _export_blocking(self, data: object) -> bool:
        try:
            return self._exporter.export(data).name == "SUCCESS"
        except Exception as error:
            self._messages.last = repr(error)
            return False
        finally:
            self._exporting -= 1

    def _finish(self, succeeded: bool) -> None:
        """Log a change between success and failure. After a failure, load certificates that have been replaced."""
        if succeeded and self._failing:
            self._log.info(f"pushing {self._signal} works again", endpoint=self._endpoint)
        if not succeeded and not self._failing:
            reason = self._messages.last
            self._log.warning(f"cannot push {self._signal}, retrying", endpoint=self._endpoint, reason=reason)
        self._failing = not succeeded
        if not succeeded and self._certificates.changed():
            self._replace_exporter()

    def _replace_exporter(self) -> None:
        with contextlib.suppress(SettingsError):  # the files are being replaced right now: the next failure tries again
            fresh = self._new_exporter()
            self._exporter.shutdown()
            self._exporter = fresh

    async def _close(self, last_push: Awaitable[None]) -> None:
        """Await the last push for a few seconds, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await last_push
        self._exporter.shutdown()
        if not self._exporting:  # an export that still runs in its thread will log its failure
            _EXPORTER_LOG.removeFilter(self._messages)


class _ExporterMessages(logging.Filter):
    """Keeps the exporter's `last` message about a signal, and keeps it out of the log.

    The exporters of all signals share a logger. Their messages have the name of the signal among the arguments.
    """

    def __init__(self, signal: Signal) -> None:
        super().__init__()
        self.last = ""
        self._others = {other for other in SIGNALS if other != signal}

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and self._others.intersection(map(str, record.args)):
            return True
        self.last = record.getMessage()
        return False
