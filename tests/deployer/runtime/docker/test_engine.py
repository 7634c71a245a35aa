"""An engine that is not there, does not let us in, or goes away and comes back."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.events import (
    DeploymentFailed,
    DeploymentSucceeded,
    ReplicaDraining,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaStarted,
)
from services.common.errors import EngineAwayError, EngineError, SettingsError
from services.deployer.identity import identify
from services.deployer.runtime.docker import engine, stopper
from services.deployer.runtime.docker.create_request import check
from services.deployer.runtime.docker.engine import Engine, url
from services.deployer.settings import DeployerSettings
from tests.deployer.runtime.docker.relay import Relay
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually


@pytest.fixture
async def relay(site: DockerSite, tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(url(""), tmp_path / "engine.sock")
    await relay.mend()
    yield relay
    await relay.cut()


async def test_what_happened_while_the_engine_was_away_is_seen_once_it_is_back(
    site: DockerSite, relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_host=relay.url, replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        await relay.cut()
        site.engine.kill(before[0])
        told = [""]
        await eventually(lambda: "engine is away" in grown(told, capfd))
        assert site.containers()[before[0]] == "exited"
        assert not site.of(ReplicaExited)
        await relay.mend()
        exited = await site.until(ReplicaExited)
        await eventually(lambda: len(site.active()) == 2 and before[0] not in site.active())
        await eventually(lambda: before[0] not in site.containers())
        assert "answers again" in grown(told, capfd)
    assert (exited.replica, exited.code) == (before[0], 137)
    assert told[0].count("engine is away") == 1


def grown(told: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """All that was printed so far."""
    told[0] += capfd.readouterr().out
    return told[0]


async def test_a_deployment_survives_an_engine_that_is_away_for_a_moment(
    site: DockerSite, relay: Relay, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0")
    told = [""]
    async with site.deployer(docker_host=relay.url):
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await relay.cut()
        site.release("2.0.0")
        await eventually(lambda: "engine is away" in grown(told, capfd))
        assert not site.of(DeploymentFailed)
        await relay.mend()
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)


async def test_a_container_that_was_restarted_unseen_takes_no_traffic_before_it_has_passed_a_probe_again(
    site: DockerSite, relay: Relay
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_host=relay.url):
        (replica,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await relay.cut()
        site.probes = False
        await asyncio.to_thread(site.engine.restart, replica)
        await relay.mend()
        await site.until(ReplicaStarted, 2)
        await eventually(lambda: site.active() == [])
        site.probes = True
        assert await site.until_serving("1.0.0") == [replica]
    assert len(site.of(ReplicaReady)) == 2


async def test_a_container_that_could_not_be_stopped_while_the_engine_was_away_is_not_left_over(
    site: DockerSite, relay: Relay, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_TIMEOUT", 0.2)
    monkeypatch.setattr(stopper, "KILL_INTERVAL", 0.1)
    site.release("1.0.0")
    async with site.deployer(docker_host=relay.url):
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.busy[before] = 1
        site.release("2.0.0")
        await site.until(ReplicaDraining)
        await relay.cut()
        site.busy.clear()
        told = [""]
        await eventually(lambda: "cannot stop a container" in grown(told, capfd))
        await relay.mend()
        (after,) = await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: site.containers() == {after: "running"})
    assert [event.reason for event in site.of(ReplicaRetired)] == ["replaced"]
    assert told[0].count("cannot stop a container") == 1


async def test_a_container_of_which_the_engine_says_nothing_holds_up_no_other(
    site: DockerSite, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TIMEOUT", 600.0)
    site.release("1.0.0")
    async with site.deployer(docker_host=relay.url, replicas=2):
        stuck, other = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        relay.withheld = f"/containers/{stuck}/json".encode()
        await asyncio.to_thread(site.engine.kill, stuck, "WINCH")  # it is looked at after that
        await eventually(lambda: relay.stuck)
        await asyncio.to_thread(site.engine.kill, other)
        exited = await site.until(ReplicaExited)
        await eventually(lambda: len(site.active()) == 2 and other not in site.active())
        relay.withheld = b""
    assert exited.replica == other


async def test_an_engine_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineAwayError) as refused:
        await check(DeployerSettings(runtime="docker", docker_host=f"unix://{tmp_path}/none.sock"))
    assert str(refused.value) == (
        f"no container engine answers at unix://{tmp_path}/none.sock (No such file or directory): "
        "start it, or name it with --docker-host"
    )


def test_a_socket_that_is_not_ours_to_use_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "closed.sock"
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        program = (
            "import asyncio, concurrent.futures.thread, os, sys;"
            "from services.deployer.runtime.docker.engine import Engine;"
            "os.getuid() or os.setgid(65534) or os.setuid(65534);"
            "asyncio.run(Engine(sys.argv[1]).call(lambda client: client.ping()))"
        )
        failed = subprocess.run([sys.executable, "-c", program, f"unix://{path}"], capture_output=True, text=True)
    assert f"no permission to use the container engine at unix://{path}: add this user to the group" in failed.stderr


async def test_a_refusal_is_one_line_with_its_status(site: DockerSite) -> None:
    client = Engine("")
    try:
        with pytest.raises(EngineError) as refused:
            await client.call(lambda client: client.inspect_container("no-such-container"))
    finally:
        client.close()
    assert (refused.value.status, str(refused.value)) == (404, "No such container: no-such-container")


def test_the_address_of_the_engine_is_the_option_or_the_variable_or_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    assert url("unix:///x.sock") == "unix:///x.sock"
    assert url("") == "tcp://127.0.0.1:2375"
    monkeypatch.delenv("DOCKER_HOST")
    assert url("") == "unix:///var/run/docker.sock"
    with pytest.raises(SettingsError, match=r"--docker-host ssh://me@there: use unix:///path/of/docker.sock"):
        url("ssh://me@there")


def test_a_state_folder_has_one_identity_for_ever(tmp_path: Path) -> None:
    first = identify(str(tmp_path / "state"))
    assert first == identify(str(tmp_path / "state")) != identify(str(tmp_path / "other"))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["instance"]


async def test_a_deployer_of_processes_does_not_load_the_sdk() -> None:
    program = (
        "import services.deployer.service, sys; print([name for name in ('docker', 'requests') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"[]\n"
