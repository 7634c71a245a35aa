"""The gateway's options."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from services.common.config.option import Option
from services.common.config.settings import check_port
from services.common.errors import SettingsError
from services.metrics_gateway.telemetry_settings import TelemetrySettings

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class GatewaySettings(TelemetrySettings, frozen=True, kw_only=True):
    """The address of the admin API, its tokens, and the telemetry options."""

    admin_port: Annotated[int, Option("Port of /metrics, /api and /healthz.", "Telemetry")] = 17539
    admin_address: Annotated[
        str,
        Option(
            "Address of the admin port. Unless it is a loopback address, reading needs the admin token.", "Telemetry"
        ),
    ] = "127.0.0.1"
    admin_token_file: Annotated[
        str,
        Option(
            "File with the bearer token of the admin API; replaces the generated one.",
            "Telemetry",
            shown_default="admin-token in --state-dir",
        ),
    ] = ""
    metrics_token: Annotated[str, Option("Bearer token for /metrics; prefer the variable or a file.", "Telemetry")] = ""
    metrics_token_file: Annotated[str, Option("File with the bearer token for /metrics.", "Telemetry")] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_port("--admin-port", self.admin_port)
        _check_address("--admin-address", self.admin_address)
        _check_metrics_token(self.metrics_token, self.metrics_token_file)

    @property
    def is_on_loopback(self) -> bool:
        """True if only this host can reach the admin port."""
        return ipaddress.ip_address(self.admin_address).is_loopback


def _check_address(option: str, address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise SettingsError(f"{option} {address!r}: use an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def _check_metrics_token(token: str, file: str) -> None:
    if token and file:
        raise SettingsError("--metrics-token and --metrics-token-file: give one of them")
    if token and not TOKEN.fullmatch(token):
        raise SettingsError("--metrics-token: use letters, digits and . _ ~ + / = - (it is not shown here)")
