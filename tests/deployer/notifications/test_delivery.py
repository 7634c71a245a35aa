"""Notices arrive at a real HTTP server, from a real deployer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentSucceeded, RegistryFailed, ReplicaExited
from services.common import log
from services.deployer.notifications import apprise_client, webhook
from services.deployer.notifications.delivery_queue import MOST_WAITING, Deliver, DeliveryQueue
from services.deployer.notifications.errors import UndeliveredError
from services.deployer.notifications.notice import Notice
from services.deployer.notifications.target import Target
from tests.deployer.notifications.conftest import SECRET
from tests.deployer.notifications.receiver import Receiver
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.ports import free_port
from tests.support.releases import CRASHING, release

QUICK = (0.01, 0.02, 0.03)


def notice(text: str = "text") -> Notice:
    return Notice("kind", "info", "title", text, 1.0, "web", "here", text)


@contextlib.asynccontextmanager
async def queue(deliver: Deliver, deadline: float = 30.0) -> AsyncIterator[DeliveryQueue]:
    one = DeliveryQueue("webhook://***", deliver, log.get("deployer"), QUICK, deadline)
    running = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def to(receiver: Receiver, secret: str = SECRET) -> Deliver:
    async def deliver(one: Notice) -> None:
        await webhook.deliver(Target(f"webhook+http://{receiver.place}/hook?key=k"), one, secret)

    return deliver


async def test_the_story_of_an_application_is_told_in_order_and_signed(site: Site, receiver: Receiver) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(notify=[f"webhook+http://{receiver.place}/hook"]):
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0", CRASHING)
        await site.until(DeploymentRolledBack)
        (replica,) = await site.until_serving("1.0.0")
        os.kill(site.pids()[replica], signal.SIGKILL)
        await site.until(ReplicaExited, 2)
        await eventually(lambda: replica not in site.active())
        await site.until_serving("1.0.0")
        away = site.registry.rename(site.registry.with_name("away"))
        await site.until(RegistryFailed, 3)
        away.rename(site.registry)
        await eventually(lambda: len(receiver.requests) == 6)
    assert receiver.kinds == [
        "deployment-succeeded",
        "deployment-failed",
        "deployment-rolled-back",
        "replica-crashed",
        "registry-failed",
        "registry-recovered",
    ]
    for request in receiver.requests:
        expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["Longshore-Signature"] == f"sha256={expected}"
        assert (request.notice["app"], request.notice["host"]) == ("web", "here")
    assert receiver.requests[3].notice["event"]["code"] == -9
    assert len({request.notice["id"] for request in receiver.requests}) == 6
    failed = receiver.requests[1].notice["event"]
    assert (failed["type"], failed["deployment"]) == ("DeploymentFailed", site.of(DeploymentFailed)[0].deployment)


async def test_the_documented_verification_tells_the_genuine_from_the_forged(receiver: Receiver) -> None:
    await to(receiver)(notice())
    (request,) = receiver.requests
    assert documented(request.body, request.headers["Longshore-Signature"])
    assert not documented(request.body + b" ", request.headers["Longshore-Signature"])


def documented(body: bytes, signature: str) -> bool:
    """What the lines in the documentation make of a request."""
    page = Path(__file__).parents[3] / "docs" / "hooks-and-notices.md"
    (lines,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {"body": body, "signature": signature, "secret": SECRET.encode()}
    exec(lines, names)
    return bool(names["is_genuine"])


async def test_a_target_that_never_answers_holds_up_neither_a_deployment_nor_the_end(
    site: Site, receiver: Receiver
) -> None:
    receiver.hold.clear()
    release(site.registry, "1.0.0")
    async with site.deployer(notify=[f"webhook+http://{receiver.place}/hook"]):
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
    assert len(receiver.requests) == 1


async def test_what_happened_last_is_still_told_when_the_deployer_stops(site: Site, receiver: Receiver) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(notify=[f"webhook+http://{receiver.place}/hook"]):
        await site.until(DeploymentSucceeded)
    assert receiver.kinds == ["deployment-succeeded"]


async def test_a_failed_attempt_is_repeated_with_the_same_bytes(receiver: Receiver) -> None:
    receiver.statuses = [500, 429, 503]
    with structlog.testing.capture_logs() as logs:
        async with queue(to(receiver)) as one:
            one.put(notice())
            await one.until_idle()
    assert len({request.body for request in receiver.requests}) == 1
    assert len(receiver.requests) == 4
    assert logs == []


async def test_a_request_that_is_refused_for_good_is_not_repeated(receiver: Receiver) -> None:
    receiver.statuses = [404]
    with structlog.testing.capture_logs() as logs:
        async with queue(to(receiver)) as one:
            one.put(notice())
            await one.until_idle()
    assert len(receiver.requests) == 1
    assert [line["reason"] for line in logs] == ["HTTP status 404"]


async def test_a_dead_target_is_one_line_in_the_log_and_another_when_it_lives_again(receiver: Receiver) -> None:
    receiver.statuses = [500] * 12
    with structlog.testing.capture_logs() as logs:
        async with queue(to(receiver)) as one:
            for number in range(4):
                one.put(notice(str(number)))
            await one.until_idle()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("notices do not arrive", "warning"),
        ("notices arrive again", "info"),
    ]
    assert logs[1]["lost"] == 3
    assert receiver.requests[-1].notice["text"] == "3"


async def test_a_target_that_hangs_is_given_up_at_the_deadline(receiver: Receiver) -> None:
    receiver.hold.clear()
    with structlog.testing.capture_logs() as logs:
        async with queue(to(receiver), deadline=0.5) as one:
            one.put(notice())
            await one.until_idle()
    assert [line["reason"] for line in logs] == ["no answer within 0.5 s"]
    assert 1 <= len(receiver.requests) <= 4  # on a busy machine an attempt may end before it arrives


async def test_when_too_many_pile_up_the_oldest_are_lost_and_counted(receiver: Receiver) -> None:
    receiver.hold.clear()
    with structlog.testing.capture_logs() as logs:
        async with queue(to(receiver)) as one:
            one.put(notice("first"))
            await eventually(lambda: receiver.requests)
            for number in range(MOST_WAITING + 7):
                one.put(notice(str(number)))
            receiver.hold.set()
            await one.until_idle()
    assert [request.notice["text"] for request in receiver.requests] == [
        "first",
        *(str(number) for number in range(7, MOST_WAITING + 7)),
    ]
    assert [line["lost"] for line in logs] == [7]


async def test_a_server_that_is_not_there_is_told_without_its_url() -> None:
    target = Target(f"webhook+http://127.0.0.1:{free_port()}/s3cret?key=s3cret")
    with pytest.raises(UndeliveredError) as failed:
        await webhook.deliver(target, notice(), SECRET)
    assert "s3cret" not in str(failed.value)
    assert not failed.value.is_final


async def test_apprise_brings_title_and_text_to_its_services(receiver: Receiver) -> None:
    await apprise_client.deliver(Target(f"json://{receiver.place}/s3cret"), notice("what happened"))
    (request,) = receiver.requests
    assert request.path == "/s3cret"
    assert request.notice["title"] == "web on here: title"
    assert request.notice["message"] == "what happened"
    assert request.notice["type"] == "info"


async def test_what_apprise_cannot_deliver_says_why_without_the_url(receiver: Receiver) -> None:
    receiver.statuses = [500]
    with pytest.raises(UndeliveredError) as failed:
        await apprise_client.deliver(Target(f"json://{receiver.place}/s3cret"), notice())
    assert "500" in str(failed.value)
    assert "s3cret" not in str(failed.value)


async def test_an_apprise_that_hangs_is_killed_at_the_deadline(receiver: Receiver) -> None:
    receiver.hold.clear()
    target = Target(f"json://{receiver.place}/s3cret?rto=60")
    sending = asyncio.create_task(apprise_client.deliver(target, notice()))
    await eventually(lambda: receiver.requests)
    (apprise_pid,) = children()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert sending.cancelled()
    assert apprise_pid not in children()


def children() -> list[str]:
    """The processes that apprise runs in for us."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in pids if "apprise_process" in Path(f"/proc/{pid}/cmdline").read_text()]
