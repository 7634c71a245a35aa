"""Run the tests of one module against each of its mutants: pytest collects once, and each mutant is a fork of it.

In the fork the functions of the module get the mutant's code, and those tests run that call the changed function, the
fastest first, until one fails. A mutant that hangs is killed by a limit on its CPU time, which does not depend on how
busy the machine is.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import msgspec
import pytest

from tests.mutation.mutants import Mutant, mutants

SHARED = {"nats_server", "bus"}
"""Fixtures of tests that are too slow to run for each mutant."""
PATIENCE = 5
"""A mutant gets so many times the CPU time of the right module, which was measured with a profiler at work, …"""
LEAST_SECONDS = 2
"""… and this on top, so that tests of milliseconds are not cut by what a fork costs."""
STUCK = 60
"""A test that waits for so long, in seconds, without using the CPU is stuck."""
MEMORY = 1 << 30
"""A mutant that collects without end fails when it has taken this much more."""


class Outcome(msgspec.Struct):
    """What became of the mutants of a module. `trouble`: why none were tried."""

    mutants: int = 0
    survivors: list[tuple[str, str]] = []
    trouble: str = ""


def run(module: str, tests: list[str]) -> Outcome:
    """Try every mutant of a module against its tests."""
    plugin = _Plugin(module)
    options = [
        "-m",
        "not (process or slow)",
        "-p",
        "no:terminal",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        f"--timeout={STUCK}",
    ]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what the module before this one has imported
    with tempfile.TemporaryDirectory() as directory:  # what killed tests leave behind is gone after it
        status = pytest.main([*options, f"--basetemp={directory}/tests", *tests], plugins=[plugin])
    if not plugin.outcome.mutants and not plugin.outcome.trouble:
        plugin.outcome.trouble = f"pytest ended with {status} for {' '.join(tests)}"
    return plugin.outcome


class _Plugin:
    """Takes the place of pytest's loop over the tests."""

    def __init__(self, module: str) -> None:
        self.outcome = Outcome()
        self._module = importlib.import_module(module)
        self._file = str(self._module.__file__)
        self._failure = ""
        self._seconds: dict[pytest.Item, float] = {}
        self._callers: defaultdict[str, set[pytest.Item]] = defaultdict(set)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.trouble = f"{report.nodeid} cannot be collected: {report.longrepr}"

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failure = f"{report.nodeid} fails without a mutant: {report.longrepr}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not self.outcome.trouble:
            self._run_clean([item for item in session.items if not SHARED & set(getattr(item, "fixturenames", ()))])
        if not self.outcome.trouble:
            self._run_mutants()
        return True

    def _run_clean(self, items: list[pytest.Item]) -> None:
        for index, item in enumerate(items):
            began = time.process_time()
            sys.setprofile(partial(self._called, item))
            try:
                _run_test(item, items[index + 1] if index + 1 < len(items) else None)
            finally:
                sys.setprofile(None)
            self._seconds[item] = time.process_time() - began
        self.outcome.trouble = self._failure

    def _called(self, item: pytest.Item, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == self._file:
            self._callers[_place(frame.f_code)].add(item)

    def _run_mutants(self) -> None:
        source = inspect.getsource(self._module)
        functions = self._functions()
        known = {_place(function.__code__).split(".")[0] for same in functions.values() for function in same}
        if lost := {place for place in self._callers if place.split(".")[0] not in known}:
            self.outcome.trouble = f"functions that tests call cannot be found in memory: {' '.join(sorted(lost))}"
            return
        unchanged = Mutant("", "", compile(source, self._file, "exec"))
        if os.waitpid(self._fork(unchanged, functions), 0)[1] != 0:
            self.outcome.trouble = "the tests fail in a fork without a mutant, so that a failure says nothing"
            return
        running: dict[int, Mutant] = {}
        for mutant in mutants(source, self._file):
            self.outcome.mutants += 1
            if len(running) >= (os.cpu_count() or 1):
                self._wait(running)
            running[self._fork(mutant, functions)] = mutant
        while running:
            self._wait(running)
        self.outcome.survivors.sort()

    def _wait(self, running: dict[int, Mutant]) -> None:
        pid, status = os.wait()
        mutant = running.pop(pid, None)
        if mutant and status == 0:
            self.outcome.survivors.append((mutant.place, mutant.change))

    def _fork(self, mutant: Mutant, functions: dict[tuple[str, int], list[FunctionType]]) -> int:
        if pid := os.fork():
            return pid
        try:
            is_killed = self._is_killed(mutant, functions)
        except BaseException:
            is_killed = True  # a mutant may exit, or interrupt the tests
        os._exit(is_killed)

    def _is_killed(self, mutant: Mutant, functions: dict[tuple[str, int], list[FunctionType]]) -> bool:
        callers = self._callers[mutant.place] if mutant.place else set(self._seconds)
        items = sorted(callers, key=self._seconds.__getitem__)
        _limit(sum(self._seconds[item] for item in items))
        for code in _codes(mutant.code):
            for function in functions.get(_key(code), []):
                function.__code__ = code
        for index, item in enumerate(items):
            _run_test(item, items[index + 1] if index + 1 < len(items) else None)
            if self._failure:
                return True
        return False

    def _functions(self) -> dict[tuple[str, int], list[FunctionType]]:
        """The module's functions as they are now, of every class and decorator."""
        found: dict[tuple[str, int], list[FunctionType]] = {}
        for function in gc.get_objects():
            if type(function) is FunctionType and function.__code__.co_filename == self._file:
                found.setdefault(_key(function.__code__), []).append(function)
        return found


def _run_test(item: pytest.Item, following: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _limit(seconds: float) -> None:
    most = int(seconds * PATIENCE) + LEAST_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _place(code: CodeType) -> str:
    """The function that a piece of code belongs to, as in `Mutant.place`."""
    return ".".join(part for part in code.co_qualname.split(".") if not part.startswith("<"))
