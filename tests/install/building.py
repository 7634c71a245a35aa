"""The sdist and the wheel of a copy of the sources, and programs that know nothing of this test's environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("longshore", "schemas", "services", "packaging", "examples")
FILES = ("LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "pyproject.toml", ".gitignore")
WHEEL = ("wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist")


def run(*words: str | Path, directory: Path, **variables: str) -> str:
    """Run a command in a directory, free of the paths and settings of this test, and return what it prints."""
    ours = ("PYTHON", "PYTEST", "LONGSHORE_", "PIP_", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        words, cwd=directory, env=environment | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_sources(folder: Path) -> Path:
    """Copy what an sdist is made of: a build leaves nothing in the repository."""
    folder.mkdir(exist_ok=True)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(source: Path, directory: Path) -> Path:
    """Build the wheel of a folder or an sdist without a package index."""
    run(sys.executable, "-m", "pip", *WHEEL, source, directory=directory)
    (file,) = (directory / "dist").glob("longshore-*.whl")
    return file


def build_sdist(source: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", directory=source)
    (file,) = (source / "dist").glob("longshore-*.tar.gz")
    return file


def printed_commands(section: str) -> str:
    """The commands that docs/installing.md shows in a section."""
    (_, text) = (ROOT / "docs" / "installing.md").read_text().split(f"\n## {section}\n")
    found = re.search(r"^```sh\n(.*?)^```$", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    assert found
    return found[1]
