"""The drain signal: a replica that drains may close its connections by itself before they are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.commands import Drain
from schemas.events import (
    DeploymentSucceeded,
    ReplicaDrained,
    ReplicaDraining,
    ReplicaExited,
    ReplicaRetired,
    ReplicaStarted,
)
from services.common.errors import SettingsError
from services.deployer import signals
from services.deployer.service import replicas
from services.deployer.settings import DeployerSettings
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.releases import POLITE, PYTHON, SERVER, release

TOLD = "closes after signal 10"
HALF_POLITE = """#!/bin/sh
%s -IS -c 'import os, socket, time; listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True: listener.accept()[0].sendall(b"x")' &
server=$!
(while ! test -e leave; do sleep 0.02; done; echo finished; kill $server) &
wait
"""
"""Its first process dies of SIGUSR1, while others have something to finish."""


def output(site: Site, replica: str) -> str:
    path = replicas(site.settings()) / replica / "output.log"
    return path.read_text() if path.exists() else ""


async def serving(site: Site, program: str = POLITE) -> tuple[str, Path]:
    """A replica that serves and has a connection, and its folder."""
    folder = release(site.registry, "1.0.0", program)
    (old,) = await site.until_serving("1.0.0")
    await site.until(DeploymentSucceeded)
    site.busy[old] = 1
    return old, folder


async def test_a_draining_replica_gets_its_signal_and_may_end_by_itself(site: Site) -> None:
    async with site.deployer(drain_signal="USR1", drain_time=600.0):
        old, folder = await serving(site)
        site.follows = False
        release(site.registry, "2.0.0")
        await eventually(lambda: len(site.replicas) == 2)
        assert TOLD not in output(site, old)
        site.follows = True
        await site.until(ReplicaDraining)
        await eventually(lambda: TOLD in output(site, old))
        assert [backend.state for backend in site.routes[-1].backends if backend.id == old] == ["draining"]
        await eventually(lambda: old not in site.replicas)  # it does not listen any more: no probe says otherwise
        (folder / "leave").touch()
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
        drained, retired = site.of(ReplicaDrained)[0], site.of(ReplicaRetired)[0]
    assert (drained.replica, drained.cut) == (old, 0)
    assert (retired.replica, retired.reason) == (old, "replaced")
    assert site.of(ReplicaExited) == []


async def test_what_does_not_end_in_time_is_cut_and_stopped_as_without_a_signal(site: Site) -> None:
    async with site.deployer(drain_signal="SIGUSR1", drain_time=0.5, stop_timeout=0.2):
        old, _ = await serving(site)
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        assert TOLD in output(site, old)
    assert [(event.replica, event.cut) for event in site.of(ReplicaDrained)] == [(old, 1)]
    assert [event.replica for event in site.of(ReplicaRetired)] == [old]
    assert site.of(ReplicaExited) == []


async def test_without_the_option_nothing_is_sent_before_the_cut(site: Site) -> None:
    async with site.deployer(drain_time=0.5):
        old, _ = await serving(site)
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        assert TOLD not in output(site, old)


async def test_a_replica_that_drains_by_hand_gets_its_signal_too(site: Site) -> None:
    async with site.deployer(drain_signal="usr1", drain_time=600.0):
        old, folder = await serving(site)
        await site.ask(Drain(old))
        await eventually(lambda: TOLD in output(site, old))
        (folder / "leave").touch()
        await site.until(ReplicaRetired)
    assert site.of(ReplicaExited) == []
    assert not any(event.replaces for event in site.of(ReplicaStarted)), "no replica failed"


async def test_replicas_that_stop_with_the_deployer_get_their_signal(site: Site) -> None:
    async with site.deployer(drain_signal="USR1", drain_time=600.0, stop_containers=True):
        old, folder = await serving(site)
        (folder / "leave").touch()
    assert TOLD in output(site, old)
    await site.until(ReplicaRetired)
    assert [event.reason for event in site.of(ReplicaRetired)] == ["stopped"]
    assert site.of(ReplicaExited) == []


@pytest.mark.parametrize("is_over", [False, True], ids=["ends-later", "ended-unseen"])
async def test_the_next_deployer_knows_that_a_replica_got_its_signal(site: Site, is_over: bool) -> None:
    async with site.deployer(drain_signal="USR1", drain_time=600.0):
        old, folder = await serving(site)
        release(site.registry, "2.0.0")
        await eventually(lambda: TOLD in output(site, old))
    if is_over:
        (folder / "leave").touch()
        await eventually(lambda: old not in site.alive())
    async with site.deployer(drain_signal="USR1", drain_time=600.0):
        (folder / "leave").touch()
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
    assert [event.replica for event in site.of(ReplicaRetired)] == [old]
    assert site.of(ReplicaExited) == []
    assert output(site, old).count(TOLD) == 1


async def test_a_group_may_finish_although_its_first_process_died_of_the_signal(site: Site) -> None:
    async with site.deployer(drain_signal="USR1", drain_time=600.0):
        old, folder = await serving(site, HALF_POLITE % PYTHON.split()[0].removeprefix("#!"))
        release(site.registry, "2.0.0", SERVER)
        await eventually(lambda: (replicas(site.settings()) / old / "draining").exists())
        (folder / "leave").touch()
        await site.until(DeploymentSucceeded, 2)
        assert "finished" in output(site, old)


@pytest.mark.parametrize(
    ("text", "name"),
    [("TERM", "SIGTERM"), ("sigquit", "SIGQUIT"), ("SIGRTMIN+3", "SIGRTMIN+3"), ("none", ""), ("", "")],
)
def test_a_signal_is_named_as_people_write_it(text: str, name: str) -> None:
    assert signals.parse(text) == name


@pytest.mark.parametrize("text", ["KILL", "SIGSTOP", "15", "SIGFOO", "SIG", "RTMIN+99", "TERM ", "SIGSIGTERM"])
def test_what_no_replica_can_act_on_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--drain-signal: .*use") as refused:
        DeployerSettings(drain_signal=text)
    assert "\n" not in str(refused.value)
