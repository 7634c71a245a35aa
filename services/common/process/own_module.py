"""Commands that run a module of ours in a process of its own."""

from __future__ import annotations

import sys

_ROOT = (__package__ or "").removesuffix(".common.process")
"""The package of the services: `services` in the repository, `longshore._services` where a wheel is installed."""


def own_module(name: str, *words: str) -> list[str]:
    """Return the command that runs a module, named below the package of the services, such as `cli.main`.

    With -P, no folder in the current directory shadows a package of ours or of our dependencies.
    """
    return [sys.executable, "-P", "-m", f"{_ROOT}.{name}", *words]
