"""Run a plan in this process until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal

from services.common import log
from services.supervisor.plan import Plan
from services.supervisor.service import Supervisor


def run(plan: Plan) -> None:
    """Start everything, keep it running, stop it in order. Raises LongshoreError when it cannot be started."""
    asyncio.run(_run(plan))


async def _run(plan: Plan) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    supervisor = Supervisor(plan)
    working = asyncio.create_task(_work(supervisor))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    working.cancel()
    (outcome,) = await asyncio.gather(working, return_exceptions=True)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    _tell_what_goes_on(plan)


async def _work(supervisor: Supervisor) -> None:
    await supervisor.start()
    _tell_where(supervisor.plan)
    try:
        await supervisor.until_failed()
    finally:
        await supervisor.stop()


def _tell_where(plan: Plan) -> None:
    where = {"serves": ", ".join(plan.proxy.listen), "admin": plan.admin_url}
    if plan.gateway.telemetry_enabled:
        where["metrics"] = f"{plan.admin_url}/metrics"
    log.get("supervisor").info("ready", **where)


def _tell_what_goes_on(plan: Plan) -> None:
    kept = [deployer.app for deployer in plan.deployers if not deployer.stop_containers]
    if kept:
        log.get("supervisor").info(
            "stopped; replicas go on running and are taken over at the next start", apps=", ".join(kept)
        )
