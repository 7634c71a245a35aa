"""Supervised child processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from services.common import log
from services.common.backoff import Backoff
from services.common.log import Outage
from services.common.process.watchdog import VARIABLE, WatchdogMonitor

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
STABLE_AFTER = 10.0
"""Seconds of uptime after which a crash is a new one, and the back-off starts again."""

CHECK_INTERVAL = 5.0
MOST_MISSED_CHECKS = 5
"""A program that misses so many checks in a row hangs: it pings every 5 seconds, once a check."""

SUPERVISED = "LONGSHORE_SUPERVISED"
"""A variable of every supervised service: the supervisor has made the checks of a start, and restarts the service."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def set_parent_death_signal(parent: int, number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when `parent` dies; send it now if `parent` is dead already."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def describe_exit(code: int) -> str:
    """Describe an exit status: "exit code 1", "killed by signal 9"."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class Child:
    """A program that is restarted, after a growing pause, whenever it ends before `stop`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        on_exit: Callable[[Child, int], bool] | None = None,
        stderr: int | None = None,
        has_watchdog: bool = False,
    ) -> None:
        """Prepare a program. `on_exit` gets the exit status, and returns whether to restart the program.

        `has_watchdog`: the program pings (`services.common.process.watchdog`), and is killed when it stops to.
        """
        self.name = name
        self.restarts = 0
        self.uptime = 0.0
        self._arguments = arguments
        self._environment = environment
        self._pass_fds = pass_fds
        self._on_exit = on_exit
        self._stderr = stderr
        self._process: asyncio.subprocess.Process | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._has_watchdog = has_watchdog
        self._monitor: WatchdogMonitor | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._log = log.get("supervisor")

    @property
    def pid(self) -> int:
        """The process id, 0 while it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else 0

    @property
    def is_live(self) -> bool:
        """The program runs, and has pinged since it was started."""
        return self.pid != 0 and self._monitor is not None and self._monitor.has_pinged()

    async def start(self, retry_start: bool = False) -> None:
        """Start the program and keep it running.

        Raises OSError if it cannot be started; with `retry_start`, retries until it can.
        """
        await (self._spawn_with_retry() if retry_start else self._spawn())
        self._supervising = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")
        if self._has_watchdog:
            self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    def signal(self, number: int) -> None:
        """Send the program a signal, if it runs."""
        if self.pid and self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, timeout: float) -> None:
        """End the program: SIGTERM, and SIGKILL after `timeout` seconds."""
        for task in filter(None, (self._supervising, self._watcher)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._set_monitor(None)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            self._log.error("did not stop in time, killed", child=self.name, seconds=timeout)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        if not self._has_watchdog:
            self._process = await self._launch(self._environment, self._pass_fds)
            return
        monitor = WatchdogMonitor()
        self._set_monitor(monitor)
        environment = {**(self._environment or os.environ), VARIABLE: str(monitor.fd)}
        try:
            self._process = await self._launch(environment, [*self._pass_fds, monitor.fd])
        finally:
            monitor.launched()

    async def _launch(self, environment: Mapping[str, str] | None, fds: Sequence[int]) -> asyncio.subprocess.Process:
        parent = os.getpid()
        return await asyncio.create_subprocess_exec(
            *self._arguments,
            env=environment,
            pass_fds=fds,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=self._stderr,
            preexec_fn=lambda: set_parent_death_signal(parent),
            process_group=0,
        )

    def _set_monitor(self, monitor: WatchdogMonitor | None) -> None:
        if self._monitor:
            self._monitor.close()
        self._monitor = monitor

    async def _watch(self) -> None:
        """Kill the program when it hangs. Checks are counted, not seconds: the whole host may have been stopped."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if self._monitor and self._process and self._monitor.missed_checks() > MOST_MISSED_CHECKS:
                self._log.error("hangs, killed", child=self.name, pid=self.pid)
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
        while self._process:
            began = loop.time()
            code = await self._process.wait()
            self.uptime = loop.time() - began
            if self._on_exit and not self._on_exit(self, code):
                return
            if self.uptime > STABLE_AFTER:
                backoff.reset()
            pause = backoff.next()
            self._log.warning("ended, starting it again", child=self.name, how=describe_exit(code), seconds=pause)
            await asyncio.sleep(pause)
            self.restarts += 1
            await self._spawn_with_retry()

    async def _spawn_with_retry(self) -> None:
        """Start the program; retry for as long as the host has no memory or descriptors for it."""
        backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
        outage = Outage(self._log, "cannot be started, retrying", level="error", child=self.name)
        while True:
            try:
                return await self._spawn()
            except OSError as error:
                outage.failed(str(error))
            await asyncio.sleep(backoff.next())
