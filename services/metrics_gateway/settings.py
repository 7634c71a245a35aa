"""The gateway's options."""

from __future__ import annotations

import ipaddress
import re

from services.common.errors import SettingsError
from services.common.settings import Settings, check_port

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]+)")


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """Where the admin API listens, and who gets the metrics."""

    admin_port: int = 17539
    admin_address: str = "127.0.0.1"
    admin_token_file: str = ""
    metrics_token: str = ""
    metrics_token_file: str = ""
    telemetry: bool = False
    otlp_endpoint: str = ""
    otlp_insecure: bool = False

    def __post_init__(self) -> None:
        check_port("--admin-port", self.admin_port)
        _check_address("--admin-address", self.admin_address)
        _check_metrics_token(self.metrics_token, self.metrics_token_file)
        if self.otlp_endpoint:
            _check_endpoint("--otlp-endpoint", self.otlp_endpoint)

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this host can reach the admin port."""
        return ipaddress.ip_address(self.admin_address).is_loopback

    @property
    def telemetry_enabled(self) -> bool:
        """An OTLP endpoint implies telemetry."""
        return self.telemetry or bool(self.otlp_endpoint)


def _check_address(option: str, address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise SettingsError(f"{option} {address!r}: use an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def _check_metrics_token(token: str, file: str) -> None:
    if token and file:
        raise SettingsError("--metrics-token and --metrics-token-file: give one of them")
    if token and not _TOKEN.fullmatch(token):
        raise SettingsError("--metrics-token: use letters, digits and . _ ~ + / = - (it is not shown here)")


def _check_endpoint(option: str, endpoint: str) -> None:
    if "://" in endpoint:
        raise SettingsError(
            f"{option} {endpoint}: leave the scheme out and write host:port (gRPC; --otlp-insecure for plain text)"
        )
    match = _ENDPOINT.fullmatch(endpoint)
    if not match:
        raise SettingsError(f"{option} {endpoint!r}: write host:port, such as localhost:4317")
    check_port(option, int(match["port"]))
