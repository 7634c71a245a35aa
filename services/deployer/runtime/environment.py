"""The environment of a process replica."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.process.environment import usual
from services.deployer.runtime import orphans
from services.deployer.runtime.protocol import Spec

HOST = "127.0.0.1"


def environment(base: Mapping[str, str], spec: Spec, port: int) -> dict[str, str]:
    """Return a replica's environment: the usual variables of the deployer, those of its options, and its own."""
    return {
        **usual(base),
        **spec.options.environment,
        "PORT": str(port),
        "LONGSHORE_APP": spec.app,
        "LONGSHORE_RELEASE": spec.release,
        orphans.MARK: spec.id,
    }
