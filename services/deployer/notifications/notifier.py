"""Notices about what the deployer records. Sending them delays nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
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
from services.deployer.settings import DeployerSettings

TICK = 5.0
"""Seconds between two looks for streaks of crashes that are over. A streak lasts minutes."""

LAST_MOMENTS = 3.0
"""Seconds that a stopping deployer gives to notices on their way: less than its supervisor waits before it kills."""


class Notifier:
    """Hands the notices about an application to the delivery queues of all targets."""

    def __init__(self, context: Context, settings: DeployerSettings) -> None:
        self.queues = [_delivery_queue(context, target) for target in parse(settings.notify)]
        self._context = context
        self._app = settings.app
        self._filter = NoticeFilter()

    def notify(self, event: Event, deploying: str) -> None:
        """Send a notice if the event is worth one. Never waits.

        `deploying`: the release that is being rolled out or undone, empty if none is.
        """
        if notice := self._filter.observe(event, deploying):
            self._send(notice)

    async def run(self) -> None:
        """Send a notice for each streak of crashes that is over, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            for notice in self._filter.recoveries(time.time()):
                self._send(notice)

    def _send(self, notice: Notice) -> None:
        addressed = replace(notice, id=uuid7(), app=self._app, host=self._context.host)
        for queue in self.queues:
            queue.put(addressed)


@contextlib.asynccontextmanager
async def notifying(context: Context, settings: DeployerSettings) -> AsyncIterator[Callable[[Event, str], None]]:
    """Yield the function to call with each event, and with the release of the deployment under way.

    At the end, notices that are on their way get a moment more.
    """
    notifier = Notifier(context, settings)
    if not notifier.queues:
        yield lambda event, release: None
        return
    context.spawn(notifier.run(), "notices")
    for queue in notifier.queues:
        context.spawn(queue.run(), "delivery queue")
    try:
        yield notifier.notify
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_MOMENTS):
                await asyncio.gather(*(queue.until_idle() for queue in notifier.queues))


def check(urls: list[str], environ: Mapping[str, str]) -> None:
    """Raise SettingsError for a target that no notice can ever reach."""
    numbered = list(enumerate(parse(urls), 1))
    if any(target.is_webhook for _, target in numbered) and not environ.get(webhook.SECRET):
        raise SettingsError(
            f"--notify with a webhook: {webhook.SECRET} is not set; set it to a secret that the receiver knows too"
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
