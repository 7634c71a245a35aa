"""Fixtures of the gateway's tests."""

from __future__ import annotations

from tests.gateway.process import launch as launch
