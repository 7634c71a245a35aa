"""Fixtures of the tests of replay."""

from tests.support.gateway_process import launch

__all__ = ["launch"]
