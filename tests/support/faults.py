"""A process that dies at a chosen step, without a process: a test names the steps, and none is done afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


class CrashError(Exception):
    """The process is dead."""


class Faults:
    """Before or after the `at`th step, the process dies."""

    def __init__(self, at: int, is_done: bool) -> None:
        self.at = at
        self.steps = 0
        self.is_done = is_done

    @property
    def is_dead(self) -> bool:
        return self.steps >= self.at

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Make a step of a method, or of a coroutine method."""
        step = getattr(owner, name)
        patch.setattr(owner, name, self._awaited(step) if inspect.iscoroutinefunction(step) else self._called(step))

    def _called(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._begin()
            result = step(*args, **kwargs)
            self._end()
            return result

        return run

    def _awaited(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **kwargs: Any) -> Any:
            self._begin()
            result = await step(*args, **kwargs)
            self._end()
            return result

        return run

    def _begin(self) -> None:
        if self.is_dead:
            raise CrashError
        self.steps += 1
        if not self.is_done:
            self._end()

    def _end(self) -> None:
        if self.is_dead:
            raise CrashError
