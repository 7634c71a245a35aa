"""The wheel has one package, the sdist makes the same wheel, and the build rewrites imports and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

from tests.install.building import ROOT, build_wheel

MOVED = re.compile(r"(services|schemas)(\.[a-z_]+)+")
"""The text of a name of ours that a wheel does not have."""


def load_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / "packaging" / "build_hook.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = load_hook()


@pytest.mark.parametrize(
    ("written", "moved"),
    [
        ("from services.common import log", "from longshore._services.common import log"),
        ("from schemas import events as e", "from longshore._schemas import events as e"),
        ("from  services  import cli", "from  longshore._services  import cli"),
        ("def f():\n    from services.a import b", "def f():\n    from longshore._services.a import b"),
        ("é = 1; from services.a import b; from schemas import c", None),
        ("from services.a import (\n    b,  # of services\n    c,\n)", None),
        ("from .services import a", "from .services import a"),
        ("from servicesome import a", "from servicesome import a"),
        ("import asyncio", "import asyncio"),
        ('TEXT = "from services.a import b"', 'TEXT = "from services.a import b"'),
    ],
)
def test_an_import_of_a_moved_package_is_rewritten_and_nothing_else(written: str, moved: str | None) -> None:
    expected = moved or re.sub(r"from (services|schemas)", r"from longshore._\1", written)
    assert HOOK.rewritten(written.encode()).decode() == expected


@pytest.mark.parametrize("statement", ["import services", "import services.cli.main", "import os, schemas.events as e"])
def test_an_import_that_would_bind_another_name_stops_the_build(statement: str) -> None:
    with pytest.raises(ValueError, match=r"main\.py:2: import s.*: write `from"):
        HOOK.rewritten(f"\n{statement}".encode(), "main.py")


def test_no_source_names_a_module_of_ours_as_text() -> None:
    found = [
        f"{file}:{node.lineno}: {node.value}"
        for folder in HOOK.PLACES
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MOVED.fullmatch(node.value)
    ]
    assert found == [], "a wheel has no such module: use own_module() or a relative import"


def test_the_wheel_has_one_top_level_package_and_every_file_of_the_sources(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(Path(place) / file.relative_to(ROOT / folder))
        for folder, place in HOOK.PLACES.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name.partition("/")[0] for name in names} == {"longshore"}
    assert names == expected
    assert "longshore/py.typed" in names


def test_the_sdist_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    again = build_wheel(sdist, tmp_path)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
