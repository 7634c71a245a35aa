"""The step of the build that makes the wheel's one package of the repository's three folders.

`services` and `schemas` are names that a user's own project may have too. So a wheel installs these folders inside
`longshore`, as `_services` and `_schemas`, and this hook writes every import of them accordingly. An editable
installation uses the folders as they are.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACES = {"longshore": "longshore", "services": "longshore/_services", "schemas": "longshore/_schemas"}
"""Where each folder of the repository is in the wheel."""

MOVED = {name: place.replace("/", ".") for name, place in PLACES.items() if name != place}
SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")


class WheelHook(BuildHookInterface):
    """Gives hatchling the rewritten folders; hatchling itself selects nothing (`exclude` in pyproject.toml)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the packages into a temporary folder and include it."""
        self._folder = Path(tempfile.mkdtemp(prefix="longshore-wheel-"))
        if version != "editable":
            for name, place in PLACES.items():
                shutil.copytree(Path(self.root) / name, self._folder / place, ignore=SKIPPED, dirs_exist_ok=True)
            for file in self._folder.rglob("*.py"):
                file.write_bytes(rewritten(file.read_bytes(), file.name))
            build_data["force_include"][str(self._folder / "longshore")] = "longshore"

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder)


def rewritten(source: bytes, file: str = "source") -> bytes:
    """Return a module's source with the moved packages imported from their places; nothing else changes.

    Raise ValueError for an import whose name would change with it: `import services.x` binds the name `services`.
    """
    lines = source.splitlines(keepends=True)
    # From the last to the first: an earlier one of the same line keeps its column.
    for node in sorted(_imports(ast.parse(source)), key=lambda node: (node.lineno, node.col_offset), reverse=True):
        for name in [alias.name for alias in node.names] if isinstance(node, ast.Import) else []:
            if name.partition(".")[0] in MOVED:
                raise ValueError(
                    f"{file}:{node.lineno}: import {name}: write `from … import …`, which a wheel can move"
                )
        if isinstance(node, ast.ImportFrom) and not node.level:
            root = (node.module or "").partition(".")[0]
            if root in MOVED:
                line = lines[node.lineno - 1]
                at = line.index(root.encode(), node.col_offset + len("from"))
                lines[node.lineno - 1] = line[:at] + MOVED[root].encode() + line[at + len(root) :]
    return b"".join(lines)


def _imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
