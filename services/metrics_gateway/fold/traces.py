"""Events, folded into spans that are over. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas import events as e
from services.metrics_gateway.fold.context import Place
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.histogram import Exemplar
from services.metrics_gateway.state.span import Span
from services.metrics_gateway.state.tracing import EVENTS, STORIES, Story
from services.metrics_gateway.traces import commands, connections, deployments

Handler = Callable[[Place, Any], None]

DURATIONS = (e.DeploymentSucceeded, e.DeploymentFailed)
ENDS = (e.DeploymentSucceeded, e.DeploymentRolledBack)
TOLD = frozenset({*deployments.STEPS, *ENDS, e.DeploymentStarted, e.DeploymentFailed})


def traced(kind: type[e.Event], handler: Handler) -> Handler:
    """The handler of a kind of event that a trace tells of."""
    if kind is e.CommandAnswered:
        return command_answered
    if kind not in TOLD:
        return handler

    def trace(place: Place, event: Any) -> None:
        handler(place, event)
        if event.deployment:
            _tell(place, event)

    return trace


def command_answered(place: Place, event: e.CommandAnswered) -> None:
    if event.trace:
        place.state.tracing.add(commands.spans(place.host, place.app, event), place.state.position)


def connection_traced(place: Place, event: e.ConnectionTraced) -> None:
    instance = place.instance.id
    place.state.tracing.add(connections.spans(place.host, place.app, instance, event), place.state.position)
    totals, _ = place.port(event.port)
    duration, latency = connections.exemplars(instance, event)
    totals.duration.illustrate(duration)
    if latency:
        totals.latency.illustrate(latency)


def settle(place: Place) -> None:
    """Nothing is missing any more: the deployments that are over can be told."""
    for identity, story in list(place.state.tracing.open.items()):
        if story.over and story.host == place.host:
            _finish(place, identity)


def _tell(place: Place, event: Any) -> None:
    known = place.state.tracing.open
    story = known.get(event.deployment)
    if story is None:
        if not (place.gapped or isinstance(event, e.DeploymentStarted)):
            return
        story = known[event.deployment] = Story(place.host, place.app)
        if len(known) > STORIES:
            del known[next(iter(known))]
    if len(story.events) < EVENTS or isinstance(event, ENDS):
        story.events.append(event)
    if isinstance(event, ENDS):
        story.over = True
        if not place.gapped:
            _finish(place, event.deployment)


def _finish(place: Place, identity: str) -> None:
    tracing = place.state.tracing
    story = tracing.open.pop(identity)
    story.events.sort(key=lambda event: event.time)
    spans = deployments.spans(story, tracing.last.get((story.host, story.app)))
    if spans:
        tracing.last[story.host, story.app] = (spans[0].trace, spans[0].id)
        tracing.add(spans, place.state.position)
        _illustrate(place.delivery(story.app), spans[0], story)


def _illustrate(app: App, root: Span, story: Story) -> None:
    """The deployment is an exemplar of how long deployments take."""
    ended = next((event for event in story.events if isinstance(event, DURATIONS)), None)
    if ended:
        app.deployment_duration.illustrate(Exemplar(root.trace, root.id, ended.duration, ended.time))
