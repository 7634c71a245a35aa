"""The environment of a process replica."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from services.common.process.environment import usual
from services.deployer.runtime import orphans
from services.deployer.runtime.protocol import Spec

HOST = "127.0.0.1"


def environment(base: Mapping[str, str], spec: Spec, port: int, passed: Collection[str] = ()) -> dict[str, str]:
    """Return a replica's environment: the usual variables of the deployer, those of --pass-env, and its own."""
    return usual(base, passed) | {
        "PORT": str(port),
        "LONGSHORE_APP": spec.app,
        "LONGSHORE_RELEASE": spec.release,
        orphans.MARK: spec.id,
    }
