"""The outputs of containers, from the engine's log of them or from the files that are kept of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from services.common.errors import EngineError, ReleaseError
from services.deployer.runtime.docker import create_request
from services.deployer.runtime.docker.arguments import Arguments
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.output import logs
from services.deployer.runtime.entry import Entry, Kept
from services.deployer.runtime.excerpt import MOST_LINES, READ, excerpt
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.runtime.output import file_follower, log_file
from services.deployer.runtime.replica_dir import ReplicaDirectory, kept
from services.deployer.variables.masking import secrets
from services.deployer.variables.variable_files import Variables

SAVED_LINES = 200
"""Lines that are kept of a container that is removed."""


class ContainerOutputs:
    """The outputs of the containers with a folder in `root`."""

    def __init__(
        self, engine: Engine, containers: Containers, root: Path, arguments: Arguments, variables: Variables
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._root = root
        self._arguments = arguments
        self._variables = variables
        self._options = OptionsFile(root)

    async def kept(self) -> list[Kept]:
        """Return the replicas with a folder."""
        return await asyncio.to_thread(kept, self._root)

    async def entries(self, replica: str, since: float, tail: int, follow: bool) -> AsyncGenerator[Entry | None]:
        """Yield the lines in the engine's log; of a container that is removed, those that were saved before."""
        folder = ReplicaDirectory(self._root / replica)
        container = None if folder.is_forgotten else await self._containers.inspect(replica)
        if container:
            has_terminal = bool(container["Config"]["Tty"])
            found = logs.entries(self._engine, replica, has_terminal, since, tail, follow)
        else:
            found = file_follower.entries(folder, since, tail, follow, lambda: True)
        async with contextlib.aclosing(found):
            async for entry in found:
                yield entry

    async def last_lines(self, replica: str) -> str:
        """Return the last lines in the engine's log of a container; nothing if its log driver cannot read them."""
        folder = ReplicaDirectory(self._root / replica)
        with contextlib.suppress(EngineError):
            text = await self._engine.call(lambda client: client.logs(replica, tail=MOST_LINES))
            return excerpt(text, self._secrets())
        return excerpt(folder.last_output(READ), self._secrets())

    async def save(self, folder: ReplicaDirectory) -> str:
        """Save the last lines of a container that has ended, if its log driver can read them, and return the last few.

        The rest is gone with the container.
        """
        replica = folder.path.name
        with contextlib.suppress(EngineError, OSError):
            container = await self._containers.inspect(replica)
            has_terminal = container is not None and bool(container["Config"]["Tty"])
            found = logs.entries(self._engine, replica, has_terminal, 0.0, SAVED_LINES, False)
            async with contextlib.aclosing(found):
                lines = [entry async for entry in found if entry]
            await asyncio.to_thread(log_file.write, folder, lines)
        return excerpt(folder.last_output(READ), self._secrets())

    def _secrets(self) -> set[str]:
        """Return the secrets in the environment that containers get."""
        hidden = self._variables.hidden() | self._options.hidden(self._variables.secret_names)
        with contextlib.suppress(ReleaseError):  # an env file was removed since: what it held is in the kept options
            hidden |= secrets(create_request.environment(self._arguments))
        return hidden
