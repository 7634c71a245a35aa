"""The variables that the settings give to replicas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.config.settings import arguments, variables
from services.common.errors import ReleaseError, SettingsError
from services.deployer.runtime.options import fingerprint
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.settings import DeployerSettings
from services.deployer.variables.variable_files import Variables
from tests.deployer.runtime.process_host import Host
from tests.deployer.waiting import eventually
from tests.support.releases import PYTHON

SECRET = "correct horse battery"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_secret_wins_over_a_variable_and_that_over_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "env", "\ufeff# comment\nA=file\n  B=file\nC=file\nE= spaces = stay \nF=\n")
    secret = write(tmp_path / "secret", f"{SECRET}\n")
    found = Variables(["B=option", "C=option"], [file], [f"C={secret}", f"D={secret}"])
    assert found.load() == {
        "A": "file",
        "B": "option",
        "C": SECRET,
        "D": SECRET,
        "E": " spaces = stay ",
        "F": "",
    }


@pytest.mark.parametrize(
    ("env", "secret", "problem"),
    [
        (["hunter2"], [], "--env: use NAME=VALUE"),
        (["a b=hunter2"], [], "--env: use NAME=VALUE"),
        (["PORT=hunter2"], [], "--env PORT: Longshore sets this variable itself"),
        (["LONGSHORE_APP=hunter2"], [], "--env LONGSHORE_APP: Longshore sets this variable itself"),
        ([], ["KEY="], "--secret: use NAME=FILE"),
        ([], ["/run/secrets/key"], "--secret: use NAME=FILE"),
    ],
)
def test_an_option_that_is_no_variable_is_refused_without_its_value(
    env: list[str], secret: list[str], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem) as error:
        DeployerSettings(env=env, secret=secret)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A=1\nhunter2\n", "--env-file {} line 2: use NAME=VALUE"),
        ("A=1\n\n2X=hunter2\n", "--env-file {} line 3: 2X use NAME=VALUE"),
        ("PORT=hunter2", "--env-file {} line 1: PORT: Longshore sets this variable itself"),
        ("A=hunter2\0", "--env-file {} line 1: A: holds a NUL character"),
        ("A=" + "hunter2" * 20000, "--env-file {} line 1: A: longer than 131072 bytes"),
    ],
)
def test_an_error_of_a_file_names_file_line_and_variable_and_no_value(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path / "env", text)
    with pytest.raises(ReleaseError) as error:
        Variables([], [file]).load()
    assert problem.format(file) in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named_with_its_option(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ReleaseError, match=f"--env-file {missing}: No such file or directory; create it"):
        Variables([], [str(missing)]).load()
    with pytest.raises(ReleaseError, match=f"--secret {missing}: No such file or directory; create it"):
        Variables([], [], [f"A={missing}"]).load()
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    with pytest.raises(ReleaseError, match="latin: not valid UTF-8"):
        Variables([], [str(tmp_path / "latin")]).load()


def test_no_value_is_on_a_command_line_and_only_the_deployer_gets_them() -> None:
    settings = DeployerSettings(env=[f"A={SECRET}"])
    assert not any(SECRET in word for word in arguments(settings))
    assert any(SECRET in value for value in variables(settings).values())


def test_secrets_are_hidden_whatever_their_name_and_variables_if_their_name_says_so(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", f"{SECRET}\nsecond line\nabc\n")
    found = Variables(["MODE=production", "API_TOKEN=abcdef"], [], [f"PLAIN={secret}"])
    assert found.hidden() == {SECRET, "second line", "abcdef"}
    file = write(tmp_path / "env", "PASSWORD=in-a-file\n")
    one = Variables(["API_TOKEN=abcdef"], [file, str(tmp_path / "missing")], [f"PLAIN={secret}", "LOST=/missing"])
    assert one.hidden() == {SECRET, "second line", "abcdef", "in-a-file"}
    Path(secret).unlink()
    assert found.hidden() == {"abcdef"}


async def test_a_process_gets_its_variables_and_is_outdated_when_they_change(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FROM_FILE=1\n")
    secret = write(tmp_path / "secret", SECRET)
    chosen = Variables(["COLOUR=red", "PATH=/bin:/usr/bin"], [str(file)], [f"KEY={secret}"])

    def restarted(variables: Variables) -> None:
        host.runtime.close()
        host.runtime = ProcessRuntime(host.root, ["COLOUR"], variables=variables)
        host.runtime.on_exit = host.exits.put_nowait

    restarted(chosen)
    running = await host.start(
        PYTHON + "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(600)"
    )
    restarted(chosen)
    started_with = fingerprint(host.runtime.options())
    file.write_text("FROM_FILE=2\n")
    restarted(chosen)
    assert fingerprint(host.runtime.options()) != started_with
    assert [found.options for found in await host.runtime.adopt()] == [""]
    await eventually(lambda: "}" in host.folder().output.read_text())
    host.runtime.stop("web-1-0-x", 0.1)
    end = await host.exit()
    printed = json.loads(host.folder().output.read_text())
    assert (printed["COLOUR"], printed["FROM_FILE"], printed["KEY"]) == ("red", "1", SECRET)
    assert printed["PORT"] == str(running.port)
    assert SECRET not in end.output
    assert SECRET not in (host.folder().path / "replica.json").read_text()
