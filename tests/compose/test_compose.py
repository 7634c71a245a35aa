"""compose/compose.yaml on a real engine, with the image that the Dockerfile makes."""

from __future__ import annotations

import socket

import pytest

from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from tests.compose.images import run_as_root
from tests.compose.stack import Stack
from tests.support.harness import Traffic, children_of, wait_for

pytestmark = pytest.mark.timeout(600)


def test_every_service_becomes_healthy_and_the_application_is_served(stack: Stack) -> None:
    stack.wait_until_healthy()
    stack.wait_until_serving("1.0.0")
    assert {stack.ask() for _ in range(20)} == {"1.0.0"}
    assert len(stack.replicas()) == 2


async def test_no_process_of_the_host_uses_the_bus_without_a_secret(stack: Stack) -> None:
    (network,) = stack.container("nats").attrs["NetworkSettings"]["Networks"].values()
    address = network["IPAddress"]
    for service in ("cli", "deployer", "admin"):
        with pytest.raises(BusError, match=f"refuses {service}"):
            await Bus.connect(service, Credentials([f"nats://{address}:4222"]), 20)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((address, 8222), 10):
        pass


def test_each_service_has_its_own_secret_and_no_other(stack: Stack) -> None:
    folder = "/var/lib/longshore/nkeys"
    own = {
        "proxy": {"proxy.nk"},
        "health": {"health.nk"},
        "deployer": {"deployer.nk", "cli.nk"},
        "metrics-gateway": {"gateway.nk", "cli.nk"},
    }
    for service, expected in own.items():
        listed = stack.container(service).exec_run(["ls", folder])
        assert listed.exit_code == 0, listed.output
        assert set(listed.output.decode().split()) == expected
    assert "web" in stack.container("deployer").exec_run(["longshore", "status"]).output.decode()


@pytest.mark.parametrize("service", ["proxy", "health", "deployer", "metrics-gateway", "nats"])
def test_a_service_that_is_killed_comes_back_and_no_replica_notices(stack: Stack, service: str) -> None:
    wait_for("every connection is on the log", lambda: stack.counted() == stack.connections)
    before = {one.name: one.attrs["State"]["StartedAt"] for one in stack.replicas()}
    run_as_root("kill", "-KILL", str(stack.container(service).attrs["State"]["Pid"]))
    wait_for("it is started again", lambda: stack.container(service).attrs["RestartCount"] > 0)
    stack.wait_until_healthy()
    assert stack.ask() == "1.0.0"
    assert {one.name: one.attrs["State"]["StartedAt"] for one in stack.replicas()} == before


@pytest.mark.parametrize("service", ["health", "proxy"])
def test_a_service_that_hangs_is_replaced(stack: Stack, service: str) -> None:
    """Process 1 watches over it; for the kernel, and for a health check of ports, it goes on."""
    wait_for("every connection is on the log", lambda: stack.counted() == stack.connections)
    before = stack.container(service).attrs["RestartCount"]
    (hanging, *_) = children_of(stack.container(service).attrs["State"]["Pid"])
    run_as_root("kill", "-STOP", str(hanging))
    wait_for("it is started again", lambda: stack.container(service).attrs["RestartCount"] > before, 90)
    stack.wait_until_healthy()
    assert stack.ask() == "1.0.0"


def test_a_new_release_is_rolled_out_and_no_request_fails(stack: Stack) -> None:
    with Traffic(stack.app_port) as traffic:
        traffic.wait_for_more(10)
        stack.push("1.1.0")
        wait_for("the new release is deployed", lambda: stack.serves("1.1.0"), 90)
        traffic.wait_for_more(10)
    stack.connections += traffic.answered
    assert traffic.broken == []
    assert stack.ask() == "1.1.0"


def test_prometheus_has_every_connection_that_was_made_through_all_of_this(stack: Stack) -> None:
    assert wait_for("the gateway is scraped", lambda: stack.query('up{job="longshore"}')) == 1
    wait_for(
        f"{stack.connections} connections are counted",
        lambda: stack.query("sum(dewy_proxy_connections_total)") == stack.connections,
    )


def test_taken_down_it_leaves_nothing_behind(stack: Stack) -> None:
    stack.down()
    assert stack.left_over() == []
