"""Options: what is refused, and how it says so."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from services.common.config.settings import arguments
from services.common.errors import LongshoreError, RegistryError, SettingsError
from services.deployer.service import check
from services.deployer.settings import DeployerSettings, Port, parse_port
from tests.support.releases import release


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app": "my app"}, "--app 'my app'"),
        ({"replicas": 0}, "--replicas 0: use 1 or more"),
        ({"rise": 0}, "--rise 0: use 1 or more"),
        ({"interval": 0.0}, "--interval 0: use a number above 0"),
        ({"interval": float("nan")}, "--interval nan"),
        ({"hook_timeout": 0.0}, "--hook-timeout 0: use a number above 0"),
        ({"drain_time": -1.0}, "--drain-time -1: use 0 or more seconds"),
        ({"health_path": "up"}, "--health-path 'up': must start with a slash, such as /up"),
        ({"health_path": "/a b"}, "--health-path '/a b': contains a blank"),
        ({"settle": 30.0}, "--settle 30: no replica could be ready within --health-timeout 30"),
        ({"port": ["http"]}, "--port 'http': use PORT or PROXY-PORT:REPLICA-PORT"),
        ({"port": ["80:90:100"]}, "--port '80:90:100'"),
        ({"port": ["-80"]}, "--port '-80'"),
        ({"port": ["0"]}, "--port 0: a port is a number from 1 to 65535"),
        ({"port": ["8080:65536"], "runtime": "docker"}, "--port 65536"),
        ({"port": ["8080", "8080"]}, "--port 8080: given twice"),
        ({"port": ["8080:3000"]}, "--port 8080:3000: a process gets its port in the variable PORT"),
        ({"registry": "/srv/app"}, "--registry '/srv/app': not a URL"),
        ({"registry": "s3://bucket"}, "unknown scheme 's3'; known is dir:///absolute/path"),
        ({"registry": "img://host.example/App"}, "repository 'App' must be in lower case"),
        ({"registry": "dir://srv/app"}, "the path must be absolute, after three slashes"),
        ({"registry": "dir://"}, "the path must be absolute"),
        ({"registry": "dir:///no/such/folder"}, "/no/such/folder does not exist; create it, or fix the path"),
        ({"registry": f"dir://{sys.executable}"}, "is not a folder"),
        ({"registry": "dir:///tmp?constraint=1"}, "the only option of a folder is ?pre-release=true or false"),
        ({"registry": "dir:///tmp?pre-release=yes"}, "the only option of a folder is ?pre-release=true or false"),
        ({"registry": "dir:///tmp?x"}, "malformed"),
        ({"registry": "dir:///tmp/a#b"}, "a # ends the path of a URL; write %23 for one in a folder's name"),
        ({"registry": f"dir:///tmp/{'a' * 300}"}, "cannot be read (File name too long); fix the path"),
        ({"registry": "dir:///tmp/a%0Ab"}, "contains unprintable characters; remove them"),
        ({"registry": "dir:///tm\np"}, "contains unprintable characters; remove them"),
        ({"registry": "dir:///tmp#"}, "a # ends the path of a URL"),
        ({"registry": "dir:///tmp?pre-release=true&pre-release=false"}, "an option is given twice"),
        ({"registry": "dir://[/tmp"}, "malformed"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        DeployerSettings(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ports_are_a_proxy_port_and_maybe_a_replica_port() -> None:
    assert parse_port("8080") == Port(8080)
    assert parse_port("8080:3000") == Port(8080, 3000)
    assert DeployerSettings(port=["80", "443"]).proxy_ports == [80, 443]


def test_the_defaults_make_settings_that_can_be_told_as_arguments(tmp_path: Path) -> None:
    settings = DeployerSettings(registry=f"dir://{tmp_path}", port=["80", "81"], stop_containers=True)
    assert arguments(DeployerSettings(state_dir=settings.state_dir)) == []
    assert shlex.join(arguments(settings)) == f"--registry=dir://{tmp_path} --port=80 --port=81 --stop-containers"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--registry is missing"),
        ({"registry": "dir:///tmp"}, "--port is missing"),
    ],
)
def test_what_only_a_running_deployer_needs_is_asked_for_when_it_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LongshoreError, match=message):
        check(DeployerSettings(**options))


def test_a_registry_without_a_release_is_refused_before_anything_starts(registry: Path, state_dir: Path) -> None:
    settings = DeployerSettings(registry=f"dir://{registry}", port=["8080"], state_dir=str(state_dir))
    release(registry, "1.0.0").joinpath("run").unlink()
    with pytest.raises(RegistryError, match="offers no release that can be started; put one there as VERSION/run"):
        check(settings)
    (state_dir / "replicas" / "app" / "app-1_0_0-0-x").mkdir(parents=True)
    check(settings)
