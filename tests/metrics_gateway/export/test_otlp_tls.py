"""Pushing over TLS: whom the gateway trusts, and how it shows who it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it comes without types
import msgspec
import pytest

from services.common.bus.connection import Bus
from services.common.config.settings import arguments
from services.common.process.child import SUPERVISED
from services.demo import releases
from services.metrics_gateway.settings import GatewaySettings
from tests.metrics_gateway.export.test_otlp_faults import complaints, until_failing
from tests.metrics_gateway.traces.story import succeeded
from tests.metrics_gateway.traces.test_push import record
from tests.support.authority import Authority
from tests.support.gateway_process import Launch
from tests.support.harness import Server, longshore, wait_for
from tests.support.metrics_receiver import Receiver, receiving, until
from tests.support.ports import free_port
from tests.support.traces_receiver import Traces
from tests.support.traces_receiver import receiving as receiving_traces


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def server(authority: Authority, *validity: str, clients: bool = False) -> grpc.ServerCredentials:
    """Of a receiver for localhost; `clients`: only those that the authority knows."""
    certificate, key = authority.sign("receiver", *validity)
    pair = (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], authority.certificate.read_bytes() if clients else None, clients)


async def test_a_receiver_is_trusted_whose_certificate_the_given_authority_signed(
    launch: Launch, authority: Authority, tmp_path: Path
) -> None:
    receiver, other = Receiver(), Authority(tmp_path / "other")
    with receiving(receiver, server(authority)) as port:
        trusting = launch(otlp_endpoint=f"localhost:{port}", otlp_ca=str(authority.certificate), otlp_interval=0.1)
        assert (await asyncio.to_thread(receiver.last)).resource_metrics
        trusting.stop()
        for options in ({}, {"otlp_ca": str(other.certificate)}, {"otlp_insecure": True}):
            refused = launch(otlp_endpoint=f"localhost:{port}", otlp_interval=0.1, **options)
            await until_failing(refused, 1)
            assert refused.stop() == 0
            assert len(complaints(refused)) == 1


async def test_a_receiver_that_wants_to_know_its_clients_gets_their_certificate(
    launch: Launch, authority: Authority
) -> None:
    certificate, key = authority.sign("gateway")
    receiver = Receiver()
    with receiving(receiver, server(authority, clients=True)) as port:
        trust = {"otlp_endpoint": f"localhost:{port}", "otlp_ca": str(authority.certificate), "otlp_interval": 0.1}
        nobody = launch(**trust)
        await until_failing(nobody, 1)
        nobody.stop()
        assert receiver.calls == 0
        launch(**trust, otlp_cert=str(certificate), otlp_key=str(key))
        assert (await asyncio.to_thread(receiver.last)).resource_metrics


@pytest.mark.parametrize("signal", ["", "METRICS_"])
async def test_the_standard_variables_name_the_same_files(
    launch: Launch, authority: Authority, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    certificate, key = authority.sign("gateway")
    prefix = f"OTEL_EXPORTER_OTLP_{signal}"
    receiver = Receiver()
    with receiving(receiver, server(authority, clients=True)) as port:
        monkeypatch.setenv(f"{prefix}ENDPOINT", f"https://localhost:{port}")
        monkeypatch.setenv(f"{prefix}CERTIFICATE", str(authority.certificate))
        monkeypatch.setenv(f"{prefix}CLIENT_CERTIFICATE", str(certificate))
        monkeypatch.setenv(f"{prefix}CLIENT_KEY", str(key))
        launch(otlp_interval=0.1)
        assert (await asyncio.to_thread(receiver.last)).resource_metrics


async def test_a_receiver_whose_certificate_is_over_is_not_trusted_and_the_line_says_why(
    launch: Launch, authority: Authority
) -> None:
    receiver = Receiver()
    with receiving(receiver, server(authority, "-days", "-1")) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_ca=str(authority.certificate), otlp_interval=0.1)
        await until_failing(gateway, 2)
        assert gateway.stop() == 0
    (line,) = complaints(gateway)
    assert "certificate has expired" in line.lower() or "certificate_verify_failed" in line.lower()
    assert receiver.calls == 0


async def test_a_receiver_whose_certificate_expires_costs_a_line_until_it_is_renewed(
    launch: Launch, authority: Authority
) -> None:
    receiver = Receiver()
    with receiving(receiver, server(authority)) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_ca=str(authority.certificate), otlp_interval=0.1)
        assert (await asyncio.to_thread(receiver.last)).resource_metrics
    with receiving(receiver, server(authority, "-days", "-1"), port=port):
        await until_failing(gateway, 3)
        assert (await gateway.get("/metrics")).status_code == 200
    with receiving(receiver, server(authority), port=port):
        await gateway.until("/metrics", lambda _: "works again" in gateway.log.read_text())
        assert gateway.stop() == 0
    assert gateway.log.read_text().count("cannot push metrics") == 1


def over(authority: Authority, port: int) -> dict[str, object]:
    """Options of a gateway whose own certificate has expired."""
    certificate, key = authority.sign("gateway", "-days", "-1")
    files = {"otlp_ca": authority.certificate, "otlp_cert": certificate, "otlp_key": key}
    return {"otlp_endpoint": f"localhost:{port}", "otlp_interval": 0.1} | {
        name: str(one) for name, one in files.items()
    }


def test_a_gateway_whose_own_certificate_is_over_says_so_in_one_line_and_does_not_start(
    authority: Authority, tmp_path: Path
) -> None:
    options = arguments(msgspec.convert(over(authority, 4317) | {"state_dir": str(tmp_path)}, GatewaySettings))
    refused = longshore("gateway", *options, f"--admin-port={free_port()}")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"certificate {authority.folder}/gateway.pem expired on 20" in line
    assert "renew it" in line


def test_a_certificate_that_is_over_keeps_no_traffic_from_being_served(authority: Authority, tmp_path: Path) -> None:
    options = arguments(msgspec.convert(over(authority, free_port()), GatewaySettings))
    one = Server(tmp_path, *options, "--stop-containers")
    releases.publish(one.registry, releases.FIRST)
    one.start()
    try:
        wait_for("it serves", lambda: one.serves(releases.FIRST))
        wait_for("it is measured", lambda: one.metrics().get("dewy_deployments_total") == 1)
    finally:
        assert one.stop() == 0
    told = [line for line in one.log.read_text().splitlines() if "gateway.pem expired on 20" in line]
    assert len(told) == 1


async def test_a_certificate_that_is_renewed_is_used_without_a_restart(
    launch: Launch, authority: Authority, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    await record(bus, "deployer-1", [*succeeded()])
    receiver, traces = Receiver(), Traces()
    credentials = server(authority, clients=True)
    with receiving(receiver, credentials) as port, receiving_traces(traces, credentials) as traces_port:
        options = over(authority, port) | {"otlp_endpoint": ""}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"https://localhost:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"https://localhost:{traces_port}")
        gateway = launch(**options)
        await until_failing(gateway, 3)
        await until(lambda: "cannot push traces" in gateway.log.read_text())
        (authority.folder / "gateway.key").unlink()
        await until_failing(gateway, 6)
        authority.sign("gateway")
        assert (await asyncio.to_thread(receiver.last)).resource_metrics
        await asyncio.to_thread(traces.until, lambda: traces.named("deployment of web"))
        assert gateway.stop() == 0


async def test_a_supervised_gateway_whose_certificate_has_expired_goes_on_without_pushing(
    launch: Launch, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    receiver = Receiver()
    with receiving(receiver, server(authority, clients=True)) as port:
        gateway = launch(telemetry_signals="metrics", **over(authority, port))
        await until_failing(gateway, 3)
        assert gateway.stop() == 0
    assert receiver.calls == 0
    told = [line for line in gateway.log.read_text().splitlines() if "expired on 20" in line]
    assert len(told) == 1
    assert len(complaints(gateway)) == 1
