"""The catalogue: every metric that the gateway gives. Both exporters and the reference page read it."""

from __future__ import annotations

from services.metrics_gateway.instruments_containers import CONTAINERS, HEALTH
from services.metrics_gateway.instruments_deployments import DEPLOYMENTS
from services.metrics_gateway.instruments_gateway import GATEWAY
from services.metrics_gateway.instruments_processes import EVENTS, PROCESSES
from services.metrics_gateway.instruments_proxy import BACKENDS, PROXY

SECTIONS = (PROXY, BACKENDS, DEPLOYMENTS, HEALTH, CONTAINERS, PROCESSES, EVENTS, GATEWAY)
INSTRUMENTS = tuple(instrument for section in SECTIONS for instrument in section.instruments)
