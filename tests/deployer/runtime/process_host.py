"""A runtime of processes that can be restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from schemas.routing import Artifact
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.runtime.protocol import Exit, Running, Spec
from services.deployer.runtime.replica_dir import ReplicaDirectory
from tests.support.releases import release


class Host:
    """A runtime that can be restarted, and the exits that it told."""

    def __init__(self, root: Path, registry: Path) -> None:
        self.root = root
        self.registry = registry
        self.restart()

    def restart(self, *passed: str) -> None:
        self.exits: asyncio.Queue[Exit] = asyncio.Queue()
        self.runtime = ProcessRuntime(self.root, ["COLOUR", "ABSENT", *passed])
        self.runtime.on_exit = self.exits.put_nowait

    async def start(self, program: str, replica: str = "web-1-0-x", version: str = "1.0.0") -> Running:
        folder = self.registry / version
        if not folder.exists():
            release(self.registry, version, program)
        return await self.runtime.start(
            Spec(replica, "web", version, 0, Artifact("", str(folder)), self.runtime.options())
        )

    async def exit(self) -> Exit:
        return await asyncio.wait_for(self.exits.get(), 20)

    def folder(self, replica: str = "web-1-0-x") -> ReplicaDirectory:
        return ReplicaDirectory(self.root / replica)

    def shim(self, replica: str = "web-1-0-x") -> int:
        started = self.folder(replica).started
        assert started
        return started.shim
