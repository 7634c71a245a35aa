"""The admin API over HTTP: status, events, metrics and commands, and the status page."""

from __future__ import annotations

from services.metrics_gateway.api.app import create as create
from services.metrics_gateway.api.dependencies import Gateway as Gateway
from services.metrics_gateway.api.head import with_head as with_head
from services.metrics_gateway.api.server import listen as listen
from services.metrics_gateway.api.server import raise_file_limit as raise_file_limit
from services.metrics_gateway.api.server import serve as serve
