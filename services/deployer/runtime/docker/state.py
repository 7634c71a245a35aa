"""A container in the engine's description and statistics (GET /containers/NAME/json and /stats). Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from services.deployer.runtime.protocol import Usage

Dial = Literal["host", "container"]
Address = tuple[str, int]

HOST = "127.0.0.1"
_SIGNALS = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
_DEFAULT, _BRIDGE = "default", "bridge"
_CACHES = ("inactive_file", "total_inactive_file")
"""The file cache that the kernel can drop at once, as cgroups of version 2 and 1 name it."""


class State(msgspec.Struct, frozen=True):
    """The state of a container.

    `started`: when its process was last started, as the engine writes it. `health`: empty without a HEALTHCHECK.
    `restarts`: how often the engine has started it again. `memory_limit`: bytes, None without a limit.
    """

    status: str
    started: str
    code: int
    oom: bool
    pid: int
    health: str = ""
    stop_signal: str = "SIGTERM"
    restarts: int = 0
    memory_limit: int | None = None

    @property
    def is_up(self) -> bool:
        """It runs."""
        return self.status in ("running", "paused")

    @property
    def is_over(self) -> bool:
        """It has ended, and the engine will not start it again."""
        return self.status in ("exited", "stopped", "dead", "removing")

    @property
    def is_well(self) -> bool:
        """It runs, and its image's own HEALTHCHECK passes, if there is one."""
        return self.is_up and self.health in ("", "healthy")

    @property
    def problem(self) -> str:
        """The problem; empty if it `is_well`."""
        if self.is_well:
            return ""
        return f"its HEALTHCHECK says {self.health}" if self.is_up else f"is {self.status}"


def read(container: Mapping[str, Any]) -> State:
    """Return the state of a container."""
    state = container["State"]
    health = (state.get("Health") or {}).get("Status", "")
    return State(
        state["Status"],
        state["StartedAt"],
        state["ExitCode"],
        state["OOMKilled"],
        state["Pid"],
        "" if health == "none" else health,
        container["Config"].get("StopSignal") or "SIGTERM",
        container.get("RestartCount") or 0,
        (container.get("HostConfig") or {}).get("Memory") or None,
    )


def usage(stats: Mapping[str, Any], state: State) -> Usage | None:
    """Return the resources of a container by its statistics, None if they are of one that does not run."""
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    networks = stats.get("networks")
    details = memory.get("stats") or {}
    cache = next((details[name] for name in _CACHES if name in details), 0)
    return Usage(
        stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        max(memory["usage"] - cache, 0),
        state.memory_limit,
        None if networks is None else sum(one["rx_bytes"] for one in networks.values()),
        None if networks is None else sum(one["tx_bytes"] for one in networks.values()),
        state.restarts,
    )


def is_signal(number: str, name: str) -> bool:
    """Return True if an event's signal number is the signal that an image names: TERM, SIGTERM or 15."""
    short = name.upper().removeprefix("SIG")
    if short.isdigit():
        return number == short
    if short in _SIGNALS:
        return number == str(_SIGNALS[short])
    return number not in ("", "9")  # one of the real-time signals: their numbers are the engine's


def addresses(container: Mapping[str, Any], ports: Mapping[int, int], dial: Dial) -> dict[int, Address]:
    """Return the addresses of the ports that can be reached. `ports` maps the caller's name of a port to its number."""
    own = own_address(container)[0]
    found = {}
    for name, port in ports.items():
        address = ((own, port) if own else None) if dial == "container" else published(container, port)
        if address:
            found[name] = address
    return found


def own_address(container: Mapping[str, Any]) -> tuple[str, str]:
    """Return its own address and that of the network's gateway; empty where it has none.

    A container may be in several networks. Only the one that it was created with counts: the proxy may be in that one
    alone.
    """
    networks = container["NetworkSettings"]["Networks"] or {}
    mode = container["HostConfig"].get("NetworkMode") or _DEFAULT
    mode = _BRIDGE if mode == _DEFAULT else mode
    by_id = (one for one in networks.values() if (one.get("NetworkID") or "").startswith(mode))
    network = networks.get(mode) or next(by_id, None)
    if network is None and mode == _BRIDGE:  # an engine may have another name for its default network
        network = next(iter(networks.values()), None)
    if network is None:
        return "", ""
    if address := network.get("IPAddress"):
        return address, network.get("Gateway") or ""
    return network.get("GlobalIPv6Address") or "", network.get("IPv6Gateway") or ""


def published(container: Mapping[str, Any], port: int) -> Address | None:
    """Return the address at which the engine publishes a port of the container on this host."""
    bindings = (container["NetworkSettings"]["Ports"] or {}).get(f"{port}/tcp") or []
    return next(((HOST, int(one["HostPort"])) for one in bindings if one["HostPort"]), None)
