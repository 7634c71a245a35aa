"""Run a plan in this process until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from services.common import log
from services.common.errors import LongshoreError
from services.common.process.lifecycle import ignore_hangup
from services.supervisor.notify import notify
from services.supervisor.plan import Plan
from services.supervisor.service import Supervisor


def run(plan: Plan, replan: Callable[[], Plan] | None = None) -> None:
    """Start all services, keep them running, stop them in order. Raises LongshoreError when one cannot start.

    `replan` returns the new plan on SIGHUP; without it, SIGHUP is ignored with one line.
    """
    asyncio.run(_run(plan, replan))


async def _run(plan: Plan, replan: Callable[[], Plan] | None) -> None:
    stopping, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set if replan else ignore_hangup)
    supervisor = Supervisor(plan)
    working = asyncio.create_task(_work(supervisor, reload, replan or (lambda: plan)))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    working.cancel()
    (outcome,) = await asyncio.gather(working, return_exceptions=True)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    _log_running_replicas(supervisor.plan)


async def _work(supervisor: Supervisor, reload: asyncio.Event, replan: Callable[[], Plan]) -> None:
    await supervisor.start()
    notify("READY=1")
    _log_addresses(supervisor.plan)
    reloading = asyncio.create_task(_reload(supervisor, reload, replan))
    try:
        await supervisor.until_failed()
    finally:
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)  # no service may start while the others stop
        await supervisor.stop()


async def _reload(supervisor: Supervisor, reload: asyncio.Event, replan: Callable[[], Plan]) -> None:
    """Reload on each SIGHUP."""
    while True:
        await reload.wait()
        reload.clear()
        await _reload_once(supervisor, replan)


async def _reload_once(supervisor: Supervisor, replan: Callable[[], Plan]) -> None:
    """Change to a new plan. An error is logged and changes nothing; the next SIGHUP tries again."""
    logger = log.get("supervisor")
    try:
        plan = replan()
    except Exception as error:
        is_expected = isinstance(error, LongshoreError | OSError)
        reason = str(error) if is_expected else f"the file cannot be read: {type(error).__name__}: {error}"
        logger.error("not reloaded, nothing changes", reason=reason)
        return
    try:
        await supervisor.change(plan)
        logger.info("reloaded")
    except (LongshoreError, OSError) as error:
        logger.error("not reloaded, nothing changes", reason=str(error))
    except Exception:
        logger.exception("the reload failed half way; send SIGHUP again")


def _log_addresses(plan: Plan) -> None:
    where = {"serves": ", ".join(plan.proxy.listen), "admin": plan.admin_url}
    if plan.gateway.telemetry_enabled:
        where["metrics"] = f"{plan.admin_url}/metrics"
    log.get("supervisor").info("ready", **where)


def _log_running_replicas(plan: Plan) -> None:
    kept = [deployer.app for deployer in plan.deployers if not deployer.stop_containers]
    if kept:
        log.get("supervisor").info(
            "stopped; the replicas keep running, and the next start adopts them", apps=", ".join(kept)
        )
