"""A deployment as a trace. Pure.

The deployer records a step when it ends, with its duration: the span begins that long before.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas import events as e
from services.metrics_gateway.state.span import Attribute, Span, is_trace, known_span, span_id
from services.metrics_gateway.state.tracing import DeploymentTrace

STEPS: dict[type[e.Event], str] = {
    e.ImagePulled: "pull",
    e.ReplicaStarted: "start",
    e.ReplicaReady: "check",
    e.ReplicaRouted: "route",
    e.ReplicaDrained: "drain",
    e.ReplicaRetired: "stop",
}
DETAILS = ("replica", "release", "address", "slot", "reason", "cut")


def root_id(trace: str) -> str:
    """Return the id of the span of the deployment itself."""
    return span_id(trace, "deployment")


def spans(trace: DeploymentTrace, previous: tuple[str, str] | None) -> list[Span]:
    """Return the deployment, linked to the one before, and its steps; none without its beginning or valid ids."""
    started = next((event for event in trace.events if isinstance(event, e.DeploymentStarted)), None)
    if not started or not is_trace(started.trace):
        return []
    return [_deployment(trace, started, previous), *_steps(trace, started)]


def _deployment(trace: DeploymentTrace, started: e.DeploymentStarted, previous: tuple[str, str] | None) -> Span:
    failed = next((event for event in trace.events if isinstance(event, e.DeploymentFailed)), None)
    attributes: dict[str, Attribute] = {
        "host.name": trace.host,
        "longshore.app": trace.app,
        "longshore.deployment.id": started.deployment,
        "longshore.release": started.release,
        "longshore.previous": started.previous,
        "longshore.strategy": started.strategy,
        "longshore.replicas": started.replicas,
        "longshore.by": started.by,
    }
    return Span(
        trace=started.trace,
        id=root_id(started.trace),
        parent=known_span(started.parent),
        name=f"deployment of {trace.app}",
        start=started.time - started.resolved,
        end=max(event.time for event in trace.events),
        attributes=attributes,
        error=f"{failed.phase}: {failed.reason}" if failed else "",
        links=[previous] if previous else [],
    )


def _steps(trace: DeploymentTrace, started: e.DeploymentStarted) -> Iterator[Span]:
    begun = started.time - started.resolved
    yield _step(started.trace, "resolve", begun, started.time, {"longshore.release": started.release})
    last, failed = started.time, None
    for event in trace.events:
        if type(event) in STEPS:
            name, duration = STEPS[type(event)], max(0.0, getattr(event, "duration", 0.0))
            yield _step(started.trace, name, event.time - duration, event.time, _attributes(event))
        elif isinstance(event, e.DeploymentFailed):
            failed = event
            yield _step(started.trace, event.phase, last, event.time, {}, event.reason)
        elif isinstance(event, e.DeploymentRolledBack) and failed:
            yield _step(started.trace, "rollback", failed.time, event.time, {"longshore.release": event.to})
        last = max(last, event.time)


def _step(trace: str, name: str, start: float, end: float, attributes: dict[str, Attribute], error: str = "") -> Span:
    return Span(
        trace=trace,
        id=span_id(trace, name, attributes.get("longshore.replica", ""), end, bool(error)),
        parent=root_id(trace),
        name=name,
        start=start,
        end=end,
        attributes=attributes,
        error=error,
    )


def _attributes(event: e.Event) -> dict[str, Attribute]:
    known = event.__struct_fields__
    return {f"longshore.{name}": getattr(event, name) for name in DETAILS if name in known}
