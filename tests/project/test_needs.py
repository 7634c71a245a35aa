"""The names by which tests get their markers exist."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.support import needs

TESTS = Path(__file__).parents[1]


def test_the_code_that_starts_a_process_is_where_the_list_has_it() -> None:
    for module in needs.MODULES:
        importlib.import_module(module)
    for module, name in needs.STARTERS:
        assert getattr(importlib.import_module(module), name).__module__ == module


def test_the_folders_and_the_slow_tests_exist() -> None:
    assert [folder for folder in needs.FOLDERS if not (TESTS / folder).is_dir()] == []
    for place in needs.SLOW:
        file, _, name = place.partition("::")
        assert f"def {name}" in (TESTS / file).read_text(), place
