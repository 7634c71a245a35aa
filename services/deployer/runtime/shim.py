"""The parent of one replica: a small process that outlives the deployer, so that no exit and no output is lost.

Run as a script by an isolated interpreter, with the standard library alone: `shim.py FOLDER PROGRAM SIGNAL`. It starts
the program in a process group of its own, copies what it prints into FOLDER/output.log, notes in FOLDER/output.times
when it printed what, and leaves in FOLDER

    started   "SHIM-PID PROGRAM-PID", as soon as the program runs
    exited    "EXIT-CODE", -N for signal N, when it has ended

On descriptor 1 it reports "started" or "failed WHY" to the deployer; descriptor 3 is a lock that it holds for life.
It forwards SIGTERM to the whole group; SIGUSR1 kills the group; SIGUSR2 sends the program the signal of number SIGNAL.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

REPORT, LOCK = 1, 3
CHUNK = 1 << 16
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
LOG_SIZE = 10 << 20
LOG_FILES = 3
TIMES = "output.times"
"""Beside each file of the output: records of 16 bytes, a time (nanoseconds since 1970) and the offset in the file of
what was printed then, both big endian."""
NUMBER = 8
TIMES_APART = 10_000_000
"""Nanoseconds between two records: lines that are printed faster share a time."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


def main(folder: str, program: str, drain: str = "0") -> None:
    """Run the program, and write its exit code when it has ended."""
    os.set_inheritable(LOCK, False)
    wakeup = catch_signals()
    output, its_output = os.pipe()
    child, problem = launch(program, its_output)
    os.close(its_output)
    if problem:
        report(f"failed {problem}")
        return
    write_file(folder, "started", f"{os.getpid()} {child}")
    report("started")
    with contextlib.suppress(OSError):
        os.chdir("/")
    code = Supervisor(child, output, wakeup, Log(folder), int(drain)).run()
    write_file(folder, "exited", str(code))


def catch_signals() -> int:
    """Return a pipe that gets the number of each signal that arrives."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return readable


def launch(program: str, output: int) -> tuple[int, str]:
    """Start the program. Return its process id, and why it cannot be started, empty if it runs."""
    problem, its_problem = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        become(program, parent, output, its_problem)
    os.close(its_problem)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    with open(problem) as reason:  # noqa: PTH123 # a descriptor
        text = reason.read()
    if text:
        os.waitpid(child, 0)
    return child, text


def become(program: str, parent: int, output: int, problem: int) -> None:
    """Turn this process, a fresh child, into the program. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        set_parent_death_signal(parent)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(os.path.dirname(program))  # noqa: PTH120 # pathlib would double this process
        os.execv(program, [program])
    except OSError as error:
        os.write(problem, (error.strerror or str(error)).encode())
    finally:
        os._exit(127)


def set_parent_death_signal(parent: int) -> None:
    """Have the kernel kill this process when the shim dies: no program must run unwatched."""
    import ctypes  # here, in the child: it is as large as all the rest

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


class Supervisor:
    """Copies the output and forwards the signals until the program has ended."""

    def __init__(self, child: int, output: int, wakeup: int, log: Log, drain: int) -> None:
        self.child = child
        self.output = output
        self.wakeup = wakeup
        self.log = log
        self.drain = drain
        self.stopping = self.killed = self.silent = False

    def run(self) -> int:
        """Return the program's exit code."""
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        poller.register(self.output, select.POLLIN)
        while not self.has_ended():
            for descriptor, _ in poller.poll():
                if descriptor == self.wakeup:
                    self.forward_signals(os.read(self.wakeup, CHUNK))
                elif not self.copy():
                    self.silent = True
                    poller.unregister(self.output)
        return self.end()

    def has_ended(self) -> bool:
        """Return True if the program has ended; after a signal to stop, the rest of its group may still finish."""
        if os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        return not self.stopping or self.killed or self.silent

    def forward_signals(self, numbers: bytes) -> None:
        """Forward the signals of these numbers."""
        if signal.SIGUSR2 in numbers and self.drain:
            self.stopping = True
            os.kill(self.child, self.drain)  # the first process alone, as in a container: it decides about its others
        if signal.SIGTERM in numbers:
            self.stopping = True
            self.signal_group(signal.SIGTERM)
        if signal.SIGUSR1 in numbers:
            self.killed = True
            self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Signal the group. The program is not reaped before the end, so its id, and the group's, are not reused."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child, number)

    def copy(self) -> bool:
        """Copy some output. Return False if there is no more."""
        try:
            data = os.read(self.output, CHUNK)
        except BlockingIOError:
            return False
        self.log.write(data)
        return bool(data)

    def end(self) -> int:
        """Kill the rest of the group, copy the rest of the output, and return the exit code."""
        self.signal_group(signal.SIGKILL)
        _, status = os.waitpid(self.child, 0)
        os.set_blocking(self.output, False)
        while self.copy():
            pass
        return os.waitstatus_to_exitcode(status)


class Log:
    """A log file that rotates when it is full. A full disk costs output, never the replica."""

    def __init__(self, folder: str) -> None:
        self.paths = [f"{folder}/output.log", f"{folder}/{TIMES}"]
        self.file, self.times = map(append_to, self.paths)
        self.size, self.records = os.fstat(self.file).st_size, os.fstat(self.times).st_size
        self.noted = 0

    def write(self, data: bytes) -> None:
        """Append, and rotate a full file first. The times count as well: a program may print byte after byte."""
        if self.size + self.records >= LOG_SIZE:
            with contextlib.suppress(OSError):
                self.rotate()
        with contextlib.suppress(OSError):
            self.note(time.time_ns())
        with contextlib.suppress(OSError):
            while data:
                written = os.write(self.file, data)
                self.size += written
                data = data[written:]

    def note(self, now: int) -> None:
        """Record that what comes next was printed at this time. The clock may have been set back."""
        if abs(now - self.noted) >= TIMES_APART:
            self.noted = now
            self.records += os.write(self.times, now.to_bytes(NUMBER, "big") + self.size.to_bytes(NUMBER, "big"))

    def rotate(self) -> None:
        """Rename the files by one number, and continue in new ones. Raises OSError; then the present files stay."""
        created: list[int] = []
        try:
            created.extend(os.open(f"{path}.new", APPEND | os.O_TRUNC, 0o600) for path in self.paths)
            for number in range(LOG_FILES - 1, -1, -1):
                for path in self.paths:
                    names = [f"{path}.new", path, *(f"{path}.{older}" for older in range(1, LOG_FILES))]
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(names[number], names[number + 1])  # noqa: PTH105 # as above
            os.dup2(created[0], self.file, inheritable=False)
            os.dup2(created[1], self.times, inheritable=False)
            self.size = self.records = self.noted = 0
        finally:
            for descriptor in created:
                os.close(descriptor)


def append_to(path: str) -> int:
    """Return a descriptor that appends to a file; one that drops everything if the file cannot be opened."""
    try:
        return os.open(path, APPEND, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def report(text: str) -> None:
    """Report to the deployer, if it still lives."""
    with contextlib.suppress(OSError):
        os.write(REPORT, text.encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, REPORT)
    os.close(nowhere)


def write_file(folder: str, name: str, text: str) -> None:
    """Write a file so that readers see all of it or none."""
    with contextlib.suppress(OSError):
        path = f"{folder}/{name}"
        file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(file, text.encode())
        os.close(file)
        os.replace(f"{path}.new", path)  # noqa: PTH105 # as above


if __name__ == "__main__":
    main(*sys.argv[1:])
