"""Another deployer of the same application on the same host, with a state directory of its own: the second one waits.

Whoever has the application answers when asked for it. That is no lease: two that start in the same instant, or that
lose sight of each other, are not kept apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas import subjects
from services.common import credentials, log
from services.common.bus import Bus
from services.common.errors import BusError
from services.deployer.settings import DeployerSettings

PATIENCE = 2.0
"""Seconds for an answer: one that is lost with its host may be asked for minutes, and says nothing."""
RETRY = 1.0


class Holder(msgspec.Struct, frozen=True):
    """Who has the application."""

    state_dir: str
    pid: int


async def wait_for_turn(settings: DeployerSettings) -> None:
    """Return when nobody else has the application. Raises BusError when there is no bus."""
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    try:
        is_told = False
        while other := await _ask(bus, settings):
            if not is_told:
                is_told = True
                log.get("deployer").warning(
                    "another deployer has this application on this host: waits for its end",
                    app=settings.app,
                    host=settings.host,
                    **msgspec.structs.asdict(other),
                )
            await asyncio.sleep(RETRY)
    finally:
        await bus.close()


async def hold(bus: Bus, settings: DeployerSettings) -> None:
    """Answer those who ask, from now on."""
    holder = msgspec.json.encode(_holder(settings))

    async def answer(_payload: bytes, _headers: Mapping[str, str]) -> bytes:
        return holder

    await bus.respond(subjects.holder(settings.app, settings.host), answer)


async def _ask(bus: Bus, settings: DeployerSettings) -> Holder | None:
    try:
        reply = await bus.request(subjects.holder(settings.app, settings.host), _holder(settings), PATIENCE)
        return msgspec.json.decode(reply, type=Holder)
    except (BusError, msgspec.MsgspecError):
        return None


def _holder(settings: DeployerSettings) -> Holder:
    return Holder(str(Path(settings.state_dir).absolute()), os.getpid())
