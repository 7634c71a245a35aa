"""The options of telemetry and the variables beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from services.common.config.settings import arguments, handed, variables
from services.common.errors import SettingsError
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.telemetry_settings import SIGNALS
from tests.support.authority import Authority, openssl

NONE: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* variable of whoever runs the tests."""
    without_otel(monkeypatch)


def without_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("words", "signals"),
    [
        ("metrics", {"metrics"}),
        ("traces", {"traces"}),
        ("metrics,traces", {"metrics", "traces"}),
        (" traces ,\tmetrics ", {"metrics", "traces"}),
        ("metrics,metrics", {"metrics"}),
        ("true", {"metrics", "traces"}),
        ("1", {"metrics", "traces"}),
        ("false", NONE),
        ("", NONE),
    ],
)
def test_signals_are_named_by_words(words: str, signals: set[str]) -> None:
    settings = GatewaySettings(telemetry_signals=words)
    assert settings.signals == signals
    assert settings.telemetry_enabled == ("metrics" in signals)


@pytest.mark.parametrize("words", ["metrix", "metrics,trace", "metrics,", ",", "metrics traces", "logs", "true,x"])
def test_a_word_that_is_no_signal_is_refused_in_one_line(words: str) -> None:
    with pytest.raises(SettingsError, match="is not a signal; use metrics, traces or both") as refusal:
        GatewaySettings(telemetry_signals=words)
    assert "--telemetry-signals" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_without_words_everything_is_measured_as_soon_as_telemetry_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GatewaySettings().signals == NONE
    assert GatewaySettings(telemetry=True).signals == set(SIGNALS)
    assert GatewaySettings(otlp_endpoint="localhost:4317").signals == set(SIGNALS)
    assert GatewaySettings(telemetry=True, telemetry_signals="traces").signals == {"traces"}
    assert GatewaySettings(telemetry=True, telemetry_signals="false").signals == set(SIGNALS)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4317")
    settings = GatewaySettings()
    assert settings.signals == set(SIGNALS)
    assert (settings.pushes("traces"), settings.pushes("metrics")) == (True, False)


@pytest.mark.parametrize(
    ("option", "variable", "insecure"),
    [
        ({}, {}, False),
        ({"otlp_insecure": True}, {}, True),
        ({}, {"OTEL_EXPORTER_OTLP_INSECURE": "true"}, True),
        ({}, {"OTEL_EXPORTER_OTLP_METRICS_INSECURE": "TRUE"}, True),
        ({}, {"OTEL_EXPORTER_OTLP_INSECURE": "false"}, False),
        ({"otlp_endpoint": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, True),
        ({"otlp_endpoint": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://localhost:4317"}, False),
        (
            {"otlp_endpoint": ""},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://localhost:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"},
            False,
        ),
        ({"otlp_endpoint": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"}, False),
    ],
)
def test_tls_is_used_unless_it_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, option: dict[str, object], variable: dict[str, str], insecure: bool
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    settings = GatewaySettings(**{"otlp_endpoint": "localhost:4317", **option})  # type: ignore[arg-type]  # by name
    assert settings.pushes("metrics")
    assert settings.is_insecure("metrics") == insecure


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("authorization", "write NAME=VALUE"),
        ("=secret", "write NAME=VALUE"),
        ("a b=secret", "write NAME=VALUE"),
        ("ü=secret", "write NAME=VALUE"),
        ("grpc-timeout=secret", "gRPC keeps"),
        ("token-bin=secret", "gRPC keeps"),
        ("x-name=", "is empty"),
        ("x-name=secret%0Ax-other=1", "not plain ASCII"),
        ("x-name=secret\u00e9", "not plain ASCII"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_in_one_line_that_does_not_show_it(header: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint) as refusal:
        GatewaySettings(otlp_header=[header])
    assert "--otlp-header" in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("signal", ["", "METRICS_", "TRACES_"])
@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ("secret", "write NAME=VALUE"),
        ("x=1,secret", "write NAME=VALUE"),
        ("a b=secret", "write NAME=VALUE"),
        ("grpc-timeout=secret", "gRPC keeps"),
        ("x-name=secret%0Ax-other=1", "not plain ASCII"),
    ],
)
def test_headers_of_a_variable_that_cannot_be_sent_are_refused_by_its_name_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, headers: str, hint: str, signal: str
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", headers)
    with pytest.raises(SettingsError, match=hint) as refusal:
        GatewaySettings(otlp_endpoint="localhost:4317")
    assert str(refusal.value).startswith("OTEL_EXPORTER_OTLP_")
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_headers_of_the_option_come_before_those_of_a_signal_and_these_before_those_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", " X-All = a%20b ,, y=1=2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-own=2")
    settings = GatewaySettings(otlp_endpoint="localhost:4317")
    assert settings.headers("metrics") == [("x-all", "a b"), ("y", "1=2")]
    assert settings.headers("traces") == [("x-own", "2")]
    assert GatewaySettings(otlp_endpoint="localhost:4317", otlp_header=["x=3"]).headers("traces") == [("x", "3")]


def test_headers_go_to_the_service_in_a_variable_and_not_on_the_command_line() -> None:
    settings = GatewaySettings(otlp_header=["authorization=Basic a b", "x=1"])
    assert arguments(settings) == []
    passed = handed(variables(settings))["otlp_header"]
    assert GatewaySettings(otlp_header=passed).headers("metrics") == [("authorization", "Basic a b"), ("x", "1")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://localhost:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://local host:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
    ],
)
def test_a_standard_variable_that_cannot_be_followed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as refusal:
        GatewaySettings(otlp_endpoint="localhost:4317")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_an_interval_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError, match="--otlp-interval"):
        GatewaySettings(otlp_interval=seconds)


def test_plain_text_has_no_certificates_and_a_certificate_has_a_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--otlp-insecure and --otlp-ca: .*give one of them"):
        GatewaySettings(otlp_endpoint="localhost:4317", otlp_insecure=True, otlp_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(SettingsError, match="--otlp-key is missing"):
        GatewaySettings(otlp_endpoint="localhost:4317", otlp_cert="a.pem")
    with pytest.raises(SettingsError, match="--otlp-cert is missing"):
        GatewaySettings(otlp_endpoint="localhost:4317", otlp_key="a.key")


def test_files_that_cannot_be_used_are_one_line_each(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    certificate, key = authority.sign("gateway")
    _, foreign = other.sign("gateway")
    encrypted, garbage = tmp_path / "encrypted.key", tmp_path / "garbage.pem"
    openssl("rsa", "-aes128", "-passout", "pass:secret", "-in", str(key), "-out", str(encrypted))
    garbage.write_bytes(b"\xff no certificate")
    ca = str(authority.certificate)
    for files, problem in (
        ((str(tmp_path / "away.pem"), "", ""), "away.pem: No such file"),
        ((str(tmp_path), "", ""), "Is a directory"),
        ((str(garbage), "", ""), "garbage.pem: no certificate in PEM form"),
        ((ca, str(garbage), str(key)), "garbage.pem: no certificate in PEM form"),
        ((ca, str(certificate), str(tmp_path / "away.key")), "away.key: No such file"),
        ((ca, str(certificate), str(foreign)), "not the one of the key"),
        ((ca, str(certificate), str(encrypted)), "must not be encrypted"),
    ):
        with pytest.raises(SettingsError, match=problem) as refusal:
            GatewaySettings(otlp_endpoint="localhost:4317", otlp_ca=files[0], otlp_cert=files[1], otlp_key=files[2])
        assert "\n" not in str(refusal.value)
    GatewaySettings(otlp_endpoint="localhost:4317", otlp_ca=ca, otlp_cert=str(certificate), otlp_key=str(key))


def test_a_bundle_is_over_when_its_last_authority_is_and_a_chain_with_its_first_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    over, key = authority.sign("over", "-days", "-1")
    valid, _ = authority.sign("valid")
    bundle, chain = tmp_path / "bundle.pem", tmp_path / "chain.pem"
    bundle.write_text(over.read_text() + authority.certificate.read_text())
    chain.write_text(over.read_text() + valid.read_text())
    settings = GatewaySettings(
        otlp_endpoint="localhost:4317", otlp_ca=str(bundle), otlp_cert=str(chain), otlp_key=str(key)
    )
    files = settings.certificates("metrics")
    assert [problem.partition(" ")[0] for problem in files.expired(time.time())] == [str(chain)]
    assert len(list(files.expired(time.time() + 3 * 86400))) == 2
    assert list(files.expired(time.time() - 10 * 86400)) == []
