"""The outputs of processes, which their shims write into files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Collection
from pathlib import Path

from services.deployer.runtime.entry import Entry, Kept
from services.deployer.runtime.excerpt import READ, excerpt
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.runtime.output import file_follower
from services.deployer.runtime.replica_dir import ReplicaDirectory, kept
from services.deployer.variables.masking import secrets
from services.deployer.variables.variable_files import Variables


class ProcessOutputs:
    """The outputs of the processes with a folder in `root`. `passed` and `variables`: what they get."""

    def __init__(self, root: Path, passed: Collection[str], variables: Variables) -> None:
        self._root = root
        self._passed = passed
        self._variables = variables
        self._options = OptionsFile(root)

    async def kept(self) -> list[Kept]:
        """Return the replicas with a folder."""
        return await asyncio.to_thread(kept, self._root)

    def entries(self, replica: str, since: float, tail: int, follow: bool) -> AsyncGenerator[Entry | None]:
        """Yield the lines in the files of a replica."""
        folder = ReplicaDirectory(self._root / replica)
        return file_follower.entries(folder, since, tail, follow, lambda: not folder.is_alive)

    async def last_lines(self, replica: str) -> str:
        """Return the last lines in the files of a replica."""
        passed = [(name, os.environ.get(name, "")) for name in self._passed]
        output = await asyncio.to_thread(ReplicaDirectory(self._root / replica).last_output, READ)
        return excerpt(
            output, secrets(passed) | self._variables.hidden() | self._options.hidden(self._variables.secret_names)
        )
