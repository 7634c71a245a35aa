"""The gateway's options."""

from __future__ import annotations

import socket

import pytest

from services.common.config.settings import arguments
from services.common.errors import PortTakenError, SettingsError
from services.metrics_gateway import service
from services.metrics_gateway.settings import GatewaySettings
from tests.support.ports import free_port


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ("http://localhost:4317", "is a URL; write host:port"),
        ("localhost", "write host:port"),
        ("localhost:", "write host:port"),
        (":4317", "write host:port"),
        ("localhost:4317/v1/metrics", "write host:port"),
        ("local host:4317", "write host:port"),
        ("::1:4317", "write host:port"),
        ("localhost:0", "1 to 65535"),
        ("localhost:65536", "1 to 65535"),
    ],
)
def test_an_endpoint_that_is_not_host_and_port_is_refused_in_one_line(endpoint: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint) as refusal:
        GatewaySettings(otlp_endpoint=endpoint)
    assert "--otlp-endpoint" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("endpoint", ["localhost:4317", "otel-collector.internal:4317", "10.0.0.1:1", "[::1]:4317"])
def test_an_endpoint_of_host_and_port_is_taken_and_implies_telemetry(endpoint: str) -> None:
    assert GatewaySettings(otlp_endpoint=endpoint).telemetry_enabled


def test_telemetry_is_off_by_default() -> None:
    assert not GatewaySettings().telemetry_enabled
    assert GatewaySettings(telemetry=True).telemetry_enabled


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_admin_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(SettingsError, match=f"--admin-port {port}"):
        GatewaySettings(admin_port=port)


@pytest.mark.parametrize("address", ["", "localhost", "everywhere", "127.0.0"])
def test_an_admin_address_that_is_no_ip_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="--admin-address"):
        GatewaySettings(admin_address=address)


def test_the_options_survive_the_way_through_a_command_line() -> None:
    settings = GatewaySettings(admin_port=1234, telemetry=True, otlp_endpoint="localhost:4317", otlp_insecure=True)
    assert sorted(arguments(settings)) == [
        "--admin-port=1234",
        "--otlp-endpoint=localhost:4317",
        "--otlp-insecure",
        "--telemetry",
    ]


def test_a_taken_admin_port_ends_the_service_before_it_looks_for_the_bus() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        nowhere = f"nats://127.0.0.1:{free_port()}"
        with pytest.raises(PortTakenError, match=f"--admin-port {port}: taken by .* choose another port") as refusal:
            service.run(GatewaySettings(admin_port=port, nats_url=[nowhere]))
    assert "\n" not in str(refusal.value)
