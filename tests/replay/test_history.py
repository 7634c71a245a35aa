"""History and diff: what was deployed, how it went, and how two releases compare."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.client.client import LoggedEvent
from services.common.errors import LongshoreError
from services.replay.comparison import Comparison
from services.replay.deployments import Deployment, History, deployments
from services.replay.log.source import events, from_file
from tests.replay.recording import GOLDEN, recorded, records, write
from tests.support.program import fails, longshore

TRACE = "0" * 32
COLUMNS = ["STARTED", "HOST", "APP", "RELEASE", "FROM", "BY", "OUTCOME", "SECONDS", "PHASES", "DIGEST", "REASON"]


def told(*said: e.AnyEvent, app: str = "shop", host: str = "web-1") -> list[LoggedEvent]:
    return [LoggedEvent(n, "deployer", host, app, event) for n, event in enumerate(said, 1)]


def history(log: Sequence[LoggedEvent]) -> list[Deployment]:
    found = History()
    for one in log:
        found.add(one)
    return found.deployments


def compared(log: Sequence[LoggedEvent]) -> Comparison:
    found = Comparison()
    for one in log:
        found.add(one)
    return found


def deployed(deployment: str, release: str, previous: str, at: float, replica: str) -> list[e.AnyEvent]:
    """A deployment whose steps say how long they took."""
    return [
        e.ReleaseFound(at, release, f"sha256:{release}", "dir:///srv"),
        e.DeploymentStarted(
            at,
            deployment,
            release,
            previous=previous,
            by="ann",
            strategy="rolling",
            replicas=1,
            trace=TRACE,
            resolved=0.25,
        ),
        e.ImagePulled(at + 2, deployment, release, 1.5),
        e.ReplicaStarted(
            at + 3, deployment, replica, release=release, address="127.0.0.1:1", pid=7, slot=0, duration=0.5
        ),
        e.ReplicaReady(at + 5, deployment, replica, 2.0),
        e.ReplicaRouted(at + 6, deployment, replica, 0.125),
    ]


def retired(deployment: str, replica: str, at: float) -> list[e.AnyEvent]:
    return [
        e.ReplicaDraining(at, deployment, replica),
        e.ReplicaDrained(at + 4, deployment, replica, cut=0, duration=4.0),
        e.ReplicaRetired(at + 5, deployment, replica, reason="replaced", duration=1.0),
    ]


TWO = told(
    *deployed("d-1", "1.0", "", 100.0, "r-1"),
    e.DeploymentSucceeded(107.0, "d-1", "1.0", 7.0),
    *deployed("d-2", "2.0", "1.0", 200.0, "r-2"),
    *retired("d-2", "r-1", 206.5),
    e.DeploymentSucceeded(212.0, "d-2", "2.0", 12.0),
)


def test_a_deployment_says_what_changed_who_asked_how_long_each_phase_took_and_how_it_ended() -> None:
    first, second = history(TWO)
    assert (second.release, second.digest, second.previous, second.previous_digest) == (
        "2.0",
        "sha256:2.0",
        "1.0",
        "sha256:1.0",
    )
    assert (second.by, second.outcome, second.duration, second.ended) == ("ann", "succeeded", 12.0, 212.0)
    assert second.phases == {
        "resolve": 0.25,
        "pull": 1.5,
        "start": 0.5,
        "check": 2.0,
        "route": 0.125,
        "drain": 4.0,
        "stop": 1.0,
    }
    assert "drain" not in first.phases


def test_an_old_log_that_does_not_say_how_long_steps_took_tells_it_by_its_times() -> None:
    (one,) = history(
        told(
            e.DeploymentStarted(10.0, "d", "1", previous="", by="ann", strategy="rolling", replicas=1, trace=TRACE),
            e.ReplicaStarted(12.0, "d", "r", release="1", address="a:1"),
            e.ReplicaReady(15.0, "d", "r", 3.0),
            e.ReplicaRouted(15.5, "d", "r"),
            e.ReplicaDraining(16.0, "d", "old"),
            e.ReplicaRetired(20.0, "d", "old", reason="replaced"),
        )
    )
    assert one.phases == {"start": 2.0, "check": 3.0, "route": 0.5, "stop": 4.0}
    assert one.outcome == "running"


def test_a_failure_says_phase_and_reason_and_the_time_until_then() -> None:
    (one,) = history(
        told(
            e.DeploymentStarted(10.0, "d", "2", previous="1", by="ann", strategy="rolling", replicas=1, trace=TRACE),
            e.ReplicaStarted(11.0, "d", "r", release="2", address="a:1", pid=1, slot=0, duration=1.0),
            e.DeploymentFailed(41.0, "d", "2", phase="check", reason="no answer", duration=31.0),
            e.ReplicaRetired(42.0, "d", "r", reason="rolled back", duration=0.5),
            e.DeploymentRolledBack(43.0, "d", "2", "1"),
        )
    )
    assert (one.outcome, one.phase, one.reason, one.duration, one.ended) == (
        "rolled back",
        "check",
        "no answer",
        31,
        43,
    )
    assert one.phases == {"start": 1.0, "check": 30.0, "stop": 0.5}


def test_a_rollback_is_a_new_deployment_and_changes_none_that_was_before() -> None:
    again = told(*deployed("d-3", "1.0", "2.0", 300.0, "r-3"), e.DeploymentSucceeded(306.5, "d-3", "1.0", 6.5))
    before, after = history(TWO), history([*TWO, *again])
    assert after[:2] == before
    assert (after[2].release, after[2].previous, after[2].outcome) == ("1.0", "2.0", "succeeded")


def test_two_releases_are_told_apart_by_what_their_replicas_did() -> None:
    traffic: list[e.AnyEvent] = [
        e.ConnectionEstablished(110.0, 1, 80, backend="r-1", latency=0.002, attempts=1),
        e.ConnectionClosed(111.0, 1, 80, backend="r-1", bytes_in=10, bytes_out=20, duration=0.5, reason="eof"),
        e.DialFailed(112.0, 2, 80, backend="r-1", latency=1.0, reason="refused"),
        e.ConnectionEstablished(220.0, 3, 80, backend="r-2", latency=0.004, attempts=1),
        e.ConnectionClosed(221.0, 3, 80, backend="r-2", bytes_in=1, bytes_out=2, duration=0.25, reason="backend_reset"),
        e.HealthChecked(222.0, "r-2", False, 1.0, "timeout"),
        e.ConnectionEstablished(223.0, 4, 80, backend="r-2", latency=float("nan"), attempts=1),
    ]
    found = compared([*TWO, *told(*traffic)])
    old, new = found.side("1.0"), found.side("2.0")
    assert (old.digest, new.digest) == ("sha256:1.0", "sha256:2.0")
    assert (old.served.connections, old.served.bytes, old.served.dial_failures, old.served.broken) == (1, 30, 1, 0)
    assert (new.served.bytes, new.served.broken, new.served.health_failures) == (3, 1, 1)
    assert (old.served.first, old.served.last) == (106.0, 206.5)
    assert (new.served.first, new.served.last) == (206.0, None)
    assert (old.served.latency.sum, new.served.latency.sum) == (0.002, 0.004)


def test_an_impossible_event_is_omitted_whole() -> None:
    impossible: list[e.AnyEvent] = [
        e.ConnectionEstablished(220.0, 3, 80, backend="r-2", latency=float("nan"), attempts=1),
        e.ConnectionEstablished(220.0, 4, 80, backend="r-2", latency=1e200, attempts=1),
        e.ConnectionClosed(
            221.0, 3, 80, backend="r-2", bytes_in=1, bytes_out=2, duration=float("inf"), reason="backend_reset"
        ),
        e.ConnectionClosed(221.0, 4, 80, backend="r-2", bytes_in=-1, bytes_out=2, duration=0.5, reason="eof"),
    ]
    served = compared([*TWO, *told(*impossible)]).side("2.0").served
    assert (served.connections, served.bytes, served.broken) == (0, 0, 0)
    assert (served.latency.count, served.duration.count) == (0, 0)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1e18, 1e300])
def test_a_deployment_at_an_impossible_time_is_left_out(tmp_path: Path, time: float) -> None:
    said = deployed("d-1", "1.0", "", time, "r-1")
    file = str(write(tmp_path / "a.log", records([codec.encode(Batch("deployer", "h", "shop", "d", 1, said))])))
    answer = longshore("history", "--file", file)
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert "1.0" not in answer.stdout.decode()


def test_a_deployment_is_named_by_the_beginning_of_its_id_and_a_replacement_belongs_to_it() -> None:
    replaced = told(
        e.ReplicaExited(400.0, "r-2", "2.0", 1),
        e.ReplicaStarted(401.0, "", "r-9", release="2.0", address="a:1"),
        e.ConnectionEstablished(402.0, 1, 80, backend="r-9", latency=0.001, attempts=1),
    )
    found = compared([*TWO, *replaced]).side("d-2")
    assert (found.release, found.served.replicas, found.served.connections, found.served.crashes) == ("2.0", 2, 1, 1)


def test_what_is_neither_a_release_nor_a_deployment_is_told() -> None:
    found = compared(TWO)
    with pytest.raises(LongshoreError, match=r"'3\.0' is neither a release nor a deployment of this log"):
        found.side("3.0")
    with pytest.raises(LongshoreError, match="'d-' begins the id of several deployments"):
        found.side("d-")
    with pytest.raises(LongshoreError, match="is neither a release"):
        found.side("")


def test_a_release_of_several_applications_must_be_chosen() -> None:
    deployed_too = told(
        e.DeploymentStarted(1.0, "x", "1.0", previous="", by="a", strategy="b", replicas=1, trace=TRACE), app="blog"
    )
    adopted = told(e.ReplicaAdopted(1.0, replica="b-1", release="1.0", address="a:1"), app="blog")
    for other in (deployed_too, adopted):
        with pytest.raises(LongshoreError, match=r"several applications \(blog, shop\): choose with --app"):
            compared([*TWO, *other]).side("1.0")
        assert compared([*TWO, *other]).side("d-1").app == "shop"


def test_a_release_on_several_hosts_must_be_chosen_and_nothing_is_added_up() -> None:
    served: list[e.AnyEvent] = [
        e.ReplicaStarted(150.0, "", "r-1", release="1.0", address="a:1"),
        e.ConnectionEstablished(151.0, 1, 80, backend="r-1", latency=0.002, attempts=1),
    ]
    found = compared([*TWO, *told(*served, host="web-2")])
    with pytest.raises(LongshoreError, match=r"several hosts \(web-1, web-2\): choose with --host"):
        found.side("1.0")
    one = found.side("d-1")
    assert (one.host, one.served.replicas, one.served.connections, one.served.last) == ("web-1", 1, 0, 206.5)


def two_hosts(path: Path) -> str:
    """A log of the same release on two hosts."""
    batches = [
        codec.encode(Batch("deployer", host, "shop", host, 1, deployed(f"d-{host}", "1.0", "", 100.0, f"r-{host}")))
        for host in ("web-1", "web-2")
    ]
    return str(write(path, records(batches)))


def test_a_host_that_is_asked_for_is_the_only_one_that_is_shown(tmp_path: Path) -> None:
    file = two_hosts(tmp_path / "two.log")
    both = longshore("history", "--file", file).stdout.decode().splitlines()
    assert [line.split()[2] for line in both[1:]] == ["web-1", "web-2"]
    (one,) = map(json.loads, longshore("history", "--json", "--host", "web-2", "--file", file).stdout.splitlines())
    assert one["host"] == "web-2"
    assert "choose with --host" in fails("diff", "1.0", "d-web-1", "--file", file)
    table = longshore("diff", "1.0", "d-web-2", "--host", "web-2", "--file", file).stdout.decode()
    assert table.count("shop on web-2") == 2


def test_what_comes_before_the_damage_of_a_file_is_shown(tmp_path: Path) -> None:
    whole, cut = str(write(tmp_path / "whole.log", recorded()[:200])), write(tmp_path / "cut.log", recorded(), every=50)
    cut.write_bytes(cut.read_bytes()[:-200])
    for words in (["history"], ["diff", "1.0.0", "1.1.0"]):
        done = longshore(*words, "--file", str(cut), code=1)
        assert done.stdout == longshore(*words, "--file", whole).stdout != b""
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith(f"longshore: {cut}: damaged at byte ")


def test_the_commands_print_tables_and_json() -> None:
    lines = longshore("history", "--file", str(GOLDEN)).stdout.decode().splitlines()
    assert lines[0].split() == COLUMNS
    assert [line.split()[3:6] for line in lines[1:]] == [
        ["shop", "1.0.0", "-"],
        ["shop", "1.1.0", "1.0.0"],
        ["shop", "1.2.0", "1.1.0"],
    ]
    assert "rolled back" in lines[3]
    assert "check: exited with 1" in lines[3]
    known = [json.loads(line) for line in longshore("history", "--json", "--file", str(GOLDEN)).stdout.splitlines()]
    assert [one["outcome"] for one in known] == ["succeeded", "succeeded", "rolled back"]
    table = longshore("diff", "1.0.0", "deployment-1.1", "--file", str(GOLDEN)).stdout.decode()
    assert "1.1.0 (deployment-1.1)" in table
    sides = [
        json.loads(s) for s in longshore("diff", "1.0.0", "1.1.0", "--json", "--file", str(GOLDEN)).stdout.splitlines()
    ]
    assert all(side["served"]["connections"] > 0 for side in sides)
    assert "'9' is neither a release nor a deployment" in fails("diff", "9", "1.0.0", "--file", str(GOLDEN))


async def test_every_connection_of_the_log_belongs_to_one_release_and_is_counted_once() -> None:
    found = [event async for event in events(from_file(str(GOLDEN)))]
    connections = [one.event for one in found if isinstance(one.event, e.ConnectionEstablished)]
    counted = [one for one in connections if one.backend.startswith("shop-")]
    assert len(counted) == len({one.connection for one in counted}) > 500
    comparison = compared(found)
    sides = [comparison.side(release) for release in ("1.0.0", "1.1.0", "1.2.0")]
    assert sum(side.served.connections for side in sides) == len(counted)


async def test_a_release_that_waits_for_another_host_is_listed_until_it_starts_or_waits_no_more() -> None:
    async def read(*said: e.AnyEvent) -> list[tuple[str, str, str, float]]:
        async def log() -> AsyncIterator[LoggedEvent]:
            for one in told(*said):
                yield one

        return [(one.release, one.outcome, one.reason, one.started) for one in await deployments(log())]

    first, second = (e.ReleaseWaiting(at, "2", reason) for at, reason in ((5.0, "waits for a"), (6.0, "waits for b")))
    assert await read(first, second) == [("2", "waiting", "waits for b", 5.0)]
    assert await read(first, e.ReleaseWaiting(7.0, "", "")) == []
    assert await read(first, e.ApplicationRemoved(7.0, "ann")) == []
    begun = await read(first, *deployed("d1", "2", "1", 8.0, "r1"))
    assert [one[:2] for one in begun] == [("2", "running")]
