"""Commands as processes of this host, in the folder and with the environment of a process replica."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from pathlib import Path

from schemas.output import STDERR, STDOUT, Execute, RunTask
from services.common.errors import LongshoreError
from services.common.process.child import set_parent_death_signal
from services.deployer.runtime import orphans, ports
from services.deployer.runtime.environment import HOST, environment
from services.deployer.runtime.protocol import Spec
from services.deployer.runtime.replica_dir import ReplicaDirectory

CHUNK = 1 << 15
LAST_OUTPUT = 1.0
"""Seconds of silence after which the output of an ended command is over: a process that it left behind may hold the
pipes open."""

POLL = 0.02

Streams = dict[int, asyncio.StreamReader]


class ProcessSession:
    """A running command. `outputs`: its streams by source. `terminal`: the descriptor of its terminal, if it has one.

    `reading`: the transport from the terminal.
    """

    def __init__(
        self,
        session: str,
        process: asyncio.subprocess.Process,
        outputs: Streams,
        stdin: asyncio.StreamWriter | None,
        terminal: int | None = None,
        reading: asyncio.BaseTransport | None = None,
    ) -> None:
        self._session = session
        self._process = process
        self._outputs = outputs
        self._stdin = stdin
        self._terminal = terminal
        self._reading = reading
        self._passed = 0

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what the command writes, until it has ended."""
        parts: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(1)
        copying = [asyncio.create_task(_copy(source, reader, parts)) for source, reader in self._outputs.items()]
        ending = asyncio.create_task(self._ended(copying, parts))
        try:
            while part := await parts.get():
                self._passed += 1
                yield part
        finally:
            for task in (*copying, ending):
                task.cancel()
            await asyncio.gather(*copying, ending, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Send input. What a command that has ended would get is dropped."""
        if self._stdin:
            with contextlib.suppress(ConnectionError):
                self._stdin.write(data)
                await self._stdin.drain()

    async def end_input(self) -> None:
        """Send the end of the input: to a terminal, as the user's Ctrl-D."""
        if self._terminal is not None:
            await self.write(b"\x04")
        elif self._stdin:
            self._stdin.close()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal."""
        if self._terminal is not None:
            _set_size(self._terminal, rows, columns)

    async def wait(self) -> int:
        """Return the exit code."""
        while (code := self._process.returncode) is None:  # noqa: ASYNC110 - asyncio has no event for the exit alone
            # Not Process.wait: it also waits for the pipes, which an orphan may hold open.
            await asyncio.sleep(POLL)
        return code

    async def close(self) -> None:
        """Kill the command and everything that it started."""
        if self._process.returncode is None:  # afterwards another process may have this id
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(orphans.kill, self._session, mark=orphans.SESSION)
        await self.wait()
        if self._stdin:
            self._stdin.close()
        if self._reading:
            self._reading.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    async def _ended(self, copying: list[asyncio.Task[None]], parts: asyncio.Queue[tuple[int, bytes] | None]) -> None:
        """Put the end behind all that the command has written. It waits as long as the reader does not take a part."""
        await self.wait()
        passed = -1
        while passed != self._passed or not parts.empty():
            passed = self._passed
            if not (await asyncio.wait(copying, timeout=LAST_OUTPUT))[1]:
                break
        await parts.put(None)


class ProcessCommands:
    """Starts commands. `root`: the parent of the replicas' folders; `taken` returns the ports that no task gets."""

    def __init__(self, root: Path, taken: Callable[[], Collection[int]]) -> None:
        self._root = root
        self._taken = taken

    async def execute(self, session: str, request: Execute) -> ProcessSession:
        """Run a command in the folder and with the environment that the replica was started with."""
        folder = ReplicaDirectory(self._root / request.replica)
        started = folder.started
        if started is None or not folder.is_alive:
            raise LongshoreError(f"replica {request.replica} does not run: `longshore status` lists those that do")
        process = Path(f"/proc/{started.program}")
        try:
            variables = _variables(process.joinpath("environ").read_bytes())
            where = process.joinpath("cwd").readlink()
        except OSError as error:
            raise LongshoreError(f"cannot look at replica {request.replica}: {error.strerror}") from None
        return await self._start(session, request, variables, where)

    async def run(self, session: str, spec: Spec, request: RunTask) -> ProcessSession:
        """Run a command in the folder of a release, with the environment of a replica and a port of its own."""
        variables = environment(os.environ, spec, ports.free(HOST, self._taken()))
        return await self._start(session, request, variables, Path(spec.artifact.location))

    def kill_left(self) -> None:
        """Kill what the commands of an earlier deployer left. As slow as `orphans.kill`."""
        if self._root.is_dir():
            orphans.kill(orphans.owner(self._root), mark=orphans.OWNER)

    async def _start(
        self, session: str, request: Execute | RunTask, variables: Mapping[str, str], folder: Path
    ) -> ProcessSession:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            marked = {**variables, orphans.SESSION: session, orphans.OWNER: orphans.owner(self._root)}
            if request.terminal:
                return await _with_terminal(session, request, {**marked, "TERM": request.terminal}, folder)
            return await _with_pipes(session, request, marked, folder)
        except OSError as error:
            raise LongshoreError(f"cannot start {request.command[0]}: {error.strerror}") from None
        except ValueError as error:  # a NUL in the command
            raise LongshoreError(f"cannot start {request.command[0]!r}: {error}") from None


async def _with_pipes(
    session: str, request: Execute | RunTask, variables: Mapping[str, str], folder: Path
) -> ProcessSession:
    parent = os.getpid()
    process = await asyncio.create_subprocess_exec(
        *request.command,
        env=variables,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE if request.has_input else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: set_parent_death_signal(parent, signal.SIGKILL),
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    return ProcessSession(session, process, {STDOUT: process.stdout, STDERR: process.stderr}, process.stdin)


async def _with_terminal(
    session: str, request: Execute | RunTask, variables: Mapping[str, str], folder: Path
) -> ProcessSession:
    parent = os.getpid()
    ours, its = pty.openpty()

    def prepare() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # now that it leads a session, so that Ctrl-C reaches it
        set_parent_death_signal(parent, signal.SIGKILL)

    try:
        _set_size(ours, request.rows, request.columns)
        process = await asyncio.create_subprocess_exec(
            *request.command,
            env=variables,
            cwd=folder,
            stdin=its,
            stdout=its,
            stderr=its,
            preexec_fn=prepare,
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(its)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: _TerminalProtocol(reader), os.fdopen(os.dup(ours), "rb", 0))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return ProcessSession(session, process, {STDOUT: reader}, writer, ours, reading)


class _TerminalProtocol(asyncio.StreamReaderProtocol):
    """Reads a terminal, which ends with EIO when its last process closes it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the output. With an error, a StreamReader would refuse to return the bytes that it still holds."""
        super().connection_lost(None)


async def _copy(source: int, reader: asyncio.StreamReader, parts: asyncio.Queue[tuple[int, bytes] | None]) -> None:
    while data := await reader.read(CHUNK):
        await parts.put((source, data))


def _variables(environ: bytes) -> dict[str, str]:
    """Return the variables in /proc/<pid>/environ."""
    pairs = (os.fsdecode(pair).partition("=") for pair in environ.split(b"\0") if b"=" in pair)
    return {name: value for name, _, value in pairs}


def _set_size(terminal: int, rows: int, columns: int) -> None:
    if rows > 0 and columns > 0:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))
