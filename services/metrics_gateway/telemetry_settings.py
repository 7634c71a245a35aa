"""The options of telemetry: the signals to measure, and the endpoint to push them to.

OTEL_* variables apply where an option is not given. Nothing here loads an exporter.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec

from services.common.config import certificates
from services.common.config.option import Option
from services.common.config.settings import Settings, check_positive
from services.common.errors import ExpiredError, SettingsError
from services.metrics_gateway.telemetry_endpoint import Endpoint, parse, parse_target

Signal = Literal["metrics", "traces"]
SIGNALS: tuple[Signal, ...] = ("metrics", "traces")

SIGNAL_VARIABLES = ("LONGSHORE_TELEMETRY_SIGNALS", "LONGSHORE_TELEMETRY", "SCOTTY__TELEMETRY")
"""The first of these that is set names the signals, unless --telemetry-signals does.

The last is the variable of Scotty, a platform that takes the same values: who comes from there keeps their settings.
"""

TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"

_YES = ("true", "yes", "on", "1", "t", "y")
_NO = ("false", "no", "off", "0", "f", "n", "")
_HEADER = re.compile(r"[a-z0-9_.-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


class TelemetrySettings(Settings, frozen=True, kw_only=True):
    """The signals to measure, and the endpoint to push them to.

    `otlp_interval` is in seconds. None leaves a choice to OTEL_* variables. `otlp_header` holds NAME=VALUE, the value
    percent-encoded where needed.
    """

    telemetry: Annotated[
        bool, Option("Serve Prometheus metrics at /metrics on the admin port.", "Telemetry", variables=())
    ] = False
    telemetry_signals: Annotated[
        str,
        Option(
            "Signals to produce: metrics, traces, or both with a comma. Switches telemetry on.",
            "Telemetry",
            variables=SIGNAL_VARIABLES,
        ),
    ] = ""
    otlp_endpoint: Annotated[
        str, Option("host:port of an OpenTelemetry collector (gRPC). Switches telemetry on.", "Telemetry")
    ] = ""
    otlp_insecure: Annotated[bool, Option("Connect to the collector in plain text instead of TLS.", "Telemetry")] = (
        False
    )
    otlp_ca: Annotated[str, Option("File with the CA certificate of the collector, in PEM form.", "Telemetry")] = ""
    otlp_cert: Annotated[
        str, Option("File with the client certificate for the collector, in PEM form.", "Telemetry")
    ] = ""
    otlp_key: Annotated[str, Option("File with the key of that certificate.", "Telemetry")] = ""
    otlp_header: Annotated[
        list[str],
        Option(
            "NAME=VALUE to send with each push, the value percent-encoded. Repeatable; prefer the variable.",
            "Telemetry",
        ),
    ] = msgspec.field(default_factory=list)
    otlp_compression: Annotated[
        Literal["gzip", "none"] | None,
        Option("Compression of the pushes.", "Telemetry", shown_default="$OTEL_EXPORTER_OTLP_COMPRESSION, else none"),
    ] = None
    otlp_temporality: Annotated[
        Literal["cumulative", "delta"] | None,
        Option(
            "Temporality of sums: the total, or the increase since the last push.",
            "Telemetry",
            shown_default="$OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, else cumulative",
        ),
    ] = None
    otlp_interval: Annotated[
        float | None,
        Option("Seconds between two pushes.", "Telemetry", shown_default="$OTEL_METRIC_EXPORT_INTERVAL, else 60"),
    ] = None

    def __post_init__(self) -> None:
        parse_signals(self.telemetry_signals)
        if self.otlp_endpoint:
            parse_target("--otlp-endpoint", self.otlp_endpoint)
        if self.otlp_interval is not None:
            check_positive("--otlp-interval", self.otlp_interval)
        for text in self.otlp_header:
            parse_header(text)
        self._check_transport()
        for signal in SIGNALS:
            if self.is_asked and self._is_wanted(signal):
                self.check(signal)

    @property
    def is_asked(self) -> bool:
        """True if an option asks for telemetry. Variables alone may be meant for the application."""
        named = parse_signals(self.telemetry_signals) is not None
        files = self.otlp_ca or self.otlp_cert or self.otlp_key
        choices = (self.otlp_compression, self.otlp_temporality, self.otlp_interval)
        given = self.otlp_endpoint or self.otlp_insecure or files or self.otlp_header
        return self.telemetry or named or bool(given) or any(one is not None for one in choices)

    def check(self, signal: Signal) -> None:
        """Raise SettingsError for a reason that keeps a signal from being pushed."""
        check_variables(signal)
        self.headers(signal)
        self.certificates(signal).check()

    def problem(self, signal: Signal) -> str:
        """Return why a signal that only variables ask for cannot be pushed; empty if it can, or is not wanted."""
        if not self.is_asked and self._is_wanted(signal):
            try:
                self.check(signal)
            except SettingsError as error:
                return str(error)
        return ""

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals to measure. Named signals, an endpoint, or --telemetry alone switch them on."""
        named = parse_signals(self.telemetry_signals)
        if named is not None:
            return named
        is_on = self.telemetry or any(self._has_endpoint(signal) for signal in SIGNALS)
        return frozenset(SIGNALS if is_on else ())

    @property
    def telemetry_enabled(self) -> bool:
        """True if metrics are measured, and can be scraped."""
        return "metrics" in self.signals

    def endpoint(self, signal: Signal) -> Endpoint | None:
        """Return where a signal is pushed to, None for nowhere. Raises SettingsError for an invalid variable."""
        if self.otlp_endpoint:
            return Endpoint(self.otlp_endpoint)
        text = variable(signal, "ENDPOINT")
        return parse(variable_name(signal, "ENDPOINT"), text) if text else None

    def pushes(self, signal: Signal) -> bool:
        """Return whether a signal is pushed."""
        return self._is_wanted(signal) and not self.problem(signal)

    def _is_wanted(self, signal: Signal) -> bool:
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return False
        exporters = [word.strip() for word in (os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") or "otlp").split(",")]
        return signal in self.signals and self._has_endpoint(signal) and "otlp" in exporters

    def _has_endpoint(self, signal: Signal) -> bool:
        return bool(self.otlp_endpoint or variable(signal, "ENDPOINT"))

    def is_insecure(self, signal: Signal) -> bool:
        """Return whether a signal is pushed in plain text: by the scheme of a URL, else by option or variable."""
        endpoint = self.endpoint(signal)
        if endpoint and endpoint.is_secure is not None:
            return not endpoint.is_secure
        return self.otlp_insecure or variable(signal, "INSECURE").strip().lower() == "true"

    def timeout(self, signal: Signal) -> float | None:
        """Return the seconds after which a push fails, None if no variable is set. Raises SettingsError."""
        text = variable(signal, "TIMEOUT")
        return _milliseconds(variable_name(signal, "TIMEOUT"), text) if text else None

    def certificates(self, signal: Signal) -> certificates.Certificates:
        """Return the files for TLS; none without TLS."""
        if self.is_insecure(signal):
            return certificates.Certificates()
        return certificates.Certificates(
            self.otlp_ca or variable(signal, "CERTIFICATE"),
            self.otlp_cert or variable(signal, "CLIENT_CERTIFICATE"),
            self.otlp_key or variable(signal, "CLIENT_KEY"),
        )

    def expired(self, now: float) -> list[str]:
        """Return the certificates in use that have expired at `now` (unix seconds), each in words."""
        used = [self.certificates(signal) for signal in SIGNALS if self.pushes(signal)]
        return list(dict.fromkeys(problem for files in used for problem in files.expired(now)))

    def check_dates(self, now: float) -> None:
        """Raise ExpiredError for a certificate that options name and that has expired at `now` (unix seconds)."""
        for problem in self.expired(now) if self.is_asked else ():
            raise ExpiredError(f"certificate {problem}: renew it, or omit the OTLP endpoint to push nothing")

    def headers(self, signal: Signal) -> list[tuple[str, str]]:
        """Return the headers of each push of a signal. Raises SettingsError for an invalid variable."""
        if self.otlp_header:
            return [parse_header(text) for text in self.otlp_header]
        given = variable(signal, "HEADERS").split(",")
        return [parse_header(text, variable_name(signal, "HEADERS")) for text in given if text.strip()]

    def _check_transport(self) -> None:
        files = {"--otlp-ca": self.otlp_ca, "--otlp-cert": self.otlp_cert, "--otlp-key": self.otlp_key}
        given = [option for option, file in files.items() if file]
        if given and self.otlp_insecure:
            raise SettingsError(f"--otlp-insecure and {given[0]}: plain text has no certificates; give one of them")
        if bool(self.otlp_cert) != bool(self.otlp_key):
            missing = "--otlp-cert" if self.otlp_key else "--otlp-key"
            raise SettingsError(f"{missing} is missing: give both --otlp-cert and --otlp-key, or neither")


def variable(signal: Signal, name: str) -> str:
    """Return the value of a standard variable for a signal, or for all of them."""
    return os.environ.get(variable_name(signal, name), "").strip()


def variable_name(signal: Signal, name: str) -> str:
    """Return the standard variable that applies to a signal: its own if that is not empty."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
    return own if os.environ.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{name}"


def parse_signals(text: str) -> frozenset[Signal] | None:
    """Return the named signals, None if none are named. Raises SettingsError."""
    words = [word.strip() for word in text.split(",")]
    if words[0].lower() in _NO and len(words) == 1:
        return None
    if words[0].lower() in _YES and len(words) == 1:
        return frozenset(SIGNALS)
    unknown = next((word for word in words if word not in SIGNALS), None)
    if unknown is not None:
        raise SettingsError(f"{_said(text)} {text!r}: {unknown!r} is not a signal; use metrics, traces or both")
    return frozenset(signal for signal in SIGNALS if signal in words)


def _said(signals: str) -> str:
    """Return the source of these signals: a variable with this value, or the option."""
    return next((name for name in SIGNAL_VARIABLES if os.environ.get(name) == signals), "--telemetry-signals")


def parse_header(text: str, given: str = "--otlp-header") -> tuple[str, str]:
    """Return name and value of a header. Raises SettingsError without the value, which may be a secret."""
    name, separator, value = text.partition("=")
    name, value = name.strip().lower(), unquote(value.strip())
    if not separator or not _HEADER.fullmatch(name):
        raise SettingsError(f"{given}: write NAME=VALUE, such as authorization=Bearer%20TOKEN (not shown here)")
    if name.startswith("grpc-") or name.endswith("-bin"):
        raise SettingsError(f"{given} {name}: gRPC reserves grpc-…, and …-bin for binary values; use another name")
    if not _PRINTABLE.fullmatch(value):
        raise SettingsError(f"{given} {name}: the value is empty or not plain ASCII (it is not shown here)")
    return name, value


def check_variables(signal: Signal) -> None:
    """Raise SettingsError for a standard variable with a value that Longshore cannot use."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if endpoint := os.environ.get(name, "").strip():
            parse(name, endpoint)
    for name, known in {"PROTOCOL": ("grpc",), "COMPRESSION": ("gzip", "none")}.items():
        value = variable(signal, name).strip().lower()
        if value and value not in known:
            raise SettingsError(f"{variable_name(signal, name)}={value}: use {' or '.join(known)}")
    temporality = os.environ.get(TEMPORALITY, "").strip().lower()
    if temporality not in ("", "cumulative", "delta", "lowmemory"):
        raise SettingsError(f"{TEMPORALITY}={temporality}: use cumulative, delta or lowmemory")
    if timeout := variable(signal, "TIMEOUT"):
        _milliseconds(variable_name(signal, "TIMEOUT"), timeout)


def _milliseconds(name: str, text: str) -> float:
    """Return the duration in seconds. Raises SettingsError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"{name}={text}: use a number of milliseconds above 0")
    return value / 1000
