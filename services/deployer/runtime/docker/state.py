"""A container as the engine describes it (GET /containers/NAME/json). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Dial = Literal["host", "container"]
Address = tuple[str, int]

HOST = "127.0.0.1"


class State(msgspec.Struct, frozen=True):
    """`started`: when its process was started last, as the engine writes it. `health`: empty without a HEALTHCHECK."""

    status: str
    started: str
    code: int
    oom: bool
    pid: int
    health: str = ""
    stop_signal: str = "SIGTERM"

    @property
    def is_up(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def is_over(self) -> bool:
        """It has ended, and the engine will not start it again."""
        return self.status in ("exited", "stopped", "dead", "removing")

    @property
    def is_well(self) -> bool:
        """It runs, and nothing that its image checks by itself speaks against it."""
        return self.is_up and self.health in ("", "healthy")


def read(container: Mapping[str, Any]) -> State:
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
    )


def addresses(container: Mapping[str, Any], ports: Mapping[int, int], dial: Dial) -> dict[int, Address]:
    """Where its ports are reached, as far as they are: `ports` maps what the caller calls a port to the real one."""
    settings = container["NetworkSettings"]
    found = {}
    for name, port in ports.items():
        address = _own(settings, port) if dial == "container" else _published(settings, port)
        if address:
            found[name] = address
    return found


def _own(settings: Mapping[str, Any], port: int) -> Address | None:
    for network in settings["Networks"].values():
        if address := network.get("IPAddress") or network.get("GlobalIPv6Address"):
            return address, port
    return None


def _published(settings: Mapping[str, Any], port: int) -> Address | None:
    bindings = (settings["Ports"] or {}).get(f"{port}/tcp") or []
    return next(((HOST, int(one["HostPort"])) for one in bindings if one["HostPort"]), None)
