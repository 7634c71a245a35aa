"""The objects that the routes of the admin API need."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import msgspec
from litestar.di import NamedDependency

from services.common.bus.connection import Bus
from services.metrics_gateway.api.streams import Streams
from services.metrics_gateway.api.tokens import Tokens
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.views.traffic import Traffic


class SharedViews(msgspec.Struct):
    """The views as they are sent to all streams. They are made again at `due` on the monotonic clock."""

    chunks: dict[str, bytes] = {}
    due: float = 0.0


class Gateway(msgspec.Struct, frozen=True):
    """A running gateway. `stopping` ends the open streams."""

    settings: GatewaySettings
    tokens: Tokens
    projection: Projection
    traffic: Traffic
    exporter: Exporter
    bus: Bus
    stopping: asyncio.Event
    streams: Streams = msgspec.field(default_factory=Streams)
    shared: SharedViews = msgspec.field(default_factory=SharedViews)


InjectedGateway: TypeAlias = NamedDependency[Gateway]
"""The type of a handler's argument `gateway`, which Litestar then injects."""
