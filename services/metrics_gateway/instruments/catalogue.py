"""The catalogue: every metric that the gateway gives. Both exporters and the reference page read it."""

from __future__ import annotations

from services.metrics_gateway.instruments.containers import CONTAINERS, HEALTH
from services.metrics_gateway.instruments.deployments import DEPLOYMENTS
from services.metrics_gateway.instruments.gateway import GATEWAY
from services.metrics_gateway.instruments.processes import EVENTS, PROCESSES
from services.metrics_gateway.instruments.proxy import BACKENDS, PROXY
from services.metrics_gateway.instruments.usage import USAGE

SECTIONS = (PROXY, BACKENDS, DEPLOYMENTS, HEALTH, CONTAINERS, USAGE, PROCESSES, EVENTS, GATEWAY)
INSTRUMENTS = tuple(instrument for section in SECTIONS for instrument in section.instruments)
