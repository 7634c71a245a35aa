"""Commands in containers: in that of a replica through the engine's exec, or in one of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from schemas.output import Execute, RunTask
from services.common.errors import EngineError
from services.deployer.runtime import orphans
from services.deployer.runtime.docker import arguments, create_request
from services.deployer.runtime.docker.arguments import LABELS
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.images import Images
from services.deployer.runtime.docker.output.frames import Demultiplexer
from services.deployer.runtime.docker.streaming import Connection
from services.deployer.runtime.protocol import Spec

TASK = f"{LABELS}task-of"
"""The label of a container of a one-off task: the deployer that it belongs to."""
ENDED = 10.0
"""Seconds for the engine to report the exit code after the output has ended."""
POLL = 0.05


class ContainerSession:
    """A command whose output comes over a connection of the engine. `code` returns its exit code once it has ended."""

    def __init__(
        self,
        connection: Connection,
        has_terminal: bool,
        code: Callable[[], Awaitable[int | None]],
        resize: Callable[[int, int], Awaitable[None]],
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._has_terminal = has_terminal
        self._code = code
        self._resize = resize
        self._remove = remove

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what the command writes."""
        parts = Demultiplexer(self._has_terminal)
        while data := await self._connection.read():
            for part in parts.feed(data):
                yield part.source, part.data

    async def write(self, data: bytes) -> None:
        """Send input."""
        await self._connection.write(data)

    async def end_input(self) -> None:
        """Send the end of the input: to a terminal, as the user's Ctrl-D."""
        if self._has_terminal:
            await self._connection.write(b"\x04")
        else:
            self._connection.end()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal. A command that has just ended has none."""
        with contextlib.suppress(EngineError):
            await self._resize(rows, columns)

    async def wait(self) -> int:
        """Return the exit code. Raises EngineError when the engine does not report the end."""
        deadline = asyncio.get_running_loop().time() + ENDED
        while (code := await self._code()) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise EngineError("the engine closed the connection, and the command has not ended")
            await asyncio.sleep(POLL)
        return code

    async def close(self) -> None:
        """End the command."""
        await self._connection.close()
        with contextlib.suppress(EngineError):
            await self._remove()


class ContainerCommands:
    """Starts commands. `owner`: the deployer, by which its next instance finds tasks that a dead one left."""

    def __init__(
        self,
        engine: Engine,
        containers: Containers,
        images: Images,
        owner: str,
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._images = images
        self._owner = owner

    async def execute(self, session: str, request: Execute) -> ContainerSession:
        """Run a command in the container of a replica. Raises EngineError."""
        variables = [f"{orphans.SESSION}={session}"] + ([f"TERM={request.terminal}"] if request.terminal else [])
        created = await self._engine.call(
            lambda client: client.exec_create(
                request.replica,
                request.command,
                stdin=request.has_input,
                tty=bool(request.terminal),
                environment=variables,
            )
        )
        identity = created["Id"]
        start = {"Detach": False, "Tty": bool(request.terminal), **_console(request)}
        connection = await self._engine.connect(f"exec/{identity}/start", {}, start)

        async def resize(rows: int, columns: int) -> None:
            await self._engine.call(lambda client: client.exec_resize(identity, height=rows, width=columns))

        async def code() -> int | None:
            state = await self._engine.call(lambda client: client.exec_inspect(identity))
            return None if state["Running"] else int(state["ExitCode"])

        async def end() -> None:
            """Kill a command whose reader has left. The engine has no call for that, and may run on another host."""
            if await code() is None:
                await asyncio.to_thread(orphans.kill, session, mark=orphans.SESSION)

        found = ContainerSession(connection, bool(request.terminal), code, resize, end)
        if request.terminal and request.rows:
            await found.resize(request.rows, request.columns)
        return found

    async def run(self, session: str, spec: Spec, request: RunTask) -> ContainerSession:
        """Run a command in a container of its own. Raises EngineError, ReleaseError."""
        await self._images.need(spec.artifact)
        body = task(spec, request, self._owner)
        await self._containers.create(spec.id, body)
        try:
            query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
            connection = await self._engine.connect(f"containers/{spec.id}/attach", query, {})
            try:
                await self._containers.start(spec.id)
            except BaseException:
                await connection.close()
                raise
        except BaseException:
            await asyncio.shield(self._containers.remove(spec.id))
            raise

        async def resize(rows: int, columns: int) -> None:
            await self._engine.call(lambda client: client.resize(spec.id, height=rows, width=columns))

        async def code() -> int | None:
            container = await self._containers.inspect(spec.id)
            if container is None:
                raise EngineError(f"{spec.id} was removed while it ran")
            return None if container["State"]["Running"] else int(container["State"]["ExitCode"])

        found = ContainerSession(
            connection, bool(request.terminal), code, resize, lambda: self._containers.remove(spec.id)
        )
        if request.terminal and request.rows:
            await found.resize(request.rows, request.columns)
        return found

    async def tidy(self) -> None:
        """Remove the containers of tasks that a deployer left that was killed."""
        for name in await self._containers.find({TASK: self._owner}):
            await self._containers.remove(name)


def task(spec: Spec, request: RunTask, owner: str) -> dict[str, Any]:
    """Return the body of POST /containers/create for a one-off task: as a replica, but without ports and restarts."""
    parsed, variables = arguments.parse(spec.options.arguments), spec.options.environment.items()
    body = create_request.create(spec, parsed, variables, request.command, (), "container", {TASK: owner})
    term = [f"TERM={request.terminal}"] if request.terminal else []
    host = {name: value for name, value in body["HostConfig"].items() if name != "RestartPolicy"}
    return {
        **body,
        "Env": [*body["Env"], *term],
        "HostConfig": host | _console(request),
        "Tty": bool(request.terminal),
        "OpenStdin": request.has_input,
        "StdinOnce": request.has_input,
        "AttachStdin": request.has_input,
        "AttachStdout": True,
        "AttachStderr": True,
    }


def _console(request: Execute | RunTask) -> dict[str, Any]:
    """Return the size of the terminal for the start. Engines before API 1.42 ignore it, and get it right after that."""
    return {"ConsoleSize": [request.rows, request.columns]} if request.terminal and request.rows else {}
