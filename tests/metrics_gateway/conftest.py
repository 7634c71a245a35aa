"""Fixtures of the gateway's tests."""

from __future__ import annotations

from tests.support.gateway_process import launch as launch
from tests.support.streams import no_stream_left as no_stream_left
