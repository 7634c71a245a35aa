"""How the exporters reach the collector: what their constructors are given. Loads gRPC, which is large."""

from __future__ import annotations

from typing import Any

from grpc import ChannelCredentials, Compression, ssl_channel_credentials  # type: ignore[import-untyped] # has no types

from services.common.certificates import Certificates, read
from services.metrics_gateway.telemetry import Signal, TelemetrySettings, variable


def options(settings: TelemetrySettings, signal: Signal) -> dict[str, Any]:
    """Arguments of an OTLP/gRPC exporter; what is left to OTEL_* variables is None."""
    is_insecure = settings.is_insecure(signal)
    return {
        "endpoint": settings.endpoint(signal),
        "insecure": is_insecure,
        "credentials": None if is_insecure else _credentials(settings.certificates(signal)),
        "headers": settings.headers() or None,
        "compression": _compression(settings.otlp_compression or variable(signal, "COMPRESSION")),
    }


def _credentials(files: Certificates) -> ChannelCredentials:
    contents = [read(file) if file else None for file in (files.ca, files.key, files.cert)]
    return ssl_channel_credentials(*contents)


def _compression(name: str) -> Compression:
    return Compression.Gzip if name.strip().lower() == "gzip" else Compression.NoCompression
