"""The process of the metrics gateway: it follows the log and serves the admin API."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from litestar.types import ASGIApp
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.jetstream.lease import Lease
from services.common.jetstream.log_reader import LogMessage, StreamReplacedError, read
from services.common.jetstream.object_store import Objects
from services.common.jetstream.provisioning import limits
from services.common.jetstream.stream_guard import recreate_missing_stream
from services.common.process import lifecycle
from services.common.process.child import SUPERVISED
from services.common.process.lifecycle import Context
from services.common.version import VERSION
from services.metrics_gateway import api
from services.metrics_gateway.api import tokens
from services.metrics_gateway.api.tokens import Tokens
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.instruments.instrument import Role
from services.metrics_gateway.log_health import LogHealth
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.snapshots.saver import Saver
from services.metrics_gateway.snapshots.store import Store
from services.metrics_gateway.telemetry_settings import SIGNALS
from services.metrics_gateway.traces.requests import traced
from services.metrics_gateway.views.traffic import INTERVAL, Traffic

if TYPE_CHECKING:
    from services.metrics_gateway.export.spans_pusher import SpansPusher

SERVICE = "gateway"
SHARED = {"service.name": "longshore"}
"""The attributes that are the same for every gateway of a log."""

SLICE = 0.002
"""Seconds of folding a backlog, after which the event loop may answer requests."""

SAVE_TIMEOUT = 3.0
"""Seconds for the last snapshot when the service stops."""


def run(settings: GatewaySettings) -> None:
    """Run the gateway until SIGTERM or SIGINT.

    Raises PortTakenError, SettingsError and ExpiredError before anything has started. Under a supervisor, an expired
    certificate does not raise: it costs the pushes, and must never cost traffic.
    """
    if SUPERVISED not in os.environ:
        settings.check_dates(time.time())
    api.raise_file_limit()
    with api.listen(settings) as listener:
        lifecycle.run(SERVICE, SERVICE, settings, partial(main, settings, listener, tokens.load(settings)))


async def main(settings: GatewaySettings, listener: socket.socket, secrets: Tokens, context: Context) -> None:
    """Fold the log and serve the admin API until the service stops."""
    for problem in settings.expired(time.time()):
        context.log.warning("the collector will refuse a certificate", reason=problem)
    for problem in dict.fromkeys(filter(None, map(settings.problem, SIGNALS))):
        context.log.warning("pushes no telemetry: a variable asks for it and cannot be used", reason=problem)
    projection = Projection(context.bus, context.instance, context.host)
    resource = describe(context)
    traffic = Traffic()
    exporter = Exporter(projection.measurement, resource.attributes)
    gateway = api.Gateway(settings, secrets, projection, traffic, exporter, context.bus, context.stopping)
    app: ASGIApp = api.with_head(api.create(gateway))
    objects = Objects(context.bus, subjects.SNAPSHOTS)
    saver = Saver(projection, context.bus, Store(objects, context.log), context.log)
    folding = context.spawn(follow(projection, context.bus, saver), "fold")
    if settings.nats_url:  # the embedded bus recreates its stream itself
        context.spawn(recreate_missing_stream(context.bus, limits(settings)), "stream guard")
    context.spawn(_sampling(projection, traffic), "traffic")
    async with (
        _leasing(settings, projection, context),
        _saving(saver, context),
        _pushing(settings, projection, objects, context),
        _tracing(settings, projection, resource, context) as spans,
    ):
        if spans:
            app = traced(app, spans.record)
        context.log.info("admin API", address=settings.admin_address, port=settings.admin_port)
        await api.serve(app, listener, context.stopping)
        folding.cancel()  # the last push and the last snapshot have the same state


async def follow(projection: Projection, bus: Bus, saver: Saver) -> None:
    """Fold the log from the newest snapshot on, until cancelled."""
    health = LogHealth(log.get(SERVICE))
    await saver.restore()
    health.start(projection.state)
    while True:
        try:
            async for messages in read(bus, projection.state.position + 1, created=saver.stream):
                await _fold(projection, messages)
                saver.folded()
                health.report(projection.state)
        except StreamReplacedError as error:
            saver.follow(error.stream)


async def _fold(projection: Projection, messages: list[LogMessage]) -> None:
    began = time.perf_counter()
    for message in messages:
        projection.fold(message)
        if time.perf_counter() - began > SLICE:
            await asyncio.sleep(0)
            began = time.perf_counter()


async def _sampling(projection: Projection, traffic: Traffic) -> None:
    """Sample rates until cancelled, but not while reading the past: that is not present traffic."""
    while True:
        if projection.is_caught_up:
            traffic.sample(projection.state, time.monotonic())
        await asyncio.sleep(INTERVAL)


def describe(context: Context) -> Resource:
    """Return the attributes of this process, for /metrics and traces. OTEL_* variables override them."""
    own = {"service.version": VERSION, "service.instance.id": context.instance, "host.name": context.host}
    return _with_variables(Resource.create(SHARED | own))


def describe_counted() -> Resource:
    """Return the attributes of the pushed metrics; OTEL_* variables override them.

    They are the same in every process that pushes. Stores make labels of them, so an attribute that changes with a
    restart, an upgrade or a takeover would begin new series beside the old ones.
    """
    return _with_variables(Resource(SHARED))


def _with_variables(own: Resource) -> Resource:
    described = own.merge(OTELResourceDetector().detect())
    return Resource({_text(name): _text(value) for name, value in described.attributes.items()}, described.schema_url)


def _text(value: Any) -> Any:
    """Return the text, with replacement characters for bytes of a variable that are not UTF-8."""
    return value.encode(errors="surrogateescape").decode(errors="replace") if isinstance(value, str) else value


@asynccontextmanager
async def _leasing(settings: GatewaySettings, projection: Projection, context: Context) -> AsyncIterator[None]:
    """Compete for each role that this gateway can have while inside, and release them at the end."""
    roles: list[Role] = ["snapshots", *(signal for signal in SIGNALS if settings.pushes(signal))]
    projection.leases = {
        role: Lease(context.bus, f"{SERVICE}.{role}", context.instance, context.host) for role in roles
    }
    for role, lease in projection.leases.items():
        context.spawn(lease.run(), f"lease of {role}")
    try:
        yield
    finally:
        await asyncio.gather(*(lease.release() for lease in projection.leases.values()))


@asynccontextmanager
async def _saving(saver: Saver, context: Context) -> AsyncIterator[None]:
    """Save the state from time to time while inside, and at the end."""
    running = context.spawn(saver.run(), "snapshots")
    try:
        yield
    finally:
        saver.close()
        await asyncio.wait({running}, timeout=SAVE_TIMEOUT)


@asynccontextmanager
async def _pushing(
    settings: GatewaySettings, projection: Projection, objects: Objects, context: Context
) -> AsyncIterator[None]:
    """Push metrics while inside, if configured. The exporter is large, so only then is it loaded."""
    if not settings.pushes("metrics"):
        yield
        return
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the pusher logs a failure once
    from services.metrics_gateway.export.metrics_pusher import MetricsPusher

    pusher = MetricsPusher(settings, projection, describe_counted(), objects)
    running = context.spawn(pusher.run(), "otlp")
    try:
        yield
    finally:
        running.cancel()
        await pusher.close()


@asynccontextmanager
async def _tracing(
    settings: GatewaySettings, projection: Projection, resource: Resource, context: Context
) -> AsyncIterator[SpansPusher | None]:
    """Push traces while inside, if configured; else drop them."""
    if not settings.pushes("traces"):
        context.spawn(_discarding(projection), "traces")
        yield None
        return
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from services.metrics_gateway.export.spans_pusher import SpansPusher

    pusher = SpansPusher(settings, projection, resource)
    running = context.spawn(pusher.run(), "traces")
    try:
        yield pusher
    finally:
        running.cancel()
        await pusher.close()


async def _discarding(projection: Projection) -> None:
    while True:
        projection.state.tracing.finished.clear()
        await asyncio.sleep(INTERVAL)
