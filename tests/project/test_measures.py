"""The source keeps its measures: folders and files that one can take in, no import circle, no module without a test."""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_MODULES = 15
MOST_LINES = 300
LONG = {"schemas/events.py"}
"""The list of all events is one thing, however long."""

RUN_BY = {
    "services.bus": "bus/test_embedded_bus.py",
    "services.cli": "replay/test_commands.py",
    "services.demo.example": "e2e/test_demo.py",
    "services.deployer.notifications": "deployer/notifications/test_delivery.py",
    "services.deployer.output": "deployer/output/test_sessions.py",
    "services.deployer.runtime.docker.output": "deployer/runtime/docker/test_sessions.py",
    "services.deployer.runtime.output": "deployer/output/test_log_stream.py",
    "services.metrics_gateway.api": "metrics_gateway/api/test_reading.py",
    "services.metrics_gateway.traces": "metrics_gateway/traces/test_spans.py",
    "services.proxy": "proxy/master/test_master.py",
    "services.replay": "replay/test_moment.py",
    "services.supervisor": "supervisor/test_watch.py",
}
"""Packages with modules that run in a process of their own, or deeper than the imports show; a test that runs them."""


def module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    module(file): file for folder in ("dashboards", "schemas", "services") for file in (ROOT / folder).rglob("*.py")
}


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return our own modules that these statements import."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return found & SOURCES.keys()


def anywhere(file: Path) -> set[str]:
    return imported(ast.walk(ast.parse(file.read_text())))


def test_no_folder_holds_more_modules_than_one_can_take_in() -> None:
    modules = Counter(file.parent for file in SOURCES.values() if file.name != "__init__.py")
    assert {folder: count for folder, count in modules.items() if count > MOST_MODULES} == {}


def test_no_file_is_too_long() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES.values()}
    assert {file: count for file, count in lines.items() if count > MOST_LINES and file not in LONG} == {}


def test_no_module_imports_itself_through_others() -> None:
    """Of the imports that a module does when it is imported; a package that a name comes from is not meant."""
    packages = {name for name, file in SOURCES.items() if file.name == "__init__.py"}
    graph = {name: imported(ast.parse(file.read_text()).body) - packages for name, file in SOURCES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_every_module_has_a_test() -> None:
    """A test imports it, or imports what imports it; the others are of packages that a listed test runs."""
    direct = set().union(*(anywhere(file) for file in (ROOT / "tests").rglob("*.py")))
    covered = direct.union(*(anywhere(SOURCES[name]) for name in direct))
    left = {name for name, file in SOURCES.items() if file.name != "__init__.py"} - covered
    assert [name for name in sorted(left) if not any(name.startswith(f"{package}.") for package in RUN_BY)] == []
    assert [test for test in RUN_BY.values() if not (ROOT / "tests" / test).is_file()] == []
