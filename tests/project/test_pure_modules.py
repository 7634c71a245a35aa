"""A module that calls itself pure is held to it by import-linter."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = "pure modules do no I/O and read no clock"
CLAIM = re.compile(r"\b[Pp]ure\b|\bNo I/O\b|\b[Nn]o clock\b")


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def claimed() -> list[str]:
    """The modules whose docstrings say that they are pure."""
    paths = [path for folder in ("schemas", "services") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [module(path) for path in paths if CLAIM.search(ast.get_docstring(ast.parse(path.read_text())) or "")]


def held() -> list[str]:
    """The modules and packages in the contract."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    names: list[str] = next(one["source_modules"] for one in contracts if one["name"] == CONTRACT)
    return names


@pytest.mark.parametrize("name", claimed())
def test_a_module_that_calls_itself_pure_is_in_the_contract(name: str) -> None:
    assert any(name == one or name.startswith(f"{one}.") for one in held()), f"add {name} to the contract"


def test_modules_are_found_that_call_themselves_pure() -> None:
    assert {"services.deployer.rollout.plan", "services.common.backoff"} <= set(claimed())
