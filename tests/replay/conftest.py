"""Fixtures of the tests of replay."""

from tests.metrics_gateway.process import launch

__all__ = ["launch"]
