"""The connection to the collector: arguments of the exporters' constructors. Loads gRPC, which is large."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grpc import ChannelCredentials, Compression, ssl_channel_credentials  # type: ignore[import-untyped] # has no types

from services.common.config.certificates import Certificates, read
from services.metrics_gateway.telemetry_settings import Signal, TelemetrySettings, variable


class CertificateWatcher:
    """Detects that certificate files of a signal were replaced, as happens before or after they expire."""

    def __init__(self, settings: TelemetrySettings, signal: Signal) -> None:
        self._files = settings.certificates(signal)
        self._seen = self._stamps()

    def changed(self) -> bool:
        """Return whether the files have changed since the last call."""
        before, self._seen = self._seen, self._stamps()
        return self._seen != before

    def _stamps(self) -> list[tuple[int, int]]:
        return [_stamp(Path(file)) for file in (self._files.ca, self._files.cert, self._files.key) if file]


def _stamp(path: Path) -> tuple[int, int]:
    """Return a value that changes with a file; zeros while it is missing, as during a replacement."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def forget_empty_variables() -> None:
    """Remove empty OTEL_* variables: the specification ignores them, but the exporters do not."""
    for name in [name for name, value in os.environ.items() if name.startswith("OTEL_") and not value.strip()]:
        del os.environ[name]


def options(settings: TelemetrySettings, signal: Signal) -> dict[str, Any]:
    """Return the arguments of an OTLP/gRPC exporter; None leaves a choice to OTEL_* variables."""
    is_insecure, endpoint = settings.is_insecure(signal), settings.endpoint(signal)
    return {
        "endpoint": endpoint.target if endpoint else None,
        "insecure": is_insecure,
        "credentials": None if is_insecure else _credentials(settings.certificates(signal)),
        "headers": settings.headers(signal) or None,
        "timeout": settings.timeout(signal),
        "compression": _compression(settings.otlp_compression or variable(signal, "COMPRESSION")),
    }


def _credentials(files: Certificates) -> ChannelCredentials:
    contents = [read(file) if file else None for file in (files.ca, files.key, files.cert)]
    return ssl_channel_credentials(*contents)


def _compression(name: str) -> Compression:
    return Compression.Gzip if name.strip().lower() == "gzip" else Compression.NoCompression
