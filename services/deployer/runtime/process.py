"""Replicas as processes of this host, each under a shim that outlives the deployer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from schemas.routing import Artifact
from services.common import log
from services.common.errors import ReleaseError
from services.deployer import signals
from services.deployer.registry.directory import RUN, flaw
from services.deployer.runtime import orphans, ports, spawn, usage
from services.deployer.runtime.environment import HOST, environment
from services.deployer.runtime.options import Options, fingerprint
from services.deployer.runtime.output.process_outputs import ProcessOutputs
from services.deployer.runtime.output.process_session import ProcessCommands
from services.deployer.runtime.protocol import Exit, Found, Running, Spec, Usage
from services.deployer.runtime.replica_dir import Record, ReplicaDirectory, Started, folders, found, prune
from services.deployer.variables.variable_files import Variables

FORCE_AGAIN = 2.0
"""Seconds that the shim has to kill its group before it is killed itself."""


class _Watched(msgspec.Struct):
    folder: ReplicaDirectory
    started: Started
    descriptor: int
    timer: asyncio.TimerHandle | None = None


class ProcessRuntime:
    """The runtime whose release is a folder with an executable `run`. `root`: the parent of the replicas' folders.

    `passed`: variables of the environment that `options` gives a replica besides the usual ones. `drain_signal`: the
    full name of the signal that it gives a replica for its draining; empty: none. `variables`: what else it gives.
    `reserved`: ports that no replica gets.
    """

    def __init__(
        self,
        root: Path,
        passed: Collection[str] = (),
        drain_signal: str = "",
        variables: Variables | None = None,
        reserved: Collection[int] = (),
    ) -> None:
        self.on_exit: Callable[[Exit], None] = lambda _: None
        self.on_restart: Callable[[str, Running], None] = lambda *_: None
        self.on_change: Callable[[], None] = lambda: None
        self._root = root.absolute()  # the shim leaves the folder that it was started in
        self._passed = passed
        self._variables = variables or Variables()
        self.outputs = ProcessOutputs(self._root, passed, self._variables)
        self.commands = ProcessCommands(self._root, self._taken)
        self._drain_signal = drain_signal
        self._reserved = set(reserved)
        self._log = log.get("deployer")
        self._watched: dict[str, _Watched] = {}
        self._ending: list[_Watched] = []
        self._clearing: asyncio.Task[None] | None = None

    def options(self) -> Options:
        """Return the drain signal, and the variables of --pass-env and of the files as they are now."""
        variables = {name: os.environ[name] for name in self._passed if name in os.environ} | self._variables.load()
        return Options(drain_signal=self._drain_signal, environment=variables)

    async def adopt(self) -> list[Found]:
        """Watch the replicas that still run, and report those that ended since. Remove damaged folders.

        End what the commands of an earlier deployer left.
        """
        await asyncio.to_thread(self.commands.kill_left)
        replicas = []
        for folder in folders(self._root):
            record = folder.record
            if record is None and not folder.is_alive:
                shutil.rmtree(folder.path, ignore_errors=True)
            elif record and not folder.is_forgotten and (one := await self._adopt(folder, record)):
                replicas.append(one)
        if self._root.is_dir():
            prune(self._root)
        return replicas

    async def pull(self, artifact: Artifact, _options: Options) -> None:
        """Check that the folder can still be started. It is here already."""
        if problem := flaw(Path(artifact.location)):
            raise ReleaseError(problem)

    async def holds(self, artifact: Artifact) -> bool:
        """Return False: the folder may have changed, and the registry that says so is on this host too."""
        return False

    async def start(self, spec: Spec) -> Running:
        """Start `run` with PORT and LONGSHORE_* in its environment."""
        folder = ReplicaDirectory(self._root / spec.id)
        drain_signal = spec.options.drain_signal
        program = Path(spec.artifact.location) / RUN
        try:
            port = ports.free(HOST, self._taken())
            folder.create(
                Record(
                    spec.id,
                    spec.release,
                    spec.slot,
                    port,
                    options=fingerprint(spec.options),
                    drain_signal=drain_signal,
                    revision=spec.revision,
                )
            )
            variables = environment(os.environ, spec, port)
            pid, report = spawn.spawn(folder, program, variables, signals.number(drain_signal) or 0)
        except OSError as error:
            raise ReleaseError(f"cannot start a process in {folder.path}: {error.strerror}") from None
        answer = await spawn.read(report)
        started = folder.started
        if started is None or answer != "started":
            spawn.discard(pid)
            folder.mark_forgotten()
            raise ReleaseError(f"cannot start {program}: {spawn.problem(folder, program, answer)}")
        try:
            self._watch(folder, started, os.pidfd_open(pid))
        except OSError as error:  # a replica that cannot be watched must not run
            spawn.discard(pid)
            folder.mark_forgotten()
            raise ReleaseError(f"cannot watch {program}: {error.strerror}") from None
        return Running(HOST, port, started.program, drain_signal=drain_signal)

    def drain(self, replica: str, name: str) -> None:
        """Have the shim send the program the drain signal that it was started with."""
        if watched := self._watched.get(replica):
            watched.folder.mark_draining()
            self._signal(watched, signal.SIGUSR2)

    def stop(self, replica: str, timeout: float) -> None:
        """Send SIGTERM to the replica's process group, and SIGKILL after `timeout` seconds."""
        watched = self._watched.get(replica)
        if watched is None or watched.timer:
            return
        watched.folder.mark_stopping()
        self._signal(watched, signal.SIGTERM)
        watched.timer = asyncio.get_running_loop().call_later(timeout, self._force, watched)

    def forget(self, replica: str) -> None:
        """Mark the folder of an ended replica, and remove old ones."""
        ReplicaDirectory(self._root / replica).mark_forgotten()
        prune(self._root)

    def output(self, replica: str) -> str:
        """Return the file with the replica's output."""
        return str(ReplicaDirectory(self._root / replica).output)

    def problem(self, replica: str) -> str:
        """Return nothing: only probes judge a process."""
        return ""

    async def usage(self) -> dict[str, Usage]:
        """Return the resources of the processes of each replica. The kernel has no count of their bytes."""
        shims = {name: watched.started.shim for name, watched in self._watched.items()}
        return await asyncio.to_thread(usage.measure, shims) if shims else {}

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Do nothing: the folders of releases belong to their owner."""

    async def removed(self) -> None:
        """Return at once: an ended process leaves nothing but its folder."""

    def close(self) -> None:
        """Stop watching, and leave the replicas running."""
        for watched in self._watched.values():
            self._unwatch(watched)
        self._watched.clear()
        if self._clearing:
            self._clearing.cancel()  # the next runtime reports the rest

    def _taken(self) -> set[int]:
        """Return the ports of services and of all replicas of all applications, also if they do not listen yet."""
        records = (ReplicaDirectory(path.parent).record for path in self._root.parent.glob("*/*/replica.json"))
        replicas = {record.port for record in records if record}
        return replicas | self._reserved | ports.reserved(self._root.parents[1])

    async def _adopt(self, folder: ReplicaDirectory, record: Record) -> Found | None:
        """Adopt one replica. Return None if this user may not signal it, because it could never be stopped."""
        started = await _until_started(folder)
        descriptor = folder.open_shim(started) if started else None
        if descriptor is not None and not _is_ours(descriptor):
            os.close(descriptor)
            self._log.error("a replica belongs to another user: ignored, end it by hand", replica=record.id)
            return None
        if started and descriptor is not None:
            self._watch(folder, started, descriptor)
            running = Running(HOST, record.port, started.program, drain_signal=record.drain_signal)
            return found(record, folder, running)
        await asyncio.to_thread(orphans.kill, record.id)
        end = await self._exit(folder)
        return found(record, folder, None, end)

    def _watch(self, folder: ReplicaDirectory, started: Started, descriptor: int) -> None:
        self._watched[folder.path.name] = _Watched(folder, started, descriptor)
        asyncio.get_running_loop().add_reader(descriptor, self._ended, folder.path.name)

    def _ended(self, replica: str) -> None:
        watched = self._watched.pop(replica)
        with contextlib.suppress(ChildProcessError):  # an adopted shim is not our child
            os.waitid(os.P_PIDFD, watched.descriptor, os.WEXITED)
        self._unwatch(watched)
        self._ending.append(watched)
        if self._clearing is None or self._clearing.done():
            self._clearing = asyncio.create_task(self._clear(), name="kill orphans")

    async def _clear(self) -> None:
        """Kill the orphans of all ended replicas with one look at the host's processes; then report the exits."""
        while ending := self._ending:
            self._ending = []
            await asyncio.to_thread(orphans.kill, *(watched.folder.path.name for watched in ending))
            for watched in ending:
                self.on_exit(await self._exit(watched.folder))

    async def _exit(self, folder: ReplicaDirectory) -> Exit:
        return Exit(folder.path.name, folder.exit_code, output=await self.outputs.last_lines(folder.path.name))

    def _unwatch(self, watched: _Watched) -> None:
        asyncio.get_running_loop().remove_reader(watched.descriptor)
        os.close(watched.descriptor)
        if watched.timer:
            watched.timer.cancel()

    def _force(self, watched: _Watched) -> None:
        """Have the shim kill the group. If the shim does not react, kill it and all its processes."""
        self._signal(watched, signal.SIGUSR1)
        loop = asyncio.get_running_loop()
        replica = watched.folder.path.name
        watched.timer = loop.call_later(FORCE_AGAIN, loop.run_in_executor, None, orphans.kill, replica)

    def _signal(self, watched: _Watched, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched.descriptor, number)


async def _until_started(folder: ReplicaDirectory) -> Started | None:
    """Wait for the process ids: a shim whose deployer was killed may be about to write them."""
    deadline = asyncio.get_running_loop().time() + spawn.START_TIMEOUT
    while (started := folder.started) is None and folder.is_alive:
        if asyncio.get_running_loop().time() > deadline:
            return None
        await asyncio.sleep(0.01)
    return started


def _is_ours(shim: int) -> bool:
    """Return True if we may signal the shim."""
    try:
        signal.pidfd_send_signal(shim, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass  # it has just ended, which its descriptor shows
    return True
