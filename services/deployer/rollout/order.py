"""The order of a rollout over several hosts: which hosts a release here waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas import subjects
from schemas.routing import Decisions
from services.deployer.rollout.decisions import is_idle


def reason_to_wait(release: str, host: str, after: Sequence[str], others: Mapping[str, Decisions]) -> str:
    """Return why a release is not started on `host` yet; empty when each host of `after` has deployed it.

    `others`: the decisions of the application's deployers, by the token of their host.
    """
    if circle := _circle(host, after, others):
        return f"waits in a circle: {' after '.join(circle)}; remove one of these --after"
    for name in after:
        if state := _obstacle(release, others.get(subjects.token(name))):
            return f"waits for {name}, {state}"
    return ""


def _obstacle(release: str, there: Decisions | None) -> str:
    """Return why a host has not deployed a release, as a clause; empty when it has."""
    if there is None:
        return "where the application has never run"
    if there.current == release:
        return ""
    if there.removed:
        return "from which the application was removed"
    if release in there.quarantined:
        return f"where it failed: {there.quarantined[release]}"
    if there.ongoing and there.ongoing.release == release:
        return "which is deploying it"
    if is_idle(there):
        return "where the application is stopped"
    if there.paused:
        return "where deployments are paused"
    if there.pinned:
        return f"which is pinned to {there.pinned}"
    return f"which has {there.current or 'no release'}"


def _circle(host: str, after: Sequence[str], others: Mapping[str, Decisions]) -> list[str]:
    """Return the hosts on a way of --after that leads back to `host`, which is its first and last; empty: none does."""
    seen: set[str] = set()
    ways = [[host, name] for name in after]
    while ways:
        way = ways.pop()
        at = subjects.token(way[-1])
        if at == subjects.token(host):
            return way
        if at not in seen and at in others:
            seen.add(at)
            ways += [[*way, name] for name in others[at].after]
    return []
