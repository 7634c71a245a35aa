"""Endpoints, timeouts and other standard variables, as OpenTelemetry's specification has them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.common.errors import SettingsError
from services.metrics_gateway.export.otlp_channel import CertificateWatcher
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.telemetry_endpoint import Endpoint, parse
from services.metrics_gateway.telemetry_settings import SIGNALS
from tests.metrics_gateway.test_telemetry import without_otel
from tests.support.authority import Authority
from tests.support.gateway_process import Launch
from tests.support.metrics_receiver import Receiver, metrics, receiving

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
FAILED = 'longshore_otlp_exports_total{result="failure"}'


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* variable of whoever runs the tests."""
    without_otel(monkeypatch)


@pytest.mark.parametrize(
    ("text", "target", "is_secure"),
    [
        ("https://otlp.vendor.example", "otlp.vendor.example:443", True),
        ("https://otlp.vendor.example:", "otlp.vendor.example:443", True),
        ("https://otlp.vendor.example:4317/", "otlp.vendor.example:4317", True),
        ("HTTPS://Vendor.example/otlp/v1/metrics?x=1#y", "Vendor.example:443", True),
        ("http://collector", "collector:4317", False),
        ("http://127.0.0.1:4317/otlp", "127.0.0.1:4317", False),
        ("http://[::1]", "[::1]:4317", False),
        ("http://[::1]:4318?query", "[::1]:4318", False),
        (" collector:4317 ", "collector:4317", None),
    ],
)
def test_a_url_needs_no_port_and_its_path_is_ignored(text: str, target: str, is_secure: bool | None) -> None:
    assert parse(ENDPOINT, text) == Endpoint(target, is_secure)


@pytest.mark.parametrize(
    "text",
    [
        "collector",
        "ftp://collector:4317",
        "http://",
        "http:///v1/traces",
        "http://collector:99999",
        "http://collector:http",
        "http://col lector",
        "https://user:secret@collector:4317",
        "unix://secret@collector",
        "collector:0",
    ],
)
def test_what_names_no_place_is_one_line_without_what_may_be_secret(text: str) -> None:
    with pytest.raises(SettingsError, match=ENDPOINT) as refusal:
        parse(ENDPOINT, text)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("endpoint", "insecure", "is_insecure"),
    [
        ("http://collector", "false", True),
        ("https://collector", "true", False),
        ("collector:4317", "true", True),
        ("collector:4317", "", False),
    ],
)
def test_the_scheme_of_a_url_decides_whatever_the_other_variable_says(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, insecure: str, is_insecure: bool
) -> None:
    monkeypatch.setenv(ENDPOINT, endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", insecure)
    assert GatewaySettings().is_insecure("metrics") == is_insecure


def test_a_url_of_https_is_secure_with_the_option_for_plain_text_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "https://collector")
    assert not GatewaySettings(otlp_insecure=True).is_insecure("traces")


def test_a_timeout_is_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", " 2500 ")
    settings = GatewaySettings(otlp_endpoint="localhost:4317")
    assert (settings.timeout("metrics"), settings.timeout("traces")) == (10.0, 2.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///run/collector"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
    ],
)
def test_a_variable_that_is_there_for_the_application_costs_the_pushes_only(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(ENDPOINT, "https://collector:4317")
    monkeypatch.setenv(name, value)
    settings = GatewaySettings()
    assert not any(settings.pushes(signal) for signal in SIGNALS)
    problems = {settings.problem(signal) for signal in SIGNALS}
    assert len(problems) == 1
    assert "/nowhere/ca.pem" in str(problems) or name in str(problems)
    for asked in ({"telemetry": True}, {"telemetry_signals": "metrics"}, {"otlp_interval": 5.0}):
        with pytest.raises(SettingsError):
            GatewaySettings(**asked)


def test_a_certificate_that_only_a_variable_names_may_be_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.sign("over", "-days", "-1")
    monkeypatch.setenv(ENDPOINT, "https://collector")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(certificate))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(key))
    settings = GatewaySettings()
    settings.check_dates(time.time())
    assert settings.expired(time.time())


def test_a_signal_that_fits_is_pushed_beside_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://collector")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console, otlp")
    settings = GatewaySettings()
    assert (settings.pushes("metrics"), settings.pushes("traces")) == (True, False)


async def test_a_gateway_runs_with_one_warning_and_no_push(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        monkeypatch.setenv(ENDPOINT, f"http://localhost:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        gateway = launch(telemetry=False)
        await gateway.until("/metrics", lambda got: got.status_code == 200)
        assert gateway.stop() == 0
    log = gateway.log.read_text()
    assert log.count("pushes no telemetry") == log.count("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf") == 1
    assert receiver.calls == 0


async def test_a_path_and_empty_variables_change_nothing(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        monkeypatch.setenv(ENDPOINT, f"http://localhost:{port}/otlp")
        for name in ("TIMEOUT", "METRICS_TIMEOUT", "TRACES_TIMEOUT", "METRICS_ENDPOINT", "METRICS_COMPRESSION"):
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", "")
        launch(otlp_interval=0.2)
        assert metrics(receiver.last())


async def test_a_silent_receiver_is_given_up_after_the_timeout(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
    receiver = Receiver()
    receiver.mood = receiver.hang
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        await gateway.until("/metrics", lambda got: got.status_code == 200 and f"{FAILED} 0.0" not in got.text)


def test_a_certificate_that_is_being_replaced_is_noticed_and_not_an_error(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate.read_bytes())
    watcher = CertificateWatcher(GatewaySettings(otlp_endpoint="localhost:4317", otlp_ca=str(ca)), "metrics")
    assert not watcher.changed()
    ca.unlink()
    ca.symlink_to(ca)  # exists nowhere, and looking at it fails
    assert watcher.changed()
    ca.unlink()
    ca.write_bytes(authority.certificate.read_bytes())
    assert watcher.changed()
