"""Replicas as containers. The engine keeps them running, with or without a deployer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from schemas.events import UNSEEN
from schemas.routing import Artifact
from services.common import log
from services.common.errors import EngineAwayError, EngineError, ReleaseError
from services.deployer.identity import identify
from services.deployer.runtime.docker import arguments, create_request
from services.deployer.runtime.docker import state as states
from services.deployer.runtime.docker.arguments import LABELS
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.images import Images
from services.deployer.runtime.docker.listen_probe import Place
from services.deployer.runtime.docker.output.outputs import ContainerOutputs
from services.deployer.runtime.docker.output.sessions import ContainerCommands
from services.deployer.runtime.docker.readiness import Readiness
from services.deployer.runtime.docker.state import HOST, Dial
from services.deployer.runtime.docker.stopper import Stopper
from services.deployer.runtime.docker.watch import Watch, Watched
from services.deployer.runtime.options import Options, fingerprint
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.runtime.protocol import Exit, Found, Running, Spec, Usage
from services.deployer.runtime.replica_dir import Record, ReplicaDirectory, folders, found, prune
from services.deployer.settings import DeployerSettings, Port

REMOVAL_TIMEOUT = 5.0
"""Seconds that a stopping deployer waits for the removal of containers; the next deployer removes the rest."""


class DockerRuntime:
    """The runtime whose releases are images. `root`: the folder with a record of each replica."""

    def __init__(self, root: Path, settings: DeployerSettings) -> None:
        self.on_exit: Callable[[Exit], None] = lambda _: None
        self.on_restart: Callable[[str, Running], None] = lambda *_: None
        self.on_change: Callable[[], None] = lambda: None
        self._root = root
        self._settings = settings
        self._arguments = arguments.parse(settings.docker_args)
        self._kept = OptionsFile(root)
        self._instance = identify(settings.state_dir)
        self._engine = Engine(settings.docker_host)
        self._containers = Containers(self._engine)
        self.outputs = ContainerOutputs(self._engine, self._containers, root, self._arguments, settings.variables)
        self._images = Images(self._engine, root / "images.json", settings.pull_timeout, settings.keep_images)
        owner = f"{settings.app}@{self._instance}"
        self.commands = ContainerCommands(self._engine, self._containers, self._images, owner)
        self._labels = {f"{LABELS}app": settings.app, f"{LABELS}instance": self._instance}
        self._watch = Watch(
            self._engine,
            self._containers,
            self._labels,
            lambda end: self.on_exit(end),
            self._restarted,
            lambda: self.on_change(),
            lambda: self._spawn(self._clear_away(), "clear away"),
            self.outputs,
        )
        self._stopper = Stopper(self._containers, self._watch.watched)
        self._readiness = Readiness(settings, self._watch.watched, lambda: self.on_change())
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()
        self._log = log.get("deployer")

    def options(self) -> Options:
        """Return the options for a container, with its environment as it is now."""
        settings = self._settings
        return Options(
            command=settings.cmd,
            arguments=settings.docker_args,
            ports=sorted({port.replica for port in settings.ports}),
            dial=settings.dial,
            environment=dict(create_request.environment(self._arguments, settings.variables)),
        )

    async def adopt(self) -> list[Found]:
        """Watch our containers. One that has our labels but that we did not start is logged and ignored."""
        replicas, records = [], dict(self._records())
        for name, container in (await self._containers.find(self._labels)).items():
            record = records.pop(name, None)
            if record is None or create_request.own(container["Labels"]) != self._own_labels(record):
                self._warn_foreign_container(name)
            elif one := await self._adopt(ReplicaDirectory(self._root / name), record):
                replicas.append(one)
        replicas += [
            found(record, folder, None, Exit(record.id, UNSEEN))
            for record in records.values()
            if not (folder := ReplicaDirectory(self._root / record.id)).is_forgotten
        ]
        # Before the first verdict, so that a replica that serves goes on serving.
        await asyncio.gather(*map(self._readiness.ask, self._watch.watched.values()))
        self._spawn(self._watch.follow(), "events")
        self._spawn(self._watch.run(), "looks")
        self._spawn(self.commands.tidy(), "remove tasks")
        return replicas

    async def pull(self, artifact: Artifact, options: Options) -> None:
        """Pull the image if it is missing, and check that it can run with these options."""
        try:
            image = await self._images.need(artifact)
        except EngineError as error:
            raise ReleaseError(f"cannot look for {artifact.location}: {error}") from None
        create_request.replica_ports(self._wanted_ports(options), image, artifact)
        create_request.check_drain_signal(image)

    async def holds(self, artifact: Artifact) -> bool:
        """Return True if the image is here. Without an answer of the engine, return False."""
        try:
            return await self._images.holds(artifact)
        except EngineError:
            return False

    async def start(self, spec: Spec) -> Running:
        """Create and start a container."""
        folder = ReplicaDirectory(self._root / spec.id)
        try:
            return await self._start(spec, folder)
        except (EngineError, OSError, ReleaseError) as error:
            folder.mark_forgotten()
            if not isinstance(error, EngineAwayError):
                self._remove(spec.id)
            if isinstance(error, ReleaseError):
                raise
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise ReleaseError(f"cannot start a container of {spec.artifact.location}: {reason}") from None

    def drain(self, replica: str, name: str) -> None:
        """Take the restart policy back, then send the drain signal."""
        if watched := self._watch.watched.get(replica):
            watched.is_draining = True
            watched.folder.mark_draining()
            self._spawn(self._stopper.drain(watched, name), f"drain {replica}")

    def stop(self, replica: str, timeout: float) -> None:
        """Send the image's stop signal (SIGTERM unless it names one), and SIGKILL after `timeout` seconds."""
        watched = self._watch.watched.get(replica)
        if watched is None or watched.is_stopping:
            return
        watched.is_stopping = True
        watched.folder.mark_stopping()
        self._spawn(self._stopper.stop(watched, timeout), f"stop {replica}")

    def forget(self, replica: str) -> None:
        """Remove the container with its anonymous volumes."""
        ReplicaDirectory(self._root / replica).mark_forgotten()
        self._remove(replica)
        prune(self._root)

    def output(self, replica: str) -> str:
        """Return the file with the replica's last lines."""
        return str(ReplicaDirectory(self._root / replica).output)

    def problem(self, replica: str) -> str:
        """Return a problem: it does not run; or, without a health path, does not answer or fails its HEALTHCHECK."""
        watched = self._watch.watched.get(replica)
        if watched is None or (self._settings.health_path and watched.state.is_up):
            return ""
        return watched.state.problem or watched.silence

    async def usage(self) -> dict[str, Usage]:
        """Return the resources of each container, by the engine's statistics."""
        return await self._watch.usage()

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Remove images that no release needs any more."""
        try:
            await self._images.prune({artifact.location for artifact in needed})
        except EngineError as error:
            self._log.warning("images were not removed", reason=str(error))

    async def removed(self) -> None:
        """Return when the containers of forgotten replicas are removed, after REMOVAL_TIMEOUT seconds at most."""
        if self._removals:
            await asyncio.wait(self._removals, timeout=REMOVAL_TIMEOUT)

    def close(self) -> None:
        """Stop watching, and leave the containers running."""
        for task in self._tasks:
            task.cancel()
        self._engine.close()

    async def _start(self, spec: Spec, folder: ReplicaDirectory) -> Running:
        options = spec.options
        image = await self._images.need(spec.artifact)
        ports = create_request.replica_ports(self._wanted_ports(options), image, spec.artifact)
        record = Record(
            spec.id,
            spec.release,
            spec.slot,
            ports.get(0, 0),
            spec.artifact.digest,
            fingerprint(options),
            revision=spec.revision,
        )
        folder.create(record)
        parsed, own = arguments.parse(options.arguments), self._own_labels(record)
        variables = options.environment.items()
        dial = create_request.dial(options.dial)
        await self._containers.create(
            spec.id, create_request.create(spec, parsed, variables, options.command, ports.values(), dial, own)
        )
        await self._containers.start(spec.id)
        container = await self._containers.inspect(spec.id)
        if container is None:
            raise ReleaseError(f"{spec.id} was removed by hand while it started")
        return self._add(folder, record, container)

    def _wanted_ports(self, options: Options) -> list[Port]:
        return [Port(self._settings.ports[0].proxy, port) for port in options.ports]

    async def _adopt(self, folder: ReplicaDirectory, record: Record) -> Found | None:
        container = await self._containers.inspect(record.id)
        if container is None or folder.is_forgotten or container["State"]["Status"] in ("created", "configured"):
            folder.mark_forgotten()
            await self._containers.remove(record.id)
            return None
        state = states.read(container)
        if state.is_over:
            end = Exit(record.id, state.code, state.oom, output=await self.outputs.save(folder))
            return found(record, folder, None, end)
        return found(record, folder, self._add(folder, record, container))

    def _add(self, folder: ReplicaDirectory, record: Record, container: Mapping[str, Any]) -> Running:
        watched = Watched(folder, states.read(container), is_draining=folder.is_draining)
        self._watch.add(watched)
        if self._readiness.is_wanted:
            self._readiness.expect(watched, self._place(record, container))
            self._spawn(self._readiness.follow(watched), f"ask {record.id}")
        return self._running(record, container)

    def _restarted(self, replica: str, container: Mapping[str, Any]) -> None:
        if record := ReplicaDirectory(self._root / replica).record:
            if (watched := self._watch.watched[replica]).place:
                self._readiness.expect(watched, self._place(record, container))
            self.on_restart(replica, self._running(record, container))

    def _running(self, record: Record, container: Mapping[str, Any]) -> Running:
        reached = states.addresses(container, self._ports(record), self._dial(record))
        host, port = reached.get(self._settings.ports[0].replica, (HOST, 0))
        signal = create_request.drain_signal(self._settings.drain_signal, container)
        return Running(host, port, container["State"]["Pid"], reached, signal)

    def _place(self, record: Record, container: Mapping[str, Any]) -> Place:
        port = self._ports(record)[self._settings.ports[0].replica]
        own, gateway = states.own_address(container)
        return Place(container["State"]["Pid"], port, own, gateway, states.published(container, port) or ("", 0))

    def _ports(self, record: Record) -> dict[int, int]:
        """Return the container's port for each one in the settings, which may be newer than the container."""
        options = self._kept.find(record.options)
        own = options.ports if options and options.ports else [port.replica for port in self._settings.ports]
        chosen = {port.replica: port.replica if port.replica in own else own[0] for port in self._settings.ports}
        return {name: port or record.port for name, port in chosen.items()}

    def _dial(self, record: Record) -> Dial:
        options = self._kept.find(record.options)
        return create_request.dial(options.dial if options else self._settings.dial)

    def _own_labels(self, record: Record) -> dict[str, str]:
        return create_request.labels(record, self._settings.app, self._instance)

    def _records(self) -> list[tuple[str, Record]]:
        return [(record.id, record) for folder in folders(self._root) if (record := folder.record)]

    def _warn_foreign_container(self, name: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            self._log.warning("a container has our labels, but we did not start it: ignored", container=name)

    async def _clear_away(self) -> None:
        """Remove the containers that could not be removed while the engine was away."""
        forgotten = {folder.path.name for folder in folders(self._root) if folder.record and folder.is_forgotten}
        for name in await self._containers.find(self._labels) if forgotten else ():
            if name in forgotten:
                await self._containers.remove(name)

    def _remove(self, replica: str) -> None:
        removal = self._spawn(self._containers.remove(replica), f"remove {replica}")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._log.error("the container engine failed", what=task.get_name(), reason=str(error))
