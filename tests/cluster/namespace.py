"""A network namespace with two cables to it: one for the other servers, one for clients."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Namespace:
    """`here` and `there`: the addresses at both ends of each cable, by what it is for."""

    def __init__(self) -> None:
        self.name = f"longshore{os.getpid()}"
        number = os.getpid() % 250
        self.here = {"routes": f"10.231.{number}.1", "clients": f"10.232.{number}.1"}
        self.there = {"routes": f"10.231.{number}.2", "clients": f"10.232.{number}.2"}
        self.enter = ("ip", "netns", "exec", self.name)

    def cut(self, cable: str) -> None:
        _run("ip", "link", "set", self._end(cable), "down")

    def mend(self, cable: str) -> None:
        _run("ip", "link", "set", self._end(cable), "up")

    def create(self) -> None:
        _run("ip", "netns", "add", self.name)
        _run(*self.enter, "ip", "link", "set", "lo", "up")
        for cable in self.here:
            mine, other = self._end(cable), f"{cable[0]}other"
            _run("ip", "link", "add", mine, "type", "veth", "peer", "name", other, "netns", self.name)
            _run("ip", "address", "add", f"{self.here[cable]}/30", "dev", mine)
            _run(*self.enter, "ip", "address", "add", f"{self.there[cable]}/30", "dev", other)
            _run(*self.enter, "ip", "link", "set", other, "up")
            self.mend(cable)

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)

    def _end(self, cable: str) -> str:
        return f"ls{cable[0]}{os.getpid()}"


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace; where this user may not make one the test is skipped, but never in CI."""
    made = Namespace()
    try:
        _create(made)
        yield made
    finally:
        made.remove()


def _create(made: Namespace) -> None:
    try:
        made.create()
    except PermissionError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no network namespaces here: {error}")


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PermissionError(f"{command[0]} is missing") from error
    if any(word in done.stderr for word in ("not permitted", "denied", "password is required")):
        raise PermissionError(f"{' '.join(command)}: {done.stderr.strip()}")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
