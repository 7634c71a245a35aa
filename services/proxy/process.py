"""A worker process from the master's side."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

from schemas.chain import Sealer
from services.common.ids import uuid7
from services.common.processes import ended_how
from services.proxy.frames import Unframer, frame
from services.proxy.messages import Message, ToWorker

KILL_AFTER = 5.0

OnMessage = Callable[["WorkerProcess", Message], None]


class WorkerProcess(asyncio.Protocol):
    """Started with `launch`; everything that it says goes to `on_message`."""

    _process: asyncio.subprocess.Process
    _transport: asyncio.WriteTransport

    def __init__(self, host: str, on_message: OnMessage) -> None:
        self.instance = uuid7()
        self.sealer = Sealer("proxy", host, self.instance)
        self._on_message = on_message
        self._unframer = Unframer()
        self._silent = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def launch(cls, host: str, fds: list[int], on_message: OnMessage) -> WorkerProcess:
        """A running worker that inherits these descriptors. Raises OSError when there is no room for it.

        -P: a folder named services where the user happens to be must not come before ours.
        """
        worker = cls(host, on_message)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                worker._process = await asyncio.create_subprocess_exec(
                    *[sys.executable, "-P", "-m", "services.proxy.worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno(), *fds],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        loop = asyncio.get_running_loop()
        worker._transport, _ = await loop.create_unix_connection(lambda: worker, sock=ours)
        return worker

    def tell(self, message: ToWorker) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> str:
        """Why it ended, once it has and all that it said was heard."""
        await self._silent.wait()
        try:
            async with asyncio.timeout(KILL_AFTER):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        return ended_how(code) if code else "stopped"

    def data_received(self, data: bytes) -> None:
        for message in self._unframer.feed(data):
            self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._silent.set()
