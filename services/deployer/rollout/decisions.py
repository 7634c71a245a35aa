"""The transitions of Decisions. Pure: decisions in, decisions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cmp_to_key
from typing import TypeAlias

from msgspec.structs import replace

from schemas.routing import Artifact, Decisions, Ongoing
from services.common.text import last_line
from services.deployer.registry import versions

IsNewer: TypeAlias = Callable[[str, str], bool]
"""True if the first release comes after the second in the registry's own order, by their names."""


def next_release(
    decisions: Decisions, offered: Sequence[str], is_alive: bool, is_newer: IsNewer = versions.is_newer
) -> str:
    """Return the release of the registry's offer (newest first) that is due now, empty if none is.

    While something runs (`is_alive`), only a newer release replaces it: an older one never does, just because the
    newest is quarantined or gone.
    """
    if decisions.ongoing or decisions.paused or decisions.pinned or not offered:
        return ""
    if not decisions.current or (not is_alive and decisions.current not in offered):
        return next((release for release in offered if release not in decisions.quarantined), "")
    newest = offered[0]
    is_wanted = is_newer(newest, decisions.current) and newest not in decisions.quarantined
    return newest if is_wanted else ""


def with_started(decisions: Decisions, ongoing: Ongoing, artifact: Artifact) -> Decisions:
    """Return the decisions with a deployment under way."""
    return replace(decisions, ongoing=ongoing, waiting="", artifacts={**decisions.artifacts, ongoing.release: artifact})


def with_succeeded(decisions: Decisions, ongoing: Ongoing, is_newer: IsNewer = versions.is_newer) -> Decisions:
    """Return the decisions after a success: its release is current, and older releases leave quarantine."""
    current, previous = ongoing.release, decisions.current or decisions.previous
    kept = {name: why for name, why in decisions.quarantined.items() if is_newer(name, current)}
    artifacts = {name: artifact for name, artifact in decisions.artifacts.items() if name in (current, previous)}
    return replace(
        decisions,
        current=current,
        previous=previous,
        pinned=ongoing.pinned,
        quarantined=kept,
        last_lines={name: line for name, line in decisions.last_lines.items() if name in kept},
        artifacts=artifacts,
        ongoing=None,
    )


def with_failed(decisions: Decisions, ongoing: Ongoing, reason: str, output: str = "") -> Decisions:
    """Return the decisions after a failure: the deployment is to be undone, and its release is quarantined.

    `output`: the last lines of the replica that failed.
    """
    quarantined = {**decisions.quarantined, ongoing.release: reason}
    lines = _without(decisions.last_lines, ongoing.release) | ({ongoing.release: last_line(output)} if output else {})
    return replace(decisions, quarantined=quarantined, last_lines=lines, ongoing=replace(ongoing, failed=True))


def newest_first(releases: Iterable[str], is_newer: IsNewer) -> list[str]:
    """Sort releases in the registry's own order. Of those that it does not order, the later one comes first."""
    later_first = list(releases)[::-1]

    def order(one: str, other: str) -> int:
        return is_newer(other, one) - is_newer(one, other)

    return sorted(later_first, key=cmp_to_key(order))


def without_quarantine(decisions: Decisions, release: str) -> Decisions:
    """Return the decisions with this release free to be deployed again."""
    return replace(
        decisions,
        quarantined=_without(decisions.quarantined, release),
        last_lines=_without(decisions.last_lines, release),
    )


def _without(texts: dict[str, str], release: str) -> dict[str, str]:
    return {name: text for name, text in texts.items() if name != release}
