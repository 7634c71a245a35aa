"""The deployer service: one for each application on a host."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from schemas import subjects
from schemas.subjects import DEPLOYER_UNIT
from services.common import log
from services.common.errors import RegistryError
from services.common.process import environment, lifecycle, state_lock
from services.common.process.lifecycle import Context
from services.deployer import registry, sampling, signals
from services.deployer.commands.command_handler import CommandHandler
from services.deployer.notifications import notifier
from services.deployer.output import server as output_server
from services.deployer.output.sessions import Sessions
from services.deployer.reconcile.leadership import Leadership, wait_for_leadership
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.runtime.protocol import Runtime
from services.deployer.runtime.replica_dir import replica_folder
from services.deployer.settings import DeployerSettings

REMOVE = signal.SIGUSR1
"""The signal with which the supervisor asks for the removal of an application that left its configuration."""


def run(settings: DeployerSettings) -> None:
    """Run the service until SIGTERM or SIGINT. Raises LongshoreError when it cannot.

    A second deployer of the same application waits for the end of the first.
    """
    structlog.contextvars.bind_contextvars(app=settings.app)  # several deployers write to one terminal
    lifecycle.survive_hangup()
    signal.signal(REMOVE, signal.SIG_IGN)  # until there is something to remove; the supervisor sends it again
    check(settings, is_restart=any(replicas(settings).glob("*/")))
    waits = log.get("deployer").warning
    with state_lock.lock(
        settings.state_dir,
        f"replicas/{settings.app}/deployer",
        math.inf,
        lambda holder: waits("another deployer has this application: waiting until it ends", pid=holder),
    ):
        asyncio.run(wait_for_leadership(settings))
        lifecycle.run("deployer", f"{DEPLOYER_UNIT}{settings.app}", settings, lambda context: serve(context, settings))


def check(settings: DeployerSettings, is_restart: bool = False) -> None:
    """Raise LongshoreError for anything that would keep the service from working, before it starts.

    A registry without a release is an error as long as nothing was ever deployed from it: the path is wrong then. At a
    restart, a file with variables may be missing: the replicas that run were started with its values.
    """
    settings.check_complete()
    notifier.check(settings.notify, os.environ)
    if not is_restart:
        settings.variables.load()
    if settings.runtime == "docker":
        from services.deployer.runtime.docker import create_request

        asyncio.run(create_request.check(settings, is_restart))
    source = registry.parse(settings.registry)
    if not any(replicas(settings).glob("*/")) and not asyncio.run(source.offered()):
        raise RegistryError(
            f"{source.url} offers no release that can be started; put one there as VERSION/run, an executable "
            "file, such as 1.0.0/run"
        )


async def serve(context: Context, settings: DeployerSettings) -> None:
    """Keep the application running until the context stops."""
    async with _holding_leadership(context, settings) as leadership:
        if not leadership.is_held:
            return
        runtime = open_runtime(settings)
        try:
            async with notifier.notifying(context, settings) as notify:
                releases = registry.parse(settings.registry)
                reconciler = Reconciler(context, settings, releases, runtime, leadership, notify)
                asyncio.get_running_loop().add_signal_handler(REMOVE, reconciler.remove)
                await reconciler.start()
                context.spawn(sampling.sample(context, settings.app, runtime), "samples")
                commands = CommandHandler(reconciler)
                await context.bus.respond(subjects.commands(settings.app, context.host), commands.answer)
                sessions = Sessions(
                    settings.app,
                    runtime,
                    reconciler.store.record,
                    reconciler.current,
                    reconciler.replica_set.running_release,
                )
                async with output_server.serving(context, settings, runtime, sessions):
                    await reconciler.run()
                if not leadership.is_lost:  # else the next deployer has them
                    await runtime.removed()
        finally:
            runtime.close()


@contextlib.asynccontextmanager
async def _holding_leadership(context: Context, settings: DeployerSettings) -> AsyncIterator[Leadership]:
    """Hold the lease inside, and write nothing to the buckets at any moment without it."""
    leadership = Leadership(context.bus, settings)
    await leadership.take(context.stopping)
    context.bus.guard = leadership.check
    context.spawn(leadership.keep(), "leadership")
    try:
        yield leadership
    finally:
        await leadership.release()


def open_runtime(settings: DeployerSettings) -> Runtime:
    """Return the runtime of the replicas. Only containers load the SDK of the engine."""
    if settings.runtime == "process":
        if names := environment.withheld(os.environ, settings.pass_env):
            log.get("deployer").info(
                "replicas and hooks do not see these variables; --pass-env NAME adds one", names=" ".join(names)
            )
        return ProcessRuntime(
            replicas(settings),
            settings.pass_env,
            signals.parse(settings.drain_signal),
            settings.variables,
            settings.proxy_ports,
        )
    from services.deployer.runtime.docker.runtime import DockerRuntime

    return DockerRuntime(replicas(settings), settings)


def replicas(settings: DeployerSettings) -> Path:
    """Return the parent of the replicas' folders."""
    return replica_folder(settings.state_dir, settings.app)
