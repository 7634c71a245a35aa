"""Events, folded into finished spans. Pure."""

from __future__ import annotations

from typing import Any

from schemas import events as e
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.histogram import Exemplar
from services.metrics_gateway.state.span import Span
from services.metrics_gateway.state.tracing import MAX_EVENTS, MAX_OPEN, DeploymentTrace
from services.metrics_gateway.traces import commands, connections, deployments

DURATIONS = (e.DeploymentSucceeded, e.DeploymentFailed)
ENDS = (e.DeploymentSucceeded, e.DeploymentRolledBack)
STEPS = frozenset({*deployments.STEPS, *ENDS, e.DeploymentStarted, e.DeploymentFailed})


def extend_trace(context: BatchContext, event: Any) -> None:
    """Add an event to the trace of its deployment, if it is a step of one."""
    if type(event) in STEPS and event.deployment:
        _record(context, event)


def command_answered(context: BatchContext, event: e.CommandAnswered) -> None:
    """Add the spans of a command, if it was traced."""
    if event.trace:
        context.state.tracing.add(commands.spans(context.host, context.app, event), context.state.position)


def connection_traced(context: BatchContext, event: e.ConnectionTraced) -> None:
    """Add the spans of a sampled connection, and exemplars to the histograms of its port."""
    instance = context.instance.id
    context.state.tracing.add(connections.spans(context.host, context.app, instance, event), context.state.position)
    totals, _ = context.port(event.port)
    duration, latency = connections.exemplars(instance, event)
    totals.duration.add_exemplar(duration)
    if latency:
        totals.latency.add_exemplar(latency)


def settle(context: BatchContext) -> None:
    """Finish the traces of deployments that have ended: no batch is missing any more."""
    for identity, trace in list(context.state.tracing.open.items()):
        if trace.ended and trace.host == context.host:
            _finish(context, identity)


def _record(context: BatchContext, event: Any) -> None:
    known = context.state.tracing.open
    trace = known.get(event.deployment)
    if trace is None:
        if not (context.gapped or isinstance(event, e.DeploymentStarted)):
            return
        trace = known[event.deployment] = DeploymentTrace(context.host, context.app)
        if len(known) > MAX_OPEN:
            del known[next(iter(known))]
    if len(trace.events) < MAX_EVENTS or isinstance(event, ENDS):
        trace.events.append(event)
    if isinstance(event, ENDS):
        trace.ended = True
        if not context.gapped:
            _finish(context, event.deployment)


def _finish(context: BatchContext, identity: str) -> None:
    tracing = context.state.tracing
    trace = tracing.open.pop(identity)
    trace.events.sort(key=lambda event: event.time)
    spans = deployments.spans(trace, tracing.last.get((trace.host, trace.app)))
    if spans:
        tracing.last[trace.host, trace.app] = (spans[0].trace, spans[0].id)
        tracing.add(spans, context.state.position)
        _add_exemplar(context.app_state(trace.app), spans[0], trace)


def _add_exemplar(app: App, root: Span, trace: DeploymentTrace) -> None:
    """Make the deployment an exemplar of how long deployments take."""
    ended = next((event for event in trace.events if isinstance(event, DURATIONS)), None)
    if ended:
        app.deployment_duration.add_exemplar(Exemplar(root.trace, root.id, ended.duration, ended.time))
