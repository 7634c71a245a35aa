"""Fixtures of the tests of replay."""

from services.replay.testing import time_travel
from tests.support.gateway_process import launch

__all__ = ["launch", "time_travel"]
