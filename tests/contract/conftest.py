"""Fixtures of the contract tests."""

from __future__ import annotations

from tests.gateway.process import launch as launch
