"""Settings become a command line and come back from it the same."""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.bus.settings import BusSettings
from services.cli.options import build, command, fields_of
from services.client.client import Target
from services.common.config.settings import SECRET, Settings, arguments, check_name, default_state_dir, variables
from services.common.errors import PortTakenError, SettingsError
from services.common.process import ports
from services.common.process.state_lock import lock
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings

SAMPLES: list[Settings] = [
    DeployerSettings(app="web", port=["8080", "8081"], replicas=3, stop_containers=True, drain_time=0.5),
    HealthSettings(host="a.b", nats_url=["nats://one:4222", "nats://two:4222"], log_format="json"),
    GatewaySettings(telemetry=True, otlp_endpoint="collector:4317", state_dir="/a b"),
]


@pytest.mark.parametrize("settings", SAMPLES, ids=lambda settings: type(settings).__name__)
def test_settings_survive_the_command_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Settings] = []
    app = typer.Typer()

    @command(app, "run", type(settings))
    def run(values: dict[str, Any]) -> None:
        parsed.append(build(type(settings), values))

    result = CliRunner().invoke(app, arguments(settings), env=variables(settings))
    assert result.exit_code == 0, result.output
    assert parsed == [settings]


@pytest.mark.parametrize("kind", [DeployerSettings, HealthSettings, GatewaySettings, ProxySettings, BusSettings])
def test_a_relative_state_directory_is_one_of_the_folder_that_the_command_was_given_in(
    kind: type[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build(kind, {"state_dir": "st"}).state_dir == str(tmp_path / "st")


def test_a_relative_xdg_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    for relative in ("", "st", "./st"):
        monkeypatch.setenv("XDG_STATE_HOME", relative)
        assert default_state_dir() == "/home/ann/.local/state/longshore"
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert default_state_dir() == "/srv/state/longshore"


def test_a_flag_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_REPLICAS", "5")
    monkeypatch.setenv("LONGSHORE_PORT", "8080 8081")
    parsed: list[DeployerSettings] = []
    app = typer.Typer()

    @command(app, "run", DeployerSettings)
    def run(values: dict[str, Any]) -> None:
        parsed.append(build(DeployerSettings, values))

    assert CliRunner().invoke(app, []).exit_code == 0
    assert CliRunner().invoke(app, ["--replicas", "2"]).exit_code == 0
    assert [one.replicas for one in parsed] == [5, 2]
    assert parsed[0].port == ["8080", "8081"]


def test_what_may_hold_secrets_is_not_on_the_command_line_and_still_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DeployerSettings(
        app="web",
        runtime="docker",
        notify=["slack://token", "webhook+https://host/token?a=b"],
        docker_args=["-e", "TOKEN=two words,\ta tab\nand a line", "--env=B=%20", "-e", "C=[]"],
        cmd=["serve", "--password= secret "],
        before_deploy="curl -H 'token: x'",
    )
    assert arguments(settings) == arguments(DeployerSettings(app="web", runtime="docker"))
    parsed: list[Settings] = []
    app = typer.Typer()

    @command(app, "run", DeployerSettings)
    def run(values: dict[str, Any]) -> None:
        parsed.append(build(DeployerSettings, values))

    assert CliRunner().invoke(app, arguments(settings), env=variables(settings)).exit_code == 0
    assert parsed == [settings]
    assert variables(HealthSettings()) == variables(DeployerSettings()) == {}


KNOWN = {
    *(
        "app",
        "registry",
        "port",
        "runtime",
        "strategy",
        "health_path",
        "dial",
        "docker_host",
        "pass_env",
        "drain_signal",
        "after",
        "bind",
        "secret",  # names of files
    ),
    *(
        "listen",
        "balance",
        "telemetry_signals",
        "otlp_endpoint",
        "otlp_compression",
        "otlp_temporality",
        "otlp_interval",
    ),
    *("admin_address", "state_dir", "nats_user", "max_age", "max_bytes", "nats_server", "host"),
    *("log_format", "log_level"),
}
"""Options whose values are texts and no secrets, besides the paths of files."""


def test_of_each_option_that_is_a_text_it_is_known_whether_it_may_be_secret() -> None:
    files = ("_file", "_ca", "_cert", "_key", "_creds")
    texts = {
        name
        for name, field in fields_of(*(type(one) for one in SAMPLES), BusSettings, ProxySettings).items()
        if field.type not in (int, float, bool) and not name.endswith(files)
    }
    assert texts - set(SECRET) == KNOWN


def test_a_variable_that_is_for_services_alone_is_refused_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_HANDED_OPTIONS", "notify=secret")
    with pytest.raises(SettingsError, match="LONGSHORE_HANDED_OPTIONS: is set for a service by its supervisor alone"):
        build(DeployerSettings, {})


def test_every_option_has_a_help_text_and_a_panel() -> None:
    kinds = (DeployerSettings, HealthSettings, GatewaySettings, BusSettings, ProxySettings, Target)
    assert all(field.option.help.endswith(".") and field.option.panel for field in fields_of(*kinds).values())


@pytest.mark.parametrize("name", ["web", "a", "web-2", "A1"])
def test_a_good_name_is_taken(name: str) -> None:
    check_name("--app", name)


@pytest.mark.parametrize("name", ["", "-web", "a.b", "a b", "a*", "ä", "x" * 64, "a\n"])
def test_a_name_that_no_subject_can_hold_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="--app"):
        check_name("--app", name)


def test_a_lock_is_held_on_a_disk_that_takes_no_byte(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with (
            lock(str(tmp_path), "supervisor"),
            pytest.raises(SettingsError, match="in use by process unknown"),
            lock(str(tmp_path), "supervisor"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_free_port_is_free_and_a_taken_one_tells_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"--port {port}: taken by .* \(process \d+\)"):
            ports.check_free("--port", port)
    ports.check_free("--port", port)
