"""longshore.toml: what it sets, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.config import defaults
from services.cli.options import COMMANDS, fields_of
from services.common.config.settings import Settings
from services.common.errors import SettingsError
from services.deployer.settings import DeployerSettings

FIELDS = {"server": fields_of(DeployerSettings), "status": fields_of(Settings)}


def _defaults(tmp_path: Path, text: str) -> dict[str, dict[str, object]]:
    file = tmp_path / "longshore.toml"
    file.write_text(text)
    return defaults(str(file), FIELDS)


def test_a_key_at_the_top_is_for_every_command_that_has_the_option(tmp_path: Path) -> None:
    found = _defaults(tmp_path, 'log-format = "json"\nreplicas = 3\n')
    assert found == {"server": {"log_format": "json", "replicas": 3}, "status": {"log_format": "json"}}


def test_a_table_of_a_command_wins_over_the_top(tmp_path: Path) -> None:
    found = _defaults(tmp_path, "replicas = 3\n[server]\nreplicas = 2\nport = [8080, '8081']\n")
    assert found["server"] == {"replicas": 2, "port": ["8080", "8081"]}


def test_a_table_of_variables_is_their_list(tmp_path: Path) -> None:
    found = _defaults(tmp_path, "[server]\nsecret = ['A=/b']\n[server.env]\nMODE = 'x=y'\nLEVEL = 3\n")
    assert found["server"] == {"secret": ["A=/b"], "env": ["MODE=x=y", "LEVEL=3"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server.env]\nMODE = true", "longshore.toml: env: Expected array, got object"),
        ("replicas = ", "longshore.toml: Invalid value (at end of document)"),
        ("\nreplica = 3", "longshore.toml line 2: replica: no command has this option"),
        ("[serve]\n", "longshore.toml line 1: serve: no such command"),
        ("[status]\nreplicas = 3", "longshore.toml line 2: replicas: `longshore status` has no such option"),
        ("[server]\nreplicas = 'two'", "longshore.toml line 2: replicas: Expected int, got str"),
        ("[server]\nport = 8080", "longshore.toml line 2: port: Expected array, got int"),
        ("replicas = 2\n[server]\nreplicas = 'two'", "longshore.toml line 3: replicas: Expected int"),
        ("server = {replicas = 'two'}", "longshore.toml: replicas: Expected int, got str"),
        ("log-level = 'loud'", "longshore.toml line 1: log-level: Invalid enum value 'loud'"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _defaults(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_file_must_exist_and_the_usual_one_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert defaults("", FIELDS) == {}
    with pytest.raises(SettingsError, match="No such file"):
        defaults("missing.toml", FIELDS)


def test_an_unreadable_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not valid UTF-8; save it as UTF-8"):
        defaults(str(file), COMMANDS)
