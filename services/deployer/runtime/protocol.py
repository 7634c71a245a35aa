"""The interface of a runtime."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from schemas.routing import Artifact
from services.deployer.runtime.options import Options


class Spec(msgspec.Struct, frozen=True):
    """A replica to start: the `slot`-th of its release, for the deployment `revision`."""

    id: str
    app: str
    release: str
    slot: int
    artifact: Artifact
    options: Options = Options()
    revision: str = ""


class Running(msgspec.Struct, frozen=True):
    """A running replica and its addresses.

    `ports`: host and port behind each replica port that the settings name (0: the one that a replica is given), as far
    as they differ from `host` and `port`, which are those behind the first. `drain_signal`: the signal that `drain` may
    send it, empty if there is none.
    """

    host: str
    port: int
    pid: int = 0
    ports: dict[int, tuple[str, int]] = {}
    drain_signal: str = ""

    def address(self, port: int) -> tuple[str, int]:
        """Return host and port behind a replica port."""
        return self.ports.get(port, (self.host, self.port))


class Exit(msgspec.Struct, frozen=True):
    """A replica ended. `code`: exit status, -N for signal N, or UNSEEN. `restarts`: its engine starts it again."""

    id: str
    code: int
    oom: bool = False
    restarts: bool = False


class Found(msgspec.Struct, frozen=True):
    """A replica of an earlier deployer: it runs, or has ended.

    `stopping`: it was asked to stop. `draining`: it got its drain signal. `revision` and `options`: as in its Spec, the
    latter as a fingerprint; empty if an earlier version started it.
    """

    id: str
    release: str
    slot: int
    running: Running | None
    exit: Exit | None = None
    stopping: bool = False
    draining: bool = False
    revision: str = ""
    options: str = ""


class Runtime(Protocol):
    """A runtime: it starts, stops and finds the replicas of one application on this host; they outlive it.

    `pull` and `start` raise ReleaseError if the release is at fault.
    """

    on_exit: Callable[[Exit], None]
    """Called once for each replica that was started or adopted, in the event loop, as soon as it has ended.

    One that its engine restarts may end more often; `on_restart` is called as soon as it runs again.
    """

    on_restart: Callable[[str, Running], None]
    on_change: Callable[[], None]
    """Called when `problem` may have changed for some replica."""

    def options(self) -> Options:
        """Return the options that the settings and the environment ask for now. Raises LongshoreError."""

    async def adopt(self) -> list[Found]:
        """Return all replicas that an earlier deployer left and that are not forgotten, and watch them."""

    async def pull(self, artifact: Artifact) -> None:
        """Bring a release to this host."""

    async def holds(self, artifact: Artifact) -> bool:
        """Return True if exactly this artifact is on this host, whatever became of the registry since."""

    async def start(self, spec: Spec) -> Running:
        """Start a replica. Returns when it runs, which is long before it is ready."""

    def drain(self, replica: str, name: str) -> None:
        """Send a replica the drain signal of this name. Returns at once. No engine restarts it from now on."""

    def stop(self, replica: str, timeout: float) -> None:
        """Stop a replica: ask it to end, and kill it after `timeout` seconds. Returns at once."""

    def forget(self, replica: str) -> None:
        """Drop what is kept of an ended replica, except its last output."""

    def output(self, replica: str) -> str:
        """Return where people find the replica's output."""

    def problem(self, replica: str) -> str:
        """Return a problem that only the runtime sees, empty if there is none; probes decide the rest."""

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Remove from this host what no release needs any more. Never raises for what cannot be removed."""

    async def removed(self) -> None:
        """Return when what was left of forgotten replicas is removed."""

    def close(self) -> None:
        """Stop watching, and leave the replicas running."""
