"""A real worker process, driven over its socket pair as a master would."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from schemas import subjects
from schemas.codec import Batch, decode
from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionRefused, Event
from schemas.routing import Backend
from services.proxy.frames import Unframer, frame
from services.proxy.messages import (
    ApplyRoute,
    BatchAck,
    ForwardBatch,
    Limits,
    Listening,
    Message,
    RouteApplied,
    Start,
    Stop,
    ToWorker,
    WorkerIdentity,
)
from services.proxy.sockets.listeners import Listener, open_listeners
from tests.support.patience import patience
from tests.support.ports import free_port

ORIGIN = WorkerIdentity("host", "worker")
"""Whose events they are: a batch of no instance is none."""


DEADLINE = patience(15.0)
APP = "web"

E_ = TypeVar("E_", bound=Event)


class WorkerProcess:
    """Collects all that the worker says."""

    def __init__(
        self,
        limits: Limits,
        preexec: Callable[[], None] | None = None,
        origin: WorkerIdentity = ORIGIN,
        takes: bool = True,
        tracer: Sequence[str] = (),
    ) -> None:
        """`takes`: whether it is told that its events were taken. `tracer`: a command that runs it."""
        self.port = free_port()
        self.events: list[Event] = []
        self.said: list[Message] = []
        self.batches: list[tuple[bytes, Batch]] = []
        self._limits = limits
        self._origin = origin
        self._takes = takes
        self._revision = 0
        self._unframer = Unframer()
        self._listeners: list[Listener] = open_listeners([f"{APP}=127.0.0.1:{self.port}"], 1)
        self._sock, theirs = socket.socketpair()
        self.master_fd = theirs.fileno()
        with theirs:
            self.process = subprocess.Popen(
                [*tracer, sys.executable, "-m", "services.proxy.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *self._listeners[0].fds],
                preexec_fn=preexec,
            )

    def start(self, *backends: Backend) -> None:
        listening = Listening(APP, self.port, self._listeners[0].fds[0])
        self.tell(Start(self._limits, [listening], [self._follow(backends)], self._origin))
        self.wait_for(lambda: self.is_following(self._revision))

    def route(self, *backends: Backend) -> int:
        """Follow these backends; returns the revision when the worker does."""
        self.tell(self._follow(backends))
        self.wait_for(lambda: self.is_following(self._revision))
        return self._revision

    def tell(self, message: ToWorker) -> None:
        self._sock.sendall(frame(message))

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        sock.settimeout(DEADLINE)
        return sock

    def of(self, kind: type[E_]) -> list[E_]:
        return [event for event in self.events if isinstance(event, kind)]

    def following(self) -> list[RouteApplied]:
        return [message for message in self.said if isinstance(message, RouteApplied)]

    def is_following(self, revision: int) -> bool:
        return any(message.revision == revision for message in self.following())

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Listen until the condition holds; fails at the deadline."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            self._listen(deadline)

    def wait_for_event(self, kind: type[E_], count: int = 1) -> list[E_]:
        self.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    def ended(self) -> list[ConnectionClosed | ConnectionRefused]:
        return [event for event in self.events if isinstance(event, ConnectionClosed | ConnectionRefused)]

    def settled(self) -> list[ConnectionClosed | ConnectionRefused]:
        """The terminal events, when there is one for each connection that was accepted."""
        self.wait_for(lambda: len(self.ended()) >= len(self.of(ConnectionAccepted)) > 0)
        ended = self.ended()
        assert sorted(event.connection for event in ended) == [e.connection for e in self.of(ConnectionAccepted)]
        return ended

    def stop(self) -> int:
        """Have it drain, and hear it out; its exit code."""
        self.tell(Stop())
        return self.hear_out()

    def hear_out(self) -> int:
        deadline = time.monotonic() + DEADLINE
        while self._listen(deadline):
            pass
        return self.process.wait(DEADLINE)

    def lose_master(self) -> None:
        self._sock.close()

    def open_files(self) -> set[str]:
        """The kinds of files that it has open, "socket" or "pipe", without standard input and output."""
        return {link.partition(":")[0] for link in self.links()}

    def links(self) -> list[str]:
        """What it has open, as /proc names it, without standard input and output."""
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        return [str(link.readlink()) for link in links if int(link.name) > 2]

    def listening(self) -> str:
        """The listening socket that it shares with us, as /proc names it."""
        return str(Path(f"/proc/self/fd/{self._listeners[0].fds[0]}").readlink())

    def share_of_cpu(self, seconds: float) -> float:
        """How much of one core it uses for so long."""
        began, before = time.monotonic(), self._cpu_seconds()
        time.sleep(seconds)
        return (self._cpu_seconds() - before) / (time.monotonic() - began)

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def listener(self) -> socket.socket:
        """The listening socket, which we have open too."""
        return self._listeners[0].sockets[0]

    def accept(self) -> socket.socket:
        """Take a client from the worker's queue, as the next worker would."""
        self.listener.settimeout(DEADLINE)
        return self.listener.accept()[0]

    def close(self) -> None:
        self._sock.close()
        self.process.kill()
        self.process.wait()
        for listener in self._listeners:
            listener.close()

    def _follow(self, backends: tuple[Backend, ...]) -> ApplyRoute:
        self._revision += 1
        return ApplyRoute(APP, self.port, self._revision, list(backends))

    def _listen(self, deadline: float) -> bool:
        """Take in what the worker says next; False when it has closed its end."""
        self._sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise AssertionError(
                f"not within {DEADLINE:g} s; said {self.said[-5:]}, recorded {self.events[-20:]}"
            ) from None
        for message in self._unframer.feed(data):
            if isinstance(message, ForwardBatch):
                batch = decode(message.batch.payload).batch
                events = batch.events
                self.batches.append((message.batch.payload, batch))
                assert len(events) == message.batch.events
                assert message.batch.app in (APP, subjects.NO_APP)
                self.events += events
                if self._takes:
                    with contextlib.suppress(OSError):
                        self.tell(BatchAck(message.sequence))
            else:
                self.said.append(message)
        return bool(data)


@contextmanager
def running(
    *backends: Backend,
    limits: Limits | None = None,
    preexec: Callable[[], None] | None = None,
    origin: WorkerIdentity = ORIGIN,
    takes: bool = True,
    tracer: Sequence[str] = (),
) -> Iterator[WorkerProcess]:
    """A worker that follows these backends."""
    worker = WorkerProcess(limits or Limits(), preexec, origin, takes, tracer)
    try:
        worker.start(*backends)
        yield worker
    finally:
        worker.close()
