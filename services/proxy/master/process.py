"""A worker process from the master's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable

from schemas.chain import Sealer
from services.common.ids import uuid7
from services.common.process.child import describe_exit
from services.common.process.environment import own
from services.proxy.crash import blackbox
from services.proxy.frames import Unframer, frame
from services.proxy.messages import Message, ToWorker

KILL_AFTER = 5.0

OnMessage = Callable[["WorkerProcess", Message], None]


class WorkerProcess(asyncio.Protocol):
    """Started with `launch`; everything that it says goes to `on_message`, and ends its `silence`."""

    _process: asyncio.subprocess.Process
    _transport: asyncio.WriteTransport

    def __init__(self, host: str, on_message: OnMessage) -> None:
        """Raises OSError when there is no room for its black box."""
        self.instance = uuid7()
        self.sealer = Sealer("proxy", host, self.instance)
        self.blackbox = blackbox.create()
        self.last_reported: dict[str, int] = {}
        self.silence = 0
        self._on_message = on_message
        self._unframer = Unframer()
        self._disconnected = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def launch(cls, host: str, fds: list[int], on_message: OnMessage) -> WorkerProcess:
        """A running worker that inherits these descriptors. Raises OSError when there is no room for it."""
        worker = cls(host, on_message)
        try:
            await worker._start(fds)
        except BaseException:
            worker.close()
            raise
        return worker

    def send(self, message: ToWorker) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> str:
        """Why it ended, once it has and all that it said was heard."""
        await self._disconnected.wait()
        try:
            async with asyncio.timeout(KILL_AFTER):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        return describe_exit(code) if code else "stopped"

    def unreported(self) -> dict[str, list[bytes]]:
        """The events that it recorded before it died and never told, encoded, by app. `heard`: up to which it did."""
        found: dict[str, list[bytes]] = {}
        for entry in blackbox.read(self.blackbox):
            if entry.number > self.last_reported.get(entry.app, 0):
                found.setdefault(entry.app, []).append(entry.event)
        return found

    def close(self) -> None:
        """Nothing more is wanted of it."""
        os.close(self.blackbox)

    async def _start(self, fds: list[int]) -> None:
        """-P: a folder named services where the user happens to be must not come before ours."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *[sys.executable, "-P", "-m", "services.proxy.worker", str(theirs.fileno())],
                    env=own(os.environ),
                    pass_fds=[theirs.fileno(), self.blackbox, *fds],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: self, sock=ours)

    def data_received(self, data: bytes) -> None:
        self.silence = 0
        for message in self._unframer.feed(data):
            self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disconnected.set()
