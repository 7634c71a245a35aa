"""The search for mutants that no test notices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutants import mutants

pytestmark = pytest.mark.timeout(600)
"""Mutants that never end take seconds of CPU time, which a busy machine gives them slowly."""

ROOT = Path(__file__).parents[2]

CLAMP = '''
class Range:
    @property
    def low(self) -> int:
        """The lowest."""
        return 2

def clamp(number: int) -> int:
    count = 0
    while count < 3:
        count += 1
    return max(number, Range().low)
'''
TESTS = "from clamp import clamp\n\ndef test_clamp() -> None:\n    assert clamp(5) == 5\n"
LOW = "    assert clamp(1) == 2\n"
SURVIVORS = ["count = 0 -> count = 1", "while count < 3: -> while count < 4:", "while count < 3: -> while count <= 3:"]
SURVIVORS += ["while count < 3: -> while count >= 3:", "count += 1 -> count += 2"]


def search(directory: Path, tests: str, survivors: list[str]) -> subprocess.CompletedProcess[str]:
    """Try the mutants of CLAMP against these tests, with these in the list."""
    listed = [
        f'[[clamp.survivors]]\nplace="clamp"\nchange="{change}"\nreason="any count will do"' for change in survivors
    ]
    table = ['[clamp]\nsource = "clamp"\ntests = ["test_clamp.py"]', *listed]
    for name, text in (("clamp.py", CLAMP), ("test_clamp.py", tests), ("table.toml", "\n".join(table))):
        (directory / name).write_text(text)
    command = [sys.executable, "-m", "tests.mutation", "--table", "table.toml", "clamp"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{directory}"}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_each_mutant_differs_in_one_place_and_is_named_by_it() -> None:
    found = [(mutant.place, mutant.change) for mutant in mutants(CLAMP, "clamp.py")]
    assert found == [
        ("Range.low", "return 2 -> return None"),
        ("Range.low", "return 2 -> return 3"),
        ("clamp", "count = 0 -> count = 1"),
        ("clamp", "while count < 3: -> while count <= 3:"),
        ("clamp", "while count < 3: -> while count >= 3:"),
        ("clamp", "while count < 3: -> while count < 4:"),
        ("clamp", "count += 1 -> count -= 1"),
        ("clamp", "count += 1 -> pass"),
        ("clamp", "count += 1 -> count += 2"),
        ("clamp", "return max(number, Range().low) -> return None"),
        ("clamp", "return max(number, Range().low) -> return min(number, Range().low)"),
    ]


def test_mutants_that_no_test_notices_are_told_and_those_that_never_end_are_killed(tmp_path: Path) -> None:
    result = search(tmp_path, TESTS, [])
    assert result.returncode == 1
    for change in [f"clamp: {change}" for change in SURVIVORS] + ["Range.low: return 2 -> return 3"]:
        assert f"SURVIVES, and is not listed: {change}\n" in result.stdout
    assert result.stdout.count("SURVIVES") == len(SURVIVORS) + 1
    assert "less than 90 % are killed" in result.stdout


def test_a_mutant_that_is_listed_may_survive_and_must(tmp_path: Path) -> None:
    result = search(tmp_path, TESTS + LOW, [*SURVIVORS, "count += 1 -> count += 9"])
    assert result.returncode == 1
    assert "IS LISTED, and does not survive: clamp: count += 1 -> count += 9\n" in result.stdout
    assert "survives: clamp: count = 0 -> count = 1 (any count will do)\n" in result.stdout
    assert "not listed" not in result.stdout


def test_tests_that_fail_without_a_mutant_say_nothing_about_mutants(tmp_path: Path) -> None:
    result = search(tmp_path, TESTS + "    assert clamp(5) == 6\n", [])
    assert result.returncode == 1
    assert "test_clamp fails without a mutant" in result.stderr


def test_the_mutants_of_a_module_of_ours_are_killed_or_listed() -> None:
    command = [sys.executable, "-m", "tests.mutation", "decisions"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_module_that_is_not_in_the_table_is_refused() -> None:
    command = [sys.executable, "-m", "tests.mutation", "nothing"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, "no such module: nothing" in result.stderr) == (2, True)
