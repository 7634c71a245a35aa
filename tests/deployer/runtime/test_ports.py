"""The ports that replicas get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.common.errors import ReleaseError, SettingsError
from services.deployer.runtime import ports
from services.deployer.runtime.environment import HOST
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings
from services.proxy.sockets.listeners import parse
from services.supervisor.plan import Plan, listens
from tests.deployer.runtime.process_host import Host
from tests.support.ports import first_ephemeral_port
from tests.support.releases import PYTHON

ALL = set(range(ports.LOWEST, max(first_ephemeral_port(), ports.LOWEST + 1000)))


def test_a_port_that_is_reserved_is_never_given_even_if_it_is_the_last_free_one(tmp_path: Path) -> None:
    admin = ports.free(HOST, ())
    assert ports.free(HOST, ALL - {admin}) == admin
    ports.reserve(tmp_path, [admin])
    assert ports.reserved(tmp_path) == {admin}
    with pytest.raises(ReleaseError, match="no free port"):
        ports.free(HOST, (ALL - {admin}) | ports.reserved(tmp_path))


async def test_a_process_gets_the_one_port_that_no_service_needs(host: Host) -> None:
    left = ports.free(HOST, ())
    ports.reserve(host.root.parents[1], ALL - {left})
    assert (await host.start(PYTHON + "import time; time.sleep(600)")).port == left
    with pytest.raises(ReleaseError, match="no free port"):
        await host.start("", "web-1-1-y")
    host.runtime.stop("web-1-0-x", 0.1)
    await host.exit()
    host.runtime.close()
    ports.reserve(host.root.parents[1], [])
    host.runtime = ProcessRuntime(host.root, reserved=ALL)
    with pytest.raises(ReleaseError, match="no free port"):
        await host.start("", "web-1-2-z")


def test_a_damaged_list_reserves_nothing(tmp_path: Path) -> None:
    assert ports.reserved(tmp_path) == set()
    (tmp_path / ports.RESERVED).write_text("[20000, ")
    assert ports.reserved(tmp_path) == set()


def test_a_plan_reserves_the_ports_of_all_its_services() -> None:
    plan = Plan(
        ProxySettings(),
        HealthSettings(),
        GatewaySettings(
            admin_port=22548, nats_url=["nats://a:24222,nats://b:24223", "nats://c", "nats://d:99999", "nats://e:x"]
        ),
        [DeployerSettings(app="web", port=["20080", "20443"]), DeployerSettings(app="api", port=["20081"])],
    )
    assert plan.ports == {22548, 24222, 24223, 20080, 20443, 20081}


@pytest.mark.parametrize(
    ("bind", "listen"), [("", "web=8080"), ("127.0.0.1", "web=127.0.0.1:8080"), ("[::1]", "web=[::1]:8080")]
)
def test_the_proxy_listens_on_the_address_of_an_application(bind: str, listen: str) -> None:
    assert listens([DeployerSettings(app="web", port=["8080"], bind=bind)]) == [listen]
    assert [parse(one).port for one in listens([DeployerSettings(app="web", port=["8080"], bind=bind)])] == [8080]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"port": ["127.0.0.1:8080"]}, "use --bind 127.0.0.1 --port 8080"),
        ({"port": ["[::1]:8080"]}, "use --bind [::1] --port 8080"),
        ({"port": ["::1:8080"]}, "use --bind ::1 --port 8080"),
        ({"port": ["localhost:8080"]}, "use PORT or PROXY-PORT:REPLICA-PORT"),
        ({"bind": "localhost"}, "--bind 'localhost': not an IP address"),
        ({"bind": "127.0.0.1:8080"}, "--bind '127.0.0.1:8080': not an IP address"),
        ({"bind": "[127.0.0.1"}, "not an IP address"),
    ],
)
def test_an_address_is_an_option_of_its_own(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        DeployerSettings(**options)
    assert problem in str(error.value)
