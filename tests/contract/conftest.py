"""Fixtures of the contract tests."""

from __future__ import annotations

from tests.metrics_gateway.process import launch as launch
