"""docs/operating.md: its files are accepted as printed; the program takes its commands, and prints its errors."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from services.cli.commands.all_in_one import APP
from services.cli.config import applications
from services.common.errors import ReleaseError
from services.deployer.settings import DeployerSettings
from services.deployer.variables.variable_files import Variables
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from tests.support.harness import LONGSHORE, clean_environment

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = [text for language, text in BLOCKS if language == "toml" and "registry" in text]
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.startswith(("longshore server", "longshore container"))
]


@pytest.mark.parametrize("text", FILES)
def test_a_file_of_the_page_is_accepted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_text(text.replace("/srv/web", str(tmp_path)))
    for table in applications(str(file), APP).values():
        DeployerSettings(**table).check_complete()


@pytest.mark.parametrize("command", [line for line in COMMANDS if "dir:///srv/web" in line])
def test_a_command_of_the_page_is_taken_up_to_the_files_that_this_host_lacks(command: str, tmp_path: Path) -> None:
    words = command.replace("dir:///srv/web", f"dir://{tmp_path}/missing").split()[1:]
    found = subprocess.run(
        [LONGSHORE, *words, "--state-dir", str(tmp_path / "state"), "--admin-port", "17539"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert f"{tmp_path}/missing does not exist" in found.stderr
    assert found.returncode == 2


def test_the_error_of_the_page_is_the_one_of_the_program(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^longshore: (--env-file .*)$", PAGE, re.MULTILINE)
    file = tmp_path / "web.env"
    file.write_text("A=1\nB=2\nC\n")
    with pytest.raises(ReleaseError) as error:
        Variables([], [str(file)]).load()
    assert str(error.value).replace(str(file), "/etc/longshore/web.env") == shown


def test_every_metric_of_the_page_exists() -> None:
    named = set(re.findall(r"\b(?:dewy|longshore)_[a-z_]+[a-z]\b", PAGE))
    known = {one.prometheus for one in INSTRUMENTS}
    assert {name for name in named if not any(one == name or one.startswith(name) for one in known)} == set()
