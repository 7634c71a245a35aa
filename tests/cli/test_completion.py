"""What a shell is offered: from the state directory alone, without a bus."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("longshore"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("completed")
    for name, release in (("web/web-1", "1.0.0"), ("web/web-2", "1.1.0"), ("shop/shop-1", "2.0.0"), ("web/odd", "")):
        folder = root / "replicas" / name
        folder.mkdir(parents=True)
        (folder / "replica.json").write_text(f'{{"release": "{release}"}}' if release else "damaged")
    (root / "replicas" / "web" / "web-1" / "forgotten").touch()
    return root


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("longshore status --app ", {"shop", "web"}),
        ("longshore drain --app web w", {"web-2"}),
        ("longshore drain s", {"shop-1"}),
        ("longshore deploy 1", {"1.0.0", "1.1.0"}),
        ("longshore rollback --app shop ", {"2.0.0"}),
        ("longshore diff 1.0.0 1.1", {"1.1.0"}),
        ("longshore hist", {"history"}),
    ],
)
def test_a_shell_is_offered_what_there_is(state: Path, line: str, offered: set[str]) -> None:
    words = line.split()
    variables = {
        **os.environ,
        "_LONGSHORE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - (not line.endswith(" "))),
        "LONGSHORE_STATE_DIR": str(state),
    }
    done = subprocess.run([PROGRAM], env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert set(done.stdout.split()) == offered, done.stderr
