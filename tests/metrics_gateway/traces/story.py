"""The events of deployments, as a deployer records them."""

from __future__ import annotations

from schemas import events as e

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"


def succeeded(deployment: str = "d1", trace: str = TRACE, at: float = 1000.0, parent: str = "") -> list[e.AnyEvent]:
    """One replica is replaced by one of the next release."""
    old, new = f"web-1-{deployment}", f"web-2-{deployment}"
    return [
        e.DeploymentStarted(
            at,
            deployment,
            "2.0.0",
            previous="1.0.0",
            by="alice",
            strategy="rolling",
            replicas=1,
            trace=trace,
            resolved=0.5,
            parent=parent,
        ),
        e.ImagePulled(at + 2, deployment, "2.0.0", 2.0),
        e.ReplicaStarted(
            at + 3, deployment, new, release="2.0.0", address="127.0.0.1:9000", pid=7, slot=0, duration=0.75
        ),
        e.ReplicaReady(at + 5, deployment, new, 2.0),
        e.ReplicaRouted(at + 6, deployment, new, 0.25),
        e.ReplicaDraining(at + 6, deployment, old),
        e.ReplicaDrained(at + 8, deployment, old, cut=0, duration=2.0),
        e.ReplicaRetired(at + 9, deployment, old, reason="replaced", duration=1.0),
        e.DeploymentSucceeded(at + 9, deployment, "2.0.0", 9.0),
    ]


def failed(deployment: str = "d2", trace: str = OTHER, at: float = 2000.0) -> list[e.AnyEvent]:
    """The replica of the new release does not become ready."""
    new = f"web-3-{deployment}"
    return [
        e.DeploymentStarted(
            at, deployment, "3.0.0", previous="2.0.0", by="registry", strategy="rolling", replicas=1, trace=trace
        ),
        e.ImagePulled(at + 1, deployment, "3.0.0", 1.0),
        e.ReplicaStarted(
            at + 2, deployment, new, release="3.0.0", address="127.0.0.1:9001", pid=8, slot=0, duration=1.0
        ),
        e.DeploymentFailed(at + 30, deployment, "3.0.0", phase="check", reason="answers 500", duration=30.0),
        e.ReplicaRetired(at + 31, deployment, new, reason="rolled back", duration=0.5),
        e.DeploymentRolledBack(at + 31, deployment, "3.0.0", "2.0.0"),
    ]
