"""Hooks: shell commands of the operator that run at the turning points of a deployment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

import msgspec
import structlog

from schemas.routing import Ongoing
from services.common.process.child import set_parent_death_signal
from services.common.process.environment import usual
from services.deployer.hooks.output_limit import OutputLimit
from services.deployer.settings import DeployerSettings

GUARD = 'trap "kill -KILL 0" TERM; sh -c "$0" & wait $!'
"""Ends the whole process group when the deployer dies: the kernel signals only the group's first process."""

CHUNK = 1 << 16
PAUSE = 0.01
"""Seconds between two reads of an output beyond its limits, which is thrown away."""
CLOSE_TIMEOUT = 1.0
"""Seconds to read the rest of an ended hook's output."""

Log = structlog.typing.FilteringBoundLogger


class HookContext(msgspec.Struct, frozen=True):
    """The facts that a hook gets, each as a variable LONGSHORE_<NAME>; empty if unknown yet or if nothing happened."""

    app: str
    release: str
    previous: str
    deployment: str
    phase: str = ""
    reason: str = ""
    duration: str = ""


class Hooks:
    """The hooks of one application. They run one at a time, in the order in which they were requested."""

    def __init__(self, settings: DeployerSettings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._turn = asyncio.Lock()

    async def before_deploy(self, ongoing: Ongoing, previous: str) -> str:
        """Run the hook. Return why the deployment must not continue, empty if it may."""
        return await self._run("before-deploy", self._settings.before_deploy, self._context(ongoing, previous))

    async def after_deploy(self, ongoing: Ongoing, previous: str, duration: float) -> None:
        """Run the hook. A failure is only logged."""
        context = self._context(ongoing, previous, duration=f"{duration:.3f}")
        await self._run_on("after-deploy", self._settings.after_deploy, context)

    async def on_failure(self, ongoing: Ongoing, previous: str, phase: str, reason: str, duration: float) -> None:
        """Run the hook. A failure is only logged."""
        context = self._context(ongoing, previous, phase=phase, reason=reason, duration=f"{duration:.3f}")
        await self._run_on("on-failure", self._settings.on_failure, context)

    def _context(self, ongoing: Ongoing, previous: str, **outcome: str) -> HookContext:
        return HookContext(self._settings.app, ongoing.release, previous, ongoing.deployment, **outcome)

    async def _run_on(self, name: str, command: str, context: HookContext) -> None:
        if problem := await self._run(name, command, context):
            self._log.warning("a hook failed, the deployment stays as it is", hook=name, reason=problem)

    async def _run(self, name: str, command: str, context: HookContext) -> str:
        """Run a hook. Return how it failed, empty if it succeeded or there is none."""
        if not command:
            return ""
        async with self._turn:
            self._log.info("hook runs", hook=name, release=context.release)
            try:
                async with _output(self._log, name) as output:
                    environment = variables(os.environ, context, self._settings.pass_env)
                    failure = await _run_shell(
                        command, environment, self._folder(), output, self._settings.hook_timeout
                    )
            except OSError as error:
                failure = f"could not be started: {error.strerror}"
        return f"{name} {failure}" if failure else ""

    def _folder(self) -> Path:
        folder = Path(self._settings.state_dir)
        return folder if folder.is_dir() else Path("/")


def variables(base: Mapping[str, str], context: HookContext, passed: Collection[str] = ()) -> dict[str, str]:
    """Return the environment of a hook: the usual variables of the deployer, those of --pass-env, and the context."""
    own = {
        f"LONGSHORE_{name.upper()}": value.replace("\0", "") for name, value in msgspec.structs.asdict(context).items()
    }
    return usual(base, passed) | own


async def _run_shell(command: str, environment: Mapping[str, str], folder: Path, output: int, timeout: float) -> str:
    """Run a command, and kill all that it leaves behind. Return how it failed, empty if it succeeded."""
    parent = os.getpid()
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        *("-c", GUARD, command),
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        preexec_fn=lambda: set_parent_death_signal(parent),
        process_group=0,
    )
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
    except TimeoutError:
        return f"did not end within {timeout:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return f"ended with exit code {code}" if code else ""


@contextlib.asynccontextmanager
async def _output(log: Log, hook: str) -> AsyncIterator[int]:
    """Yield a descriptor whose lines go into the log: the output of a hook."""
    writable: int | None
    readable, writable = os.pipe()
    logging = asyncio.create_task(_log(readable, lambda line: log.info("hook output", hook=hook, line=line)))
    try:
        yield writable
    finally:
        os.close(writable)
        await asyncio.wait({logging}, timeout=CLOSE_TIMEOUT)  # a process that left the group may hold the pipe
        logging.cancel()
        await asyncio.gather(logging, return_exceptions=True)


async def _log(descriptor: int, show: Callable[[str], object]) -> None:
    """Show the lines that come out of a pipe, up to the limits for a log."""
    limit = OutputLimit()
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while data := await reader.read(CHUNK):
                for line in limit.feed(data):
                    show(line)
                if limit.omitted:
                    await asyncio.sleep(PAUSE)  # a flood of output must not take all of our CPU time
        finally:
            transport.close()
            for line in limit.end():
                show(line)
            if limit.omitted:
                show(f"... {limit.omitted} bytes left out")
