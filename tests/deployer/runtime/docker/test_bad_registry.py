"""A registry that fails, at each step: one clear line is told, and the old release serves on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    RegistryFailed,
    RegistryRecovered,
)
from services.deployer.registry.oci import session
from tests.deployer.registry.oci.hostile import HANG, Request, reply
from tests.deployer.runtime.docker.front import Front, is_look, is_pull, is_resolution
from tests.deployer.runtime.docker.site import DockerSite, get
from tests.deployer.waiting import eventually


def refusal(status: int, code: str) -> bytes:
    """As the distribution specification wants it."""
    error = {"code": code, "message": code.lower().replace("_", " ")}
    return reply(status, json.dumps({"errors": [error]}), Content_Type="application/json")


HALF = reply(200, b"x" * 1000)[:-500]
GARBAGE = reply(200, b"\xff\xfe<html>", Docker_Content_Digest="nonsense")


@pytest.fixture
async def front(site: DockerSite) -> AsyncIterator[Front]:
    async with Front(site.store) as front:
        site.source = front.host
        yield front


def spoilt(which: Callable[[Request], bool], answer: bytes) -> Callable[[Request], bytes | None]:
    return lambda request: answer if which(request) else None


async def first(site: DockerSite) -> list[str]:
    """The replicas of release 1.0.0, once it is deployed."""
    before = await site.until_serving("1.0.0", 2)
    await site.until(DeploymentSucceeded)
    return before


def lines(capfd: pytest.CaptureFixture[str], level: str) -> list[str]:
    """What was told with a level."""
    return [line for line in capfd.readouterr().out.splitlines() if f"[{level}" in line]


@pytest.mark.parametrize(
    ("which", "answer", "reason"),
    [
        (is_look, reply(401), "access denied (401)"),
        (is_look, reply(404), "no such repository (404)"),
        (is_look, reply(429), "too many requests (429)"),
        (is_look, reply(500), "the registry fails (500)"),
        (is_look, GARBAGE, "answered something that is not a list of tags"),
        (is_look, HALF, "cut the connection"),
        (is_look, HANG, "no complete answer within 0.5 s"),
        (is_resolution, reply(401), "access denied (401)"),
        (is_resolution, reply(404), "there is no image 2.0.0 (404)"),
        (is_resolution, reply(429), "too many requests (429)"),
        (is_resolution, reply(500), "the registry fails (500)"),
        (is_resolution, GARBAGE, "with something that is not a digest"),
        (is_resolution, HANG, "no complete answer within 0.5 s"),
    ],
    ids=[
        *(f"look-{what}" for what in ("401", "404", "429", "500", "garbage", "half", "never")),
        *(f"resolution-{what}" for what in ("401", "404", "429", "500", "garbage", "never")),
    ],
)
async def test_a_registry_that_cannot_be_read_leaves_what_runs_alone_and_is_told_once(
    site: DockerSite,
    front: Front,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    which: Callable[[Request], bool],
    answer: bytes,
    reason: str,
) -> None:
    monkeypatch.setattr(session, "TIMEOUT", 0.5)
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await first(site)
        front.spoil = spoilt(which, answer)
        site.release("2.0.0")
        failed = await site.until(RegistryFailed, 3)
        assert site.active() == before
        assert [get("127.0.0.1", site.replicas[one].port) for one in before] == ["1.0.0"] * 2
        told = [line for line in lines(capfd, "error") + lines(capfd, "warning") if reason in line]
        front.passes()
        await site.until(RegistryRecovered)
        await site.until_serving("2.0.0", 2)
    assert reason in failed.reason
    assert failed.streak == 3
    assert len(told) == 1
    assert "running replicas stay" in told[0]
    assert not site.of(DeploymentFailed)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refusal(401, "UNAUTHORIZED"), "unauthorized"),
        (refusal(404, "MANIFEST_UNKNOWN"), "manifest unknown"),
        (refusal(429, "TOOMANYREQUESTS"), "toomanyrequests"),
        (reply(500), "500"),
        (GARBAGE, "cannot pull"),  # what is garbage depends on which of the engine's requests comes first
        (HALF, "cannot pull"),
        (HANG, "not done within --pull-timeout 6 s"),
    ],
    ids=["401", "404", "429", "500", "garbage", "half", "never"],
)
async def test_a_pull_that_fails_is_a_failed_deployment_and_the_old_release_serves_on(
    site: DockerSite, front: Front, capfd: pytest.CaptureFixture[str], answer: bytes, reason: str
) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2, pull_timeout=6.0):
        before = await first(site)
        containers = site.ids()
        front.spoil = spoilt(is_pull, answer)
        site.release("2.0.0")
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        front.passes()
        assert site.active() == before
        assert site.ids() == containers
        assert [get("127.0.0.1", site.replicas[one].port) for one in before] == ["1.0.0"] * 2
        assert (await site.decisions()).quarantined.keys() == {"2.0.0"}
        site.release("2.1.0")
        await site.until_serving("2.1.0", 2)
    assert (failed.release, failed.phase) == ("2.0.0", "pull")
    assert failed.reason.startswith(f"cannot pull {front.host}/{site.repository}@sha256:")
    assert reason in failed.reason
    told = lines(capfd, "error")
    assert len(told) == 1, told
    assert f"reason='{failed.reason}'" in told[0].replace('"', "'")
    assert [event.release for event in site.of(DeploymentStarted)] == ["1.0.0", "2.0.0", "2.1.0"]


async def test_a_replica_is_replaced_while_the_registry_does_not_answer(site: DockerSite, front: Front) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await first(site)
        front.spoil = spoilt(is_resolution, HANG)
        site.release("2.0.0")
        await eventually(lambda: any("/2.0.0" in request.path for request in front.requests))
        os.kill(site.engine.inspect_container(before[0])["State"]["Pid"], signal.SIGKILL)
        after = await eventually(
            lambda: site.active() if len(site.active()) == 2 and before[0] not in site.active() else []
        )
        front.passes()
    assert before[1] in after
