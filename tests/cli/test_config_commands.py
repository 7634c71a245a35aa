"""`longshore config check` and `longshore config show`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.app import app
from services.cli.text.suggestions import did_you_mean

EXAMPLE = Path(__file__).parents[2] / "examples" / "longshore.toml"
MISTAKES = """\
log-levl = "info"
[servr]
[apps.web]
port = [1]
[app.web]
registry = "dir://FOLDER"
port = [8080]
replica = 2
[app.api]
registry = "img://localhost:5000/api"
port = [0]
[app.shop]
registry = "img://localhost:5000/shop"
port = [9090]

docker-args = ["--publish=80"]
"""


def run(*words: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["config", *words], env=dict(variables))


def test_the_example_has_no_mistake_where_its_folder_exists(tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_text(EXAMPLE.read_text().replace("dir:///srv/web", f"dir://{tmp_path}/srv"))
    done = run("check", str(file))
    srv = tmp_path / "srv"
    assert done.stderr == (
        f"{file} line 7: [app.web]: --registry dir://{srv}: {srv} does not exist; create it, or fix the path\n"
    )
    srv.mkdir()
    done = run("check", str(file))
    assert (done.exit_code, done.stdout) == (0, f"{file}: no mistake; applications: web, api\n")


def test_every_mistake_is_one_line_with_its_place_and_a_proposal(tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_text(MISTAKES.replace("FOLDER", str(tmp_path)))
    done = run("check", str(file))
    assert done.exit_code == 1
    lines = [line.removeprefix(f"{file} line ") for line in done.stderr.splitlines()]
    assert sorted(lines, key=lambda line: int(line.partition(":")[0])) == [
        "1: log-levl: no command has this option; did you mean log-level?",
        "2: servr: no such command; did you mean server?",
        "3: apps: no such command; write [app.NAME] for an application",
        "8: replica: `longshore up` has no such option; did you mean replicas?",
        "11: [app.api]: --port 0: a port is a number from 1 to 65535",
        "16: [app.shop]: -- --publish: ports come from the option --port",
    ]
    assert str(done.exception) == f"{file}: 6 mistakes; nothing was started"


@pytest.mark.parametrize(("name", "said"), [("replica", "; did you mean replicas?"), ("zebra", "")])
def test_a_name_is_proposed_when_one_is_like_it(name: str, said: str) -> None:
    assert did_you_mean(name, ["port", "replicas"]) == said


def test_show_says_where_each_value_comes_from_and_masks_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("longshore.toml").write_text(
        'drain-time = 5\n[server]\nreplicas = 3\nnotify = ["webhook+https://a:secret@b"]\n'
    )
    monkeypatch.setenv("LONGSHORE_INTERVAL", "7")
    done = run("show", "--all", "--json", "server", "--port", "8080")
    assert done.exit_code == 0, done.output
    found = {(one := json.loads(line))["option"]: (one["value"], one["from"]) for line in done.stdout.splitlines()}
    assert found["port"] == ("8080", "option")
    assert found["interval"] == ("7.0", "variable LONGSHORE_INTERVAL")
    assert found["replicas"] == ("3", "longshore.toml line 3")
    assert found["drain-time"] == ("5.0", "longshore.toml line 1")
    assert found["settle"] == ("3.0", "default")
    assert found["notify"][0] == "********"
    assert "a:secret" not in done.stdout


def test_show_lists_the_options_of_each_application() -> None:
    done = run("show", "--json", "up", "--file", str(EXAMPLE))
    assert done.exit_code == 0, done.output
    found = {(one := json.loads(line))["app"] + " " + one["option"]: one for line in done.stdout.splitlines()}
    assert found["web port"]["value"] == "8080"
    assert found["web port"]["from"].startswith(f"{EXAMPLE} line ")
    assert found["api docker-args"]["value"] == "********"


def test_show_has_the_runtime_with_which_each_application_runs() -> None:
    done = run("show", "--all", "--json", "up", "--file", str(EXAMPLE))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {one["app"]: (one["value"], one["from"]) for one in rows if one["app"] and one["option"] == "runtime"}
    assert found == {"web": ("process", "default"), "api": ("docker", "default")}


PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.mark.parametrize("command", re.findall(r"^longshore config (.+)$", PAGE.read_text(), re.MULTILINE))
def test_a_command_of_the_page_works_as_it_is_printed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("longshore.toml").write_text(EXAMPLE.read_text().replace("/srv/web", str(tmp_path)))
    done = run(*command.split())
    assert done.exit_code == 0, done.output
    assert done.stdout
