"""The deployer service: one for each application on a host."""

from __future__ import annotations

import asyncio
from pathlib import Path

from schemas import subjects
from services.common import lifecycle, state
from services.common.errors import RegistryError
from services.common.lifecycle import Context
from services.deployer import registry
from services.deployer.orders import Orders
from services.deployer.reconcile import Reconciler
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.settings import DeployerSettings


def run(settings: DeployerSettings) -> None:
    """Run the service until SIGTERM or SIGINT. Raises LongshoreError when it cannot."""
    check(settings)
    with state.lock(settings.state_dir, f"replicas/{settings.app}/deployer"):
        lifecycle.run("deployer", f"deployer:{settings.app}", settings, lambda context: serve(context, settings))


def check(settings: DeployerSettings) -> None:
    """Raises LongshoreError for what would keep the service from working, before anything is started.

    A registry without a release is an error as long as nothing was ever deployed from it: that is a wrong path.
    """
    settings.check_complete()
    source = registry.parse(settings.registry)
    if not asyncio.run(source.offered()) and not any(replicas(settings).glob("*/")):
        raise RegistryError(
            f"{source.url} offers no release that can be started: put one there as VERSION/run, an executable "
            "file, such as 1.0.0/run"
        )


async def serve(context: Context, settings: DeployerSettings) -> None:
    """Keep the application running until the context stops."""
    runtime = ProcessRuntime(replicas(settings))
    try:
        reconciler = Reconciler(context, settings, registry.parse(settings.registry), runtime)
        await reconciler.start()
        await context.bus.respond(subjects.commands(settings.app, context.host), Orders(reconciler).answer)
        await reconciler.run()
    finally:
        runtime.close()


def replicas(settings: DeployerSettings) -> Path:
    """Where the replicas' folders are."""
    return Path(settings.state_dir) / "replicas" / settings.app
