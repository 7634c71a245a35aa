"""Tells people what the journal records, beside everything else and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial

from msgspec.structs import replace

from schemas.events import Event
from services.common.errors import SettingsError
from services.common.ids import uuid7
from services.common.process.lifecycle import Context
from services.deployer.notifications import apprise_client, webhook
from services.deployer.notifications.delivery_queue import DeliveryQueue
from services.deployer.notifications.notice import Notice
from services.deployer.notifications.notice_filter import NoticeFilter
from services.deployer.notifications.target import Target, parse, refusal
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.settings import DeployerSettings

TICK = 5.0
LAST_MOMENTS = 3.0


class Notifier:
    """Hands what is worth telling to the couriers of all targets."""

    def __init__(self, context: Context, settings: DeployerSettings, store: DecisionStore) -> None:
        self.queues = [_delivery_queue(context, target) for target in parse(settings.notify)]
        self._context = context
        self._app = settings.app
        self._store = store
        self._filter = NoticeFilter()

    def observe(self, event: Event) -> None:
        """Tell of an event, if it is worth it. Never waits."""
        ongoing = self._store.decisions.ongoing
        if notice := self._filter.observe(event, ongoing.release if ongoing else ""):
            self._tell(notice)

    async def run(self) -> None:
        """Tell what ends by nothing happening."""
        while True:
            await asyncio.sleep(TICK)
            for notice in self._filter.recoveries(time.time()):
                self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        addressed = replace(notice, id=uuid7(), app=self._app, host=self._context.host)
        for queue in self.queues:
            queue.take(addressed)


@contextlib.asynccontextmanager
async def announced(context: Context, settings: DeployerSettings, store: DecisionStore) -> AsyncIterator[None]:
    """Have notices sent of what the journal records; those that are on their way at the end get a moment more."""
    if not settings.notify:
        yield
        return
    notifier = Notifier(context, settings, store)
    store.observe = notifier.observe
    context.spawn(notifier.run(), "notices")
    for queue in notifier.queues:
        context.spawn(queue.run(), "courier")
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_MOMENTS):
                await asyncio.gather(*(queue.until_idle() for queue in notifier.queues))


def check(urls: list[str], environ: Mapping[str, str]) -> None:
    """Raises SettingsError for a target that no notice could ever reach."""
    numbered = list(enumerate(parse(urls), 1))
    if any(target.is_webhook for _, target in numbered) and not environ.get(webhook.SECRET):
        raise SettingsError(
            f"--notify with a webhook: {webhook.SECRET} is not set; set it to a secret that the receiver knows, too"
        )
    others = [(number, target) for number, target in numbered if not target.is_webhook]
    flaws = apprise_client.flaws([target for _, target in others]) if others else []
    for (number, target), flaw in zip(others, flaws, strict=True):
        if flaw:
            raise refusal(number, target, f"{flaw}; use a URL that apprise understands, or webhook+https://host/path")


def _delivery_queue(context: Context, target: Target) -> DeliveryQueue:
    if target.is_webhook:
        deliver = partial(webhook.deliver, target, secret=os.environ.get(webhook.SECRET, ""))
    else:
        deliver = partial(apprise_client.deliver, target)
    return DeliveryQueue(target.name, deliver, context.log)
