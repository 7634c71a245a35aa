"""The commands of docs/installing.md for systemd, in a root of its own, up to those of systemctl."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.install.building import copy_of_sources, printed_commands, run

SECTION = "As a service of systemd"
TOOLS = ("systemd-sysusers", "systemd-tmpfiles")


def in_root(root: Path) -> str:
    """The printed commands, with every absolute path and each of systemd's tools below `root`."""
    lines = [line for line in printed_commands(SECTION).splitlines() if not line.startswith("systemctl ")]
    script = "\n".join(lines).replace(" /etc/", f" {root}/etc/")
    for tool in TOOLS:
        script = script.replace(tool, f"{tool} --root={root}")
    # install(1) knows the groups of this machine only: the number is that of the root's own group.
    return script.replace("-g longshore", f"-g $(sed -n 's/^longshore:x:\\([0-9]*\\):.*/\\1/p' {root}/etc/group)")


def test_the_printed_commands_make_the_account_its_folders_and_units(tmp_path: Path) -> None:
    source, root = copy_of_sources(tmp_path / "clone"), tmp_path / "root"
    as_root = [] if os.getuid() == 0 else ["sudo", "--non-interactive"]
    run(*as_root, "sh", "-euc", in_root(root), directory=source)
    account = dict(line.split(":", 1) for line in (root / "etc/passwd").read_text().splitlines())["longshore"]
    number = int(account.split(":")[1])
    assert account.split(":")[4] == "/var/lib/longshore"
    found = {
        path: (stat.S_IMODE(status.st_mode), status.st_uid == number, status.st_gid == number)
        for path in ("etc/longshore", "etc/longshore/longshore.toml", "var/lib/longshore")
        if (status := (root / path).stat())
    }
    assert found == {
        "etc/longshore": (0o750, False, True),
        "etc/longshore/longshore.toml": (0o640, False, True),
        "var/lib/longshore": (0o700, True, True),
    }
    assert {file.name for file in (root / "etc/systemd/system").iterdir()} == {"longshore.service", "longshore.socket"}
