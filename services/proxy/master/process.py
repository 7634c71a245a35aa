"""A worker process from the master's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from schemas.chain import Sealer
from services.common.ids import uuid7
from services.common.process.child import describe_exit
from services.common.process.environment import own
from services.common.process.own_module import own_module
from services.proxy.crash import blackbox
from services.proxy.frames import Unframer, frame
from services.proxy.messages import Message, ToWorker

KILL_AFTER = 5.0

OnMessage = Callable[["WorkerProcess", Message], None]


class WorkerProcess(asyncio.Protocol):
    """A worker process, started with `launch`. Each of its messages goes to `on_message` and resets `silence`."""

    _process: asyncio.subprocess.Process
    _transport: asyncio.WriteTransport

    def __init__(self, host: str, on_message: OnMessage) -> None:
        """Raise OSError when there is no room for its black box."""
        self.instance = uuid7()
        self.sealer = Sealer("proxy", host, self.instance)
        self.blackbox = blackbox.create()
        self.last_reported: dict[str, int] = {}  # number of the last event of each app that was sent
        self.silence = 0
        self._on_message = on_message
        self._unframer = Unframer()
        self._disconnected = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @classmethod
    async def launch(cls, host: str, fds: list[int], on_message: OnMessage) -> WorkerProcess:
        """Start a worker that inherits these descriptors. Raises OSError when there is no room for it."""
        worker = cls(host, on_message)
        try:
            await worker._start(fds)
        except BaseException:
            worker.close()
            raise
        return worker

    def send(self, message: ToWorker) -> None:
        """Send a message, unless the worker is gone."""
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    def kill(self) -> None:
        """Send SIGKILL, unless the worker has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> str:
        """Wait until the worker has ended and its last message was read; return why it ended."""
        await self._disconnected.wait()
        try:
            async with asyncio.timeout(KILL_AFTER):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        return describe_exit(code) if code else "stopped"

    def unreported(self) -> dict[str, list[bytes]]:
        """Return the events that it recorded before it died but never sent, encoded, by app."""
        found: dict[str, list[bytes]] = {}
        for entry in blackbox.read(self.blackbox):
            if entry.number > self.last_reported.get(entry.app, 0):
                found.setdefault(entry.app, []).append(entry.event)
        return found

    def close(self) -> None:
        """Release the black box."""
        os.close(self.blackbox)

    async def _start(self, fds: list[int]) -> None:
        """Start the process."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *own_module("proxy.worker", str(theirs.fileno())),
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
        """Pass on the messages that the worker sent (asyncio.Protocol)."""
        self.silence = 0
        for message in self._unframer.feed(data):
            self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that no more messages come (asyncio.Protocol)."""
        self._disconnected.set()
