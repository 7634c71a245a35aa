"""What a worker does with what its master says."""

from __future__ import annotations

import socket
import time

from schemas import subjects
from schemas.chain import Sealer
from schemas.events import ServiceStopped
from services.proxy.crash.blackbox import BlackBox
from services.proxy.crash.open_connections_file import OpenConnectionsFile
from services.proxy.messages import ApplyRoute, BatchAck, Eject, Message, Readmit, Start, Stop, WorkerIdentity
from services.proxy.worker import handover
from services.proxy.worker.admission import Admission
from services.proxy.worker.channel import Channel
from services.proxy.worker.drain_reporter import DrainReporter
from services.proxy.worker.frontend import Frontend
from services.proxy.worker.heartbeat import Heartbeat
from services.proxy.worker.loop import Loop
from services.proxy.worker.recorder import Recorder
from services.proxy.worker.relay.pipes import Pipes
from services.proxy.worker.resources import Resources, raise_file_limit, share
from services.proxy.worker.timers import Timed

LINGER = 5.0
"""Seconds that the master has to take the last events."""


class Worker:
    """Runs until its master says stop, or dies, and the connections that are open then have ended."""

    resources: Resources
    identity: WorkerIdentity

    def __init__(self, sock: socket.socket) -> None:
        self.slot: set[Timed] | None = None
        self._loop = Loop()
        self._channel = Channel(sock, self._loop, self._on_message, self._on_master_lost)
        self._frontends: dict[tuple[str, int], Frontend] = {}
        self._is_started = False
        self._is_stopping = False

    def run(self) -> None:
        while not self._is_stopping or self.resources.admission.sessions:
            self._loop.turn()
        self._flush_before_exit()
        self._channel.flush()

    def _flush_before_exit(self) -> None:
        """Return when the master has everything, or somebody will find what it has not."""
        recorder = self.resources.recorder
        recorder.flush()
        deadline = time.monotonic() + LINGER
        while recorder.unacknowledged and not self._channel.is_lost and time.monotonic() < deadline:
            self._loop.set_timer(self, LINGER)
            self._loop.turn()
        if self._channel.is_lost:
            recorder.record(subjects.NO_APP, ServiceStopped(time.time(), "its master ended"))
            recorder.flush()
        if recorder.unacknowledged and self.identity.folder:
            handover.write(self.identity.folder, self._name, recorder.unacknowledged.values())
        self._drain_reporter.end()

    @property
    def _name(self) -> str:
        return f"proxy-{self.identity.instance}"

    def on_timer(self) -> None:
        """The drain time is over."""
        for session in list(self.resources.admission.sessions):
            session.shut_down()

    def _on_message(self, message: Message) -> None:
        match message:
            case Start():
                self._start(message)
            case ApplyRoute():
                self._frontends[message.app, message.port].follow(message)
            case Eject():
                self._frontends[message.app, message.port].eject(message.backend)
            case Readmit():
                self._frontends[message.app, message.port].admit(message.backend, message.admission)
            case BatchAck():
                self.resources.recorder.acknowledge(message.sequence)
            case Stop():
                self._stop(accept_waiting=True)

    def _start(self, order: Start) -> None:
        most, pipes = share(raise_file_limit())
        self.identity = identity = order.identity
        sealer = Sealer("proxy", identity.host, identity.instance, identity.sequence, identity.head)
        recorder = Recorder(self._loop, self._channel, sealer, BlackBox(identity.blackbox))
        admission = Admission(self._loop, order.limits.max_connections or most, self._serve_held)
        self.resources = Resources(self._loop, self._channel, recorder, order.limits, admission, Pipes(pipes))
        self._is_started = True
        Heartbeat(self._loop, recorder).start()
        for listening in order.listening:
            self._frontends[listening.app, listening.port] = Frontend(listening.app, listening.port, self.resources)
        self._drain_reporter = DrainReporter(
            self._loop, self._frontends.values(), OpenConnectionsFile(identity.folder, self._name)
        )
        for route in order.routes:
            self._frontends[route.app, route.port].follow(route)
        for listening in order.listening:
            frontend = self._frontends[listening.app, listening.port]
            admission.listen(_listener(listening.fd), frontend.accept, listening.is_shared)

    def _serve_held(self) -> None:
        for frontend in self._frontends.values():
            frontend.serve_held()

    def _on_master_lost(self) -> None:
        """Whoever comes next is the next master's: its workers share our listening sockets."""
        if not self._is_started:
            raise SystemExit(1)
        self._stop(accept_waiting=False)

    def _stop(self, accept_waiting: bool) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._drain_reporter.begin()
        self.resources.admission.close(accept_waiting)
        self._loop.set_timer(self, self.resources.limits.drain_time)


def _listener(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock
