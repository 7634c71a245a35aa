"""What the pages about containers, registries and hooks say is what the code does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.deployer import registry
from services.deployer.hooks.hooks import HookContext
from services.deployer.runtime.docker import arguments
from services.deployer.settings import DeployerSettings

DOCS = Path(__file__).parents[2] / "docs"
LONGSHORE = str(Path(sys.executable).with_name("longshore"))


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(name: str, title: str) -> str:
    """A part of a page, from its heading to the next of that depth or less."""
    (_, text) = page(name).split(f"\n## {title}\n")
    return text.partition("\n## ")[0]


def block(text: str, language: str = "") -> str:
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def test_the_options_of_docker_run_that_are_listed_are_those_that_are_passed_on() -> None:
    rows = [line for line in section("containers", "Options of `docker run`").splitlines() if line.startswith("| ")]
    listed = {word for row in rows for word in re.findall(r"`(-[^`]+)`", row)}
    short = {f"-{letter}" for letter, name in arguments.SHORT.items() if name in arguments.OPTIONS}
    assert listed == short | {f"--{name}" for name in arguments.OPTIONS}


def test_every_registry_that_is_shown_can_be_written_so() -> None:
    lines = [line for line in block(section("registries", "Images")).splitlines() if line]
    urls = [url for line in lines for url in re.findall(r"img://[^ ]*[^ ,]", line)]
    assert len(urls) == len(lines) + 1
    for url in urls:
        assert registry.parse(url).url == url


def test_every_variable_of_hooks_is_told() -> None:
    told = set(re.findall(r"`LONGSHORE_([A-Z]+)`", section("hooks-and-notices", "Hooks").partition("**A before")[0]))
    assert told == {name.upper() for name in HookContext.__struct_fields__}


@pytest.mark.parametrize("name", ["pull_timeout", "keep_images", "hook_timeout"])
def test_defaults_that_are_told_are_true(name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    text = " ".join(page("hooks-and-notices" if name.startswith("hook") else "containers").split())
    (told,) = re.findall(rf"`{option}`[a-z ]* \(([0-9]+)(?: s)?\)", text)
    assert float(told) == getattr(DeployerSettings(), name)


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([], "-- --env-file {folder}/myapp.env: No such file or directory"),
        (["myapp.env"], "no container engine answers at unix://{folder}/none.sock"),
    ],
)
def test_the_first_command_of_the_page_is_taken_as_printed(tmp_path: Path, files: list[str], line: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    words = block(page("containers"), "sh").replace("\\\n", " ").replace("/etc/", f"{tmp_path}/").split()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}
    variables |= {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "LONGSHORE_STATE_DIR": str(tmp_path)}
    assert words[0] == "longshore"
    done = subprocess.run([LONGSHORE, *words[1:]], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 1
    assert line.format(folder=tmp_path) in done.stderr
