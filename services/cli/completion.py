"""Completion of applications, replicas and releases, from the state directory of this host.

It asks no bus: a shell waits for it at every press of the key, also while Longshore is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from services.common.config.settings import default_state_dir


def apps(context: typer.Context, incomplete: str) -> list[str]:
    """Return the applications that have run here."""
    return _matching(incomplete, (folder.name for folder in _folders(_root(context))))


def replicas(context: typer.Context, incomplete: str) -> list[str]:
    """Return the replicas that have not ended; those of `--app`, if the command line names one already."""
    return _matching(incomplete, (one.name for one in _replicas(context) if not (one / "forgotten").exists()))


def releases(context: typer.Context, incomplete: str) -> list[str]:
    """Return the releases of the replicas that run, or ended lately."""
    return _matching(incomplete, (_release(one) for one in _replicas(context)))


def _matching(incomplete: str, names: Iterator[str]) -> list[str]:
    return sorted({name for name in names if name and name.startswith(incomplete)})


def _root(context: typer.Context) -> Path:
    return Path(context.params.get("state_dir") or default_state_dir()) / "replicas"


def _replicas(context: typer.Context) -> Iterator[Path]:
    wanted = context.params.get("app")
    for app in _folders(_root(context)):
        if not wanted or app.name == wanted:
            yield from _folders(app)


def _folders(path: Path) -> Iterator[Path]:
    try:
        yield from (one for one in path.iterdir() if one.is_dir())
    except OSError:  # a folder that is not there, or that this user may not read, completes nothing
        return


def _release(replica: Path) -> str:
    try:
        return str(json.loads((replica / "replica.json").read_bytes())["release"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


ARGUMENTS: dict[str, Callable[[typer.Context, str], list[str]]] = {
    "app": apps,
    "replica": replicas,
    "release": releases,
    "to": releases,
    "a": releases,
    "b": releases,
}
"""The completion of each option and argument of verbs, by name."""
