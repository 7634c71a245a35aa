"""The lines of `longshore status`."""

from __future__ import annotations

from services.cli.queries.report import Report
from services.cli.text.columns import duration, note, table

COLUMNS = ("REPLICA", "RELEASE", "ADDRESS", "HEALTH", "ROUTED", "AGE")
KEPT = ("REPLICA", "ADDRESS", "HEALTH", "ROUTED", "AGE")


def lines(report: Report, now: float, width: int | None) -> list[str]:
    """Return the lines about an application, at most `width` characters long where that is possible."""
    view = report.view
    found = note(f"{view.app}:", _headline(report, now), width, indent=0)
    for title, text in _notes(report, now):
        found += note(title, text, width)
    if view.replicas:
        rows = [
            (one.id, one.release, one.address, one.health.partition(":")[0], one.routed, _age(report, one.id, now))
            for one in view.replicas
        ]
        found += ["  " + line for line in table(COLUMNS, rows, None if width is None else width - 2, KEPT)]
    return found


def _headline(report: Report, now: float) -> str:
    view = report.view
    serving = sum(1 for one in view.replicas if one.routed == "active")
    of = "" if report.desired_replicas is None else f" of {report.desired_replicas}"
    words = [
        f"release {view.release or 'none yet'}{_for(report.since, now)}",
        f"{serving}{of} replicas serve",
        f"ports {', '.join(map(str, view.ports)) or 'none'}",
        f"host {report.host}",
    ]
    return "; ".join(words)


def _notes(report: Report, now: float) -> list[tuple[str, str]]:
    view, found = report.view, []
    if one := report.running:
        found.append(
            (
                "deploying",
                f"{one.release} by {one.by}{_for(one.started, now)}: {one.phase}, {one.serving} of {one.wanted} serve",
            )
        )
    if view.pinned:
        by = f" by {report.pinned_by}" if report.pinned_by else ""
        found.append(("pinned", f"to {view.pinned}{by}{_for(report.pinned_since, now)}; `longshore resume` ends it"))
    if view.waiting:
        found.append(("waiting", f"{'a newer' if view.release else 'the first'} release {view.waiting}"))
    if view.stopped:
        found.append(("stopped", "no replica runs; `longshore start` starts them"))
    if view.scaled is not None:
        found.append(("scaled", f"to {view.scaled} replicas; a change of --replicas ends it"))
    if view.failed_options:
        found.append(("options", f"a change of options failed, the options before it serve: {view.failed_options}"))
    if view.paused:
        found.append(("paused", f"new releases wait{_for(report.paused_since, now)}; `longshore resume` ends it"))
    for release, reason in view.quarantined.items():
        found.append(("quarantined", f"{release}{_for(report.quarantined_since.get(release), now)}: {reason}"))
    if report.registry_error:
        since = _for(report.registry_failing_since, now)
        found.append(("registry", f"fails{since}, {report.registry_failures} times in a row: {report.registry_error}"))
    if failed := report.failure:
        found.append(("last error", f"{failed.release}, {_ago(failed.at, now)}: {failed.phase}: {failed.reason}"))
        if last := failed.output.strip().rpartition("\n")[2]:
            found.append(("", f"its output: {last}"))
    found += [("unhealthy", f"{one.id}: {one.health.partition(': ')[2]}") for one in view.replicas if _ails(one.health)]
    return found


def _ails(health: str) -> bool:
    return health.startswith("unhealthy")


def _for(since: float | None, now: float) -> str:
    return "" if since is None else f" for {duration(now - since)}"


def _age(report: Report, replica: str, now: float) -> str:
    since = report.started.get(replica)
    return "-" if since is None else duration(now - since)


def _ago(at: float | None, now: float) -> str:
    return "just now" if at is None else f"{duration(now - at)} ago"
