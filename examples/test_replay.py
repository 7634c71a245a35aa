"""Check what a host did, from the log that `longshore export web-1.log` wrote."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from longshore.events import DeploymentFailed, DeploymentRolledBack
from longshore.testing import TimeTravel


@pytest.fixture
def log(time_travel: Callable[[str], TimeTravel]) -> TimeTravel:
    return time_travel("web-1.log")


def test_each_failed_deployment_was_rolled_back(log: TimeTravel) -> None:
    kinds = [type(event) for event in log.events()]
    assert kinds.count(DeploymentFailed) == kinds.count(DeploymentRolledBack)


def test_the_old_release_served_while_the_new_one_failed(log: TimeTravel) -> None:
    failed = log.to(lambda event: isinstance(event, DeploymentFailed))
    assert failed.value("dewy.proxy.backends", app="shop") > 0
