"""Fixtures of the contract tests."""

from __future__ import annotations

from tests.support.gateway_process import launch as launch
