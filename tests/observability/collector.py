"""What can be said of a collector's configuration without a collector: names, references and the form of addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

KNOWN: dict[str, dict[str, set[str]]] = {
    "receivers": {"otlp": {"protocols"}},
    "processors": {
        "batch": {"timeout", "send_batch_size", "send_batch_max_size"},
        "memory_limiter": {
            "check_interval",
            "limit_mib",
            "limit_percentage",
            "spike_limit_mib",
            "spike_limit_percentage",
        },
    },
    "exporters": {
        "debug": {"verbosity"},
        "nop": set(),
        "otlp_grpc": {"endpoint", "headers", "tls", "compression"},
        "otlp_http": {"endpoint", "headers", "tls", "compression"},
        "prometheus_remote_write": {"endpoint", "headers", "tls", "resource_to_telemetry_conversion"},
        "zipkin": {"endpoint", "tls"},
    },
    "extensions": {"health_check": {"endpoint"}},
}
WITH_SCHEME = {"otlp_http", "prometheus_remote_write", "zipkin"}


def laid_over(base: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """Several files as the collector takes them together: tables are merged, everything else is replaced."""
    for other in others:
        base = {**base, **{key: _merged(base.get(key), value) for key, value in other.items()}}
    return base


def _merged(old: Any, new: Any) -> Any:
    return laid_over(old, new) if isinstance(old, dict) and isinstance(new, dict) else new


def problems(config: dict[str, Any]) -> list[str]:
    """What a collector would refuse; empty when nothing is found."""
    return [*_components(config), *_pipelines(config)]


def _components(config: dict[str, Any]) -> Iterator[str]:
    for section in config.keys() - KNOWN.keys() - {"service"}:
        yield f"no section {section}"
    for section, known in KNOWN.items():
        for name, options in config.get(section, {}).items():
            kind = name.partition("/")[0]
            if kind not in known:
                yield f"{section}: no {kind}"
                continue
            for option in (options or {}).keys() - known[kind]:
                yield f"{section}: {name} has no {option}"
            yield from _address(name, kind, options or {})


def _address(name: str, kind: str, options: dict[str, Any]) -> Iterator[str]:
    endpoint = options.get("endpoint")
    if endpoint and bool(re.match(r"https?://", endpoint)) != (kind in WITH_SCHEME):
        yield f"{name}: {endpoint}"


def _pipelines(config: dict[str, Any]) -> Iterator[str]:
    service = config.get("service", {})
    for name in service.get("extensions", []):
        if name not in config.get("extensions", {}):
            yield f"service: no extension {name}"
    for signal, pipeline in service.get("pipelines", {}).items():
        if signal not in {"metrics", "traces", "logs"}:
            yield f"service: no signal {signal}"
        if not pipeline.get("receivers") or not pipeline.get("exporters"):
            yield f"{signal}: nothing comes in, or nothing goes out"
        yield from _references(config, signal, pipeline)


def _references(config: dict[str, Any], signal: str, pipeline: dict[str, list[str]]) -> Iterator[str]:
    for section, names in pipeline.items():
        for name in names:
            chosen = re.sub(r"\$\{env:\w+:-([^}]+)\}", r"\1", name)
            if chosen not in config.get(section, {}):
                yield f"{signal}: no {section} {name}"
