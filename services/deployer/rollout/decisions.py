"""The transitions of Decisions. Pure: decisions in, decisions out."""

from __future__ import annotations

from collections import Counter
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
    if decisions.ongoing or decisions.paused or decisions.pinned or is_idle(decisions) or not offered:
        return ""
    if not decisions.current or (not is_alive and decisions.current not in offered):
        return next((release for release in offered if release not in decisions.quarantined), "")
    newest = offered[0]
    is_wanted = is_newer(newest, decisions.current) and newest not in decisions.quarantined
    return newest if is_wanted else ""


def next_options(decisions: Decisions, wanted: str) -> str:
    """Return the fingerprint of the options that a deployment of the current release is due with, empty if none is.

    Nothing is due while it is unknown with which options the replicas of an earlier version run.
    """
    if decisions.ongoing or decisions.paused or is_idle(decisions) or not decisions.current or not decisions.options:
        return ""
    return wanted if wanted != decisions.options and wanted not in decisions.failed_options else ""


def options_to_use(decisions: Decisions, wanted: str) -> str:
    """Return the fingerprint of the options for the next deployment: those that failed wait for a retry."""
    return decisions.options if decisions.options and wanted in decisions.failed_options else wanted


def is_idle(decisions: Decisions) -> bool:
    """Return True if no replica is to run: a deployment would prove nothing then."""
    return decisions.stopped or decisions.replicas == 0


def desired(decisions: Decisions, option: int) -> int:
    """Return how many replicas are to run."""
    return option if decisions.replicas is None else decisions.replicas


def without_outdated_scale(decisions: Decisions, option: int) -> Decisions:
    """Return the decisions without a number of replicas that was chosen before the option changed."""
    return decisions if option == decisions.replicas_option else replace(decisions, replicas=None)


def revision(decisions: Decisions) -> str:
    """Return the revision that runs: its deployment, or the release if an earlier version deployed it."""
    return decisions.deployment or decisions.current


def with_inferred(decisions: Decisions, running: Sequence[tuple[str, str, str]], wanted: str) -> Decisions:
    """Return the decisions with what is not in them: from the release, revision and options of each replica that runs.

    Options that are in neither, as after an upgrade, are taken to be the wanted ones: a change that the operator made
    at the same time goes unseen then, but to replace all replicas because of an upgrade would be worse.
    """
    if not decisions.current and not decisions.ongoing and running:
        release, revision, options = Counter(running).most_common(1)[0][0]
        known = "" if revision == release else revision
        decisions = replace(decisions, current=release, deployment=known, options=options)
    return replace(decisions, options=decisions.options or wanted) if decisions.current else decisions


def with_started(decisions: Decisions, ongoing: Ongoing) -> Decisions:
    """Return the decisions with a deployment under way."""
    return replace(decisions, ongoing=ongoing, waiting="")


def with_succeeded(decisions: Decisions, ongoing: Ongoing, is_newer: IsNewer = versions.is_newer) -> Decisions:
    """Return the decisions after a success: its release is current, and older releases leave quarantine."""
    current = ongoing.release
    previous = decisions.previous if current == decisions.current else decisions.current or decisions.previous
    kept = {name: why for name, why in decisions.quarantined.items() if is_newer(name, current)}
    known = dict(decisions.artifacts)
    if ongoing.artifact != Artifact():  # an earlier version has put it into `artifacts` itself
        known[current] = ongoing.artifact
    artifacts = {name: artifact for name, artifact in known.items() if name in (current, previous)}
    return replace(
        decisions,
        current=current,
        previous=previous,
        pinned=ongoing.pinned,
        quarantined=kept,
        last_lines={name: line for name, line in decisions.last_lines.items() if name in kept},
        artifacts=artifacts,
        ongoing=None,
        deployment=ongoing.deployment,
        options=ongoing.options,
        failed_options={} if ongoing.options != decisions.options else decisions.failed_options,
    )


def with_failed(decisions: Decisions, ongoing: Ongoing, reason: str, output: str = "") -> Decisions:
    """Return the decisions after a failure: the deployment is to be undone, and what was new in it is quarantined.

    A restart and a redeploy come from an operator alone, so nothing would repeat them: they put nothing there.
    `output`: the last lines of the replica that failed.
    """
    failed = replace(decisions, ongoing=replace(ongoing, failed=True))
    if ongoing.kind == "release":
        lines = _without(decisions.last_lines, ongoing.release)
        lines |= {ongoing.release: last_line(output)} if output else {}
        return replace(failed, quarantined={**decisions.quarantined, ongoing.release: reason}, last_lines=lines)
    if ongoing.kind == "options":
        return replace(failed, failed_options={**decisions.failed_options, ongoing.options: reason})
    return failed


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


def without_failed_options(decisions: Decisions, options: str) -> Decisions:
    """Return the decisions with these options free to be deployed again."""
    return replace(
        decisions, failed_options={one: why for one, why in decisions.failed_options.items() if one != options}
    )
