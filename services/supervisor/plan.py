"""The plan of a host: the settings of all its services."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from schemas.routing import authority
from services.common.errors import SettingsError
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings


class Plan(msgspec.Struct, frozen=True):
    """One bus, gateway, health service and proxy for the deployers of a host."""

    proxy: ProxySettings
    health: HealthSettings
    gateway: GatewaySettings
    deployers: list[DeployerSettings]
    nats_server: str = ""

    @property
    def state_dir(self) -> str:
        """The folder of the bus's store and the replicas' logs."""
        return self.gateway.state_dir

    @property
    def ports(self) -> set[int]:
        """The ports of this host that its services use, or will use once they run."""
        proxy = {port for deployer in self.deployers for port in deployer.proxy_ports}
        buses = (_port(url) for text in self.gateway.nats_url for url in text.split(","))
        return {self.gateway.admin_port, *proxy, *(port for port in buses if port)}

    @property
    def admin_url(self) -> str:
        """The URL of the admin API on this host."""
        return f"http://{authority(self.gateway.admin_address, self.gateway.admin_port)}"


def _port(url: str) -> int | None:
    """Return the port of a server; none of a URL that is invalid, which the connection to it reports."""
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def listens(deployers: list[DeployerSettings]) -> list[str]:
    """Return the proxy's --listen options for the ports of these apps. Raises SettingsError when two apps share one."""
    owners: dict[int, DeployerSettings] = {}
    for deployer in deployers:
        for port in deployer.proxy_ports:
            if port in owners:
                raise SettingsError(
                    f"--port {port}: {owners[port].app} and {deployer.app} both use it; give one of them another port"
                )
            owners[port] = deployer
    return [
        f"{one.app}={authority(one.bind_address, port) if one.bind_address else port}" for port, one in owners.items()
    ]
