"""When a container takes traffic, and at which addresses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentSucceeded, ReplicaReady, ReplicaStarted
from schemas.routing import Route
from tests.deployer.runtime.docker.site import DockerSite, accepts, get
from tests.deployer.waiting import eventually
from tests.support.images import SERVE

SECOND = 10**9
CHECK = {"Test": ["CMD", "test", "-e", "/tmp/well"], "Interval": SECOND // 5, "Timeout": SECOND, "Retries": 1}


def routes(site: DockerSite) -> dict[int, Route]:
    return {route.port: route for route in site.routes}


@contextlib.contextmanager
def dropped(pid: int, port: int) -> Iterator[None]:
    """Have a container lose every packet to one of its ports that begins a connection."""
    rule = ["INPUT", "-p", "tcp", "--dport", str(port), "--syn", "-j", "DROP"]

    def change(how: str) -> None:
        as_root = [] if os.getuid() == 0 else ["sudo", "-n"]
        subprocess.run([*as_root, "nsenter", "-t", str(pid), "-n", "iptables", how, *rule], check=True)

    change("-A")
    try:
        yield
    finally:
        change("-D")


async def in_container(site: DockerSite, name: str, *command: str) -> None:
    """Run a command in a container."""
    created = site.engine.exec_create(name, list(command))
    await asyncio.to_thread(site.engine.exec_start, created["Id"])


async def test_without_a_path_an_image_that_does_not_listen_yet_waits_although_its_port_accepts(
    site: DockerSite,
) -> None:
    site.release("1.0.0", f"while ! test -e /tmp/go; do sleep 0.1; done; {SERVE}")
    async with site.deployer(health_path="", settle=0.0):
        started = await site.until(ReplicaStarted)
        port = int(started.address.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: site.verdicts().get(started.replica))
        assert site.active() == []
        await in_container(site, started.replica, "touch", "/tmp/go")
        assert await site.until_serving("1.0.0") == [started.replica]


async def test_a_server_that_listens_only_inside_its_container_is_not_ready_although_the_engine_accepts_for_it(
    site: DockerSite,
) -> None:
    site.release("1.0.0")
    async with site.deployer(health_path="", settle=0.0, health_timeout=3.0):
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.release("1.1.0", SERVE.replace("-p 8080", "-p 127.0.0.1:8080"))
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert site.active() == before
    assert failed.phase == "check"
    assert "listens on 127.0.0.1 inside the container only; bind 0.0.0.0" in failed.reason


async def test_one_whose_packets_are_dropped_leaves_the_route_until_it_answers_again(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(health_path="", settle=0.0, probe_timeout=0.5, probe_interval=0.2, replace_after=600.0):
        (before,) = await site.until_serving("1.0.0")
        with dropped(site.engine.inspect_container(before)["State"]["Pid"], 8080):
            assert accepts("127.0.0.1", site.replicas[before].port)
            await eventually(lambda: site.active() == [])
        await eventually(lambda: site.active() == [before])


async def test_without_a_path_the_healthcheck_of_the_image_decides_as_well(site: DockerSite) -> None:
    site.release("1.0.0", Healthcheck=CHECK)
    async with site.deployer(health_path="", settle=0.0, replace_after=600.0):
        started = await site.until(ReplicaStarted)
        await eventually(lambda: site.verdicts().get(started.replica))
        assert site.active() == []
        await in_container(site, started.replica, "touch", "/tmp/well")
        assert await site.until_serving("1.0.0") == [started.replica]
        await in_container(site, started.replica, "rm", "/tmp/well")
        await eventually(lambda: site.active() == [])
        await in_container(site, started.replica, "touch", "/tmp/well")
        await eventually(lambda: site.active() == [started.replica])


async def test_an_image_that_never_becomes_healthy_fails_and_the_old_one_serves_on(site: DockerSite) -> None:
    site.release("1.0.0")
    options = {"health_path": "", "settle": 0.0, "health_timeout": 2.0}
    async with site.deployer(**options):
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.release("2.0.0", Healthcheck=CHECK)
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert site.active() == before
        await eventually(lambda: site.containers() == {before[0]: "running"})
    assert (failed.phase, "was not ready within 2 s" in failed.reason) == ("check", True)


async def test_a_path_decides_alone_and_options_change_the_healthcheck(site: DockerSite) -> None:
    site.release("1.0.0", Healthcheck=CHECK)
    async with site.deployer(docker_args=["--health-interval", "7s"]):
        (replica,) = await site.until_serving("1.0.0")
        check = site.engine.inspect_container(replica)["Config"]["Healthcheck"]
    assert (check["Test"], check["Interval"]) == (CHECK["Test"], 7 * SECOND)
    assert site.of(ReplicaReady)


BOTH = SERVE.replace("httpd", "httpd -f -p 9090 -h /bin & httpd", 1)


async def test_each_proxy_port_leads_to_its_own_port_of_the_container(site: DockerSite) -> None:
    site.release("1.0.0", BOTH)
    async with site.deployer(port=["8081:8080", "8082:9090", "8083", "8084:8080"], replicas=2):
        await site.until_serving("1.0.0", 2)
        await eventually(
            lambda: (
                {port: len(route.backends) for port, route in routes(site).items()}
                == dict.fromkeys((8081, 8082, 8083, 8084), 2)
            )
        )
        found = routes(site)
        pages = {
            port: {get(one.host, one.port) or get(one.host, one.port, "/sh")[:4] for one in route.backends}
            for port, route in found.items()
            if port != 8082
        }
        assert pages == {8081: {"1.0.0"}, 8083: {"1.0.0"}, 8084: {"1.0.0"}}
        addresses = {port: {(one.host, one.port) for one in route.backends} for port, route in found.items()}
        assert addresses[8081] == addresses[8083] == addresses[8084]
        assert not addresses[8081] & addresses[8082]
        assert {one.host for one in found[8082].backends} == {"127.0.0.1"}
        ports = {port for _, port in addresses[8082]}
        for replica in site.active():
            bound = site.engine.inspect_container(replica)["NetworkSettings"]["Ports"]["9090/tcp"]
            assert [int(one["HostPort"]) in ports for one in bound] == [True]


async def test_containers_are_dialled_at_their_own_addresses_when_that_is_wanted(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(dial="container", replicas=2):
        ids = await site.until_serving("1.0.0", 2)
        for one in routes(site)[8080].backends:
            container = site.engine.inspect_container(one.id)
            assert (one.host, one.port) == (container["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], 8080)
            assert not container["HostConfig"]["PortBindings"]
        assert [site.visit(site.replicas[one]) for one in ids] == ["1.0.0"] * 2


async def test_command_variables_and_volumes_reach_the_container(site: DockerSite) -> None:
    site.release("1.0.0", "exit 1")
    (site.state_dir.parent / "app.env").write_text("FROM_FILE=yes\n")
    words = ["--env-file", str(site.state_dir.parent / "app.env"), "-e", "PAGE=hello", "--tmpfs=/page", "--read-only"]
    script = 'echo "$PAGE $FROM_FILE $LONGSHORE_RELEASE" >/page/index.html; httpd -f -p 8080 -h /page'
    async with site.deployer(cmd=["sh", "-c", script], docker_args=words, health_path=""):
        (replica,) = await site.until_serving("1.0.0")
        assert get("127.0.0.1", site.replicas[replica].port) == "hello yes 1.0.0\n"


async def test_no_secret_of_the_environment_is_in_a_log_line_or_an_event(
    site: DockerSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_args=["-e", "TOKEN=hunter2", "--network", "no-such-network"]):
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
    async with site.deployer(docker_args=["-eTOKEN=hunter2"]):
        site.release("1.1.0")
        (replica,) = await site.until_serving("1.1.0")
        assert "TOKEN=hunter2" in site.engine.inspect_container(replica)["Config"]["Env"]
    assert "no-such-network" in failed.reason
    assert "hunter2" not in capfd.readouterr().out
    assert "hunter2" not in repr(site.events)
