"""The interface of a runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from typing import Protocol

import msgspec

from schemas.output import Execute, RunTask
from schemas.routing import Artifact
from services.deployer.runtime.entry import Entry, Kept
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


class Usage(msgspec.Struct, frozen=True):
    """The resources of a replica since it was last started: seconds of CPU time, and bytes. None: there is no value.

    `restarts`: how often its engine started it again.
    """

    cpu: float = 0.0
    memory: int = 0
    memory_limit: int | None = None
    received: int | None = None
    sent: int | None = None
    restarts: int = 0


class Exit(msgspec.Struct, frozen=True):
    """A replica ended. `code`: exit status, -N for signal N, or UNSEEN. `restarts`: its engine starts it again.

    `output`: its last lines.
    """

    id: str
    code: int
    oom: bool = False
    restarts: bool = False
    output: str = ""


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


class Outputs(Protocol):
    """What the replicas of an application on this host have printed, as far as it is kept."""

    async def kept(self) -> list[Kept]:
        """Return the replicas whose output is kept, the one that was started first at the beginning."""

    def entries(self, replica: str, since: float, tail: int, follow: bool) -> AsyncGenerator[Entry | None]:
        """Yield the lines that a replica has printed, at most `tail` of them (-1: all) and none before `since`.

        With `follow`: then None, and the lines that it prints from then on, until it ends. Raises LongshoreError when
        its output cannot be read.
        """

    async def last_lines(self, replica: str) -> str:
        """Return the last lines of a replica's output, empty if they cannot be read. Secrets in them are masked."""


class Session(Protocol):
    """A command that a person runs."""

    def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what the command writes, each part with its source (schemas.output), until it has ended."""

    async def write(self, data: bytes) -> None:
        """Send input. Waits until the command, or a buffer before it, has taken it."""

    async def end_input(self) -> None:
        """Send the end of the input."""

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal."""

    async def wait(self) -> int:
        """Return the exit code, -N for signal N, as soon as the command has ended."""

    async def close(self) -> None:
        """End the command with all that it started, and remove what was made for it."""


class Commands(Protocol):
    """Commands that a person runs in a replica or beside it. Both raise LongshoreError."""

    async def execute(self, session: str, request: Execute) -> Session:
        """Run a command in a replica that runs."""

    async def run(self, session: str, spec: Spec, request: RunTask) -> Session:
        """Run a command in a release, with the environment of a replica of it."""


class Runtime(Protocol):
    """A runtime: it starts, stops and finds the replicas of one application on this host; they outlive it.

    `pull` and `start` raise ReleaseError if the release is at fault.
    """

    @property
    def commands(self) -> Commands:
        """Commands of a person."""

    @property
    def outputs(self) -> Outputs:
        """What the replicas have printed."""

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

    async def pull(self, artifact: Artifact, options: Options) -> None:
        """Bring a release to this host, and check that it can run with these options."""

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

    async def usage(self) -> dict[str, Usage]:
        """Return the resources of each replica that runs, without those that cannot be read now. Never raises."""

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Remove from this host what no release needs any more. Never raises for what cannot be removed."""

    async def removed(self) -> None:
        """Return when what was left of forgotten replicas is removed."""

    def close(self) -> None:
        """Stop watching, and leave the replicas running."""
