"""The parameters of probes and rollouts, from the settings."""

from __future__ import annotations

from schemas.routing import Check
from services.deployer.rollout import plan
from services.deployer.settings import DeployerSettings


def check(settings: DeployerSettings) -> Check:
    """Return the parameters with which health probes a replica."""
    return Check(settings.health_path, settings.probe_interval, settings.probe_timeout, settings.rise, settings.fall)


def limits(settings: DeployerSettings) -> plan.Limits:
    """Return the time limits of a rollout. With a health path, which proves more, no replica has to settle."""
    return plan.Limits(
        settle=0.0 if settings.health_path else settings.settle,
        ready=settings.health_timeout,
        drain=settings.drain_time,
        unhealthy=settings.replace_after,
        stop=settings.stop_timeout + 10.0,
    )
