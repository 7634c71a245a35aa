"""What a process hands to those that it starts."""

from __future__ import annotations

import os

import pytest

from services.common.errors import SettingsError
from services.common.process.environment import own, usual, withheld
from services.deployer.settings import DeployerSettings
from services.supervisor.service import child_environment

BASE = {
    "PATH": "/bin",
    "LC_TIME": "C",
    "https_proxy": "http://proxy:3128",
    "PYTHONPATH": "/lib",
    "GITHUB_TOKEN": "1",
    "OTEL_EXPORTER_OTLP_HEADERS": "2",
    "NOTIFY_SOCKET": "3",
    "LISTEN_FDS": "4",
    "LONGSHORE_REGISTRY_PASSWORD": "5",
    "LONGSHORE_NOTIFY_SECRET": "6",
    "LONGSHORE_NATS_PASSWORD": "7",
    "DATABASE_URL": "8",
}
USUAL = {"PATH", "LC_TIME", "https_proxy"}


def test_only_the_usual_variables_and_those_that_are_named_are_passed_on() -> None:
    assert set(usual(BASE)) == USUAL
    assert set(usual(BASE, ["DATABASE_URL", "LONGSHORE_NATS_PASSWORD", "ABSENT"])) == {*USUAL, "DATABASE_URL"}
    assert set(own(BASE)) == {*USUAL, "PYTHONPATH"}
    assert withheld(BASE, ["DATABASE_URL"]) == [
        *("GITHUB_TOKEN", "LISTEN_FDS", "NOTIFY_SOCKET", "OTEL_EXPORTER_OTLP_HEADERS", "PYTHONPATH")
    ]


@pytest.mark.parametrize(
    ("service", "more"),
    [
        ("proxy", {"PYTHONPATH"}),
        ("health", {"PYTHONPATH"}),
        ("gateway", {"PYTHONPATH", "OTEL_EXPORTER_OTLP_HEADERS"}),
        ("deployer", BASE.keys() - {"NOTIFY_SOCKET", "LISTEN_FDS", "LONGSHORE_NATS_PASSWORD"}),
    ],
)
def test_a_service_gets_what_it_needs(service: str, more: set[str]) -> None:
    found = child_environment(service, BASE, [])
    assert found.pop("LONGSHORE_CONFIG") == os.devnull
    assert found.pop("LONGSHORE_SUPERVISED")
    assert set(found) == USUAL | set(more)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("TOKEN=hunter2", "use names of variables alone"),
        ("", "use names of variables alone"),
        ("LONGSHORE_NATS_URL", "are Longshore's own and are not passed on"),
    ],
)
def test_what_is_no_name_of_a_variable_is_refused_without_its_value(name: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"--pass-env.*{problem}") as refused:
        DeployerSettings(pass_env=["GOOD", name])
    assert "hunter2" not in str(refused.value)
