"""Options of the proxy."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec

from services.common.config.option import DrainTime, Option
from services.common.config.settings import Settings, check_duration, check_positive
from services.common.errors import SettingsError
from services.proxy.messages import Balance
from services.proxy.sockets.listeners import parse

MAX_DEFAULT_WORKERS = 4
"""Each worker costs memory; a busy host asks for more with --workers."""

MAX_WORKERS = 64


def default_workers() -> int:
    """Return the default: one worker for each core that this process may use, at most 4."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_WORKERS)


class ProxySettings(Settings, frozen=True, kw_only=True):
    """Times are seconds. `max_connections` is for all workers together; 0: as many as open files allow.

    `trace_connections` is the share of connections that is traced.
    """

    listen: Annotated[list[str], Option("APP=PORT or APP=ADDRESS:PORT that the proxy serves. Repeatable.", "Proxy")] = (
        msgspec.field(default_factory=list)
    )
    workers: Annotated[
        int, Option("Worker processes of the proxy.", "Proxy", shown_default="one per core, at most 4")
    ] = msgspec.field(default_factory=default_workers)
    hold: Annotated[float, Option("Seconds that a connection waits for a backend when none is ready.", "Proxy")] = 10.0
    connect_timeout: Annotated[float, Option("Seconds that a connection to a backend may take.", "Proxy")] = 5.0
    idle_timeout: Annotated[
        float,
        Option("Seconds without a byte in either direction after which a connection is closed; 0: never.", "Proxy"),
    ] = 300.0
    drain_time: DrainTime = 30.0
    max_connections: Annotated[
        int, Option("Open connections at which the proxy stops accepting; 0: what the file limit allows.", "Proxy")
    ] = 0
    balance: Annotated[Balance, Option("How the proxy picks a backend.", "Proxy")] = "round-robin"
    trace_connections: Annotated[float, Option("Share of connections to trace, from 0 (none) to 1 (all).", "Proxy")] = (
        0.0
    )

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SettingsError(f"--workers {self.workers}: use 1 to {MAX_WORKERS}, at most one for each core")
        check_duration("--hold", self.hold)
        check_positive("--connect-timeout", self.connect_timeout)
        check_duration("--idle-timeout", self.idle_timeout)
        check_duration("--drain-time", self.drain_time)
        _check_max_connections(self.max_connections, self.workers)
        _check_ports(self.listen)
        if not 0 <= self.trace_connections <= 1:
            raise SettingsError(
                f"--trace-connections {self.trace_connections:g}: use a share from 0 to 1, such as 0.01"
            )


def _check_max_connections(most: int, workers: int) -> None:
    if most < 0 or 0 < most < workers:
        raise SettingsError(f"--max-connections {most}: use at least one for each of the {workers} workers, or 0")


def _check_ports(listen: list[str]) -> None:
    ports = [parse(item).port for item in listen]
    twice = sorted({port for port in ports if ports.count(port) > 1})
    if twice:
        raise SettingsError(f"--listen: port {twice[0]} is given twice; give every port once")
