"""The notices and their words. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentSucceeded,
    Event,
    RegistryFailed,
    RegistryRecovered,
    ReplicaExited,
)
from services.common.text import last_line
from services.deployer.runtime.exit_text import describe_exit

Level = Literal["info", "success", "warning", "failure"]


class Notice(msgspec.Struct, frozen=True):
    """A message to people. `time`: unix seconds; `event`: the event on the log that it follows from, if one does.

    `id` stays the same when a delivery is retried.
    """

    kind: str
    level: Level
    title: str
    text: str
    time: float
    app: str = ""
    host: str = ""
    id: str = ""
    event: dict[str, Any] = {}


UNDONE = "It is rolled back"
CONSEQUENCES = {
    "release": "It is rolled back and quarantined: not deployed again until there is a newer release, or until "
    "`longshore retry`",
    "options": "The options before it serve, until they change again, or until `longshore retry`",
}
"""What follows from a failed deployment, by its kind."""


def deployed(event: DeploymentSucceeded) -> Notice:
    """Return the notice of a deployment that succeeded."""
    return _of(event, "deployment-succeeded", "success", f"{event.release} is deployed", f"in {event.duration:.1f} s")


def failed(event: DeploymentFailed) -> Notice:
    """Return the notice of a deployment that failed."""
    text = f"{event.phase}: {event.reason}{_last_words(event.output)}. {CONSEQUENCES.get(event.kind, UNDONE)}"
    return _of(event, "deployment-failed", "failure", f"deployment of {event.release} failed", text)


def rolled_back(event: DeploymentRolledBack) -> Notice:
    """Return the notice of a failed deployment that is undone."""
    text = f"{event.to} serves as before" if event.to else "no release was deployed before it: nothing serves"
    return _of(event, "deployment-rolled-back", "warning", f"{event.release} is rolled back", text)


def crashed(event: ReplicaExited) -> Notice:
    """Return the notice of a replica that ended by itself."""
    ended = f"{event.replica} {describe_exit(event)}{_last_words(event.output)}"
    text = f"{ended}; it is replaced. A notice follows when such exits are over"
    return _of(event, "replica-crashed", "failure", f"a replica of {event.release} ended by itself", text)


def recovered(release: str, count: int, seconds: float, time: float) -> Notice:
    """Return the notice that no replica of a release has crashed for so many seconds, after `count` crashes."""
    text = f"none ended by itself for {seconds / 60:g} minutes, after {count} in all"
    return Notice("replicas-recovered", "success", f"the replicas of {release} stay up", text, time)


def registry_failed(event: RegistryFailed) -> Notice:
    """Return the notice of a registry that cannot be read."""
    text = f"{event.reason}. Running replicas stay, new releases are not seen. A notice follows when it answers again"
    return _of(event, "registry-failed", "warning", "the registry cannot be read", text)


def registry_recovered(event: RegistryRecovered) -> Notice:
    """Return the notice of a registry that can be read again."""
    text = f"{event.registry}, after {event.failures} failures in a row"
    return _of(event, "registry-recovered", "success", "the registry answers again", text)


def _last_words(output: str) -> str:
    return f" (last line of output: {last_line(output)})" if output else ""


def _of(event: Event, kind: str, level: Level, title: str, text: str) -> Notice:
    recorded = {"type": type(event).__name__, **msgspec.structs.asdict(event)}
    return Notice(kind, level, title, text, event.time, event=recorded)
