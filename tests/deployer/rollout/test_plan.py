"""Single steps of the rollout."""

from __future__ import annotations

import msgspec
import pytest

from services.deployer.rollout.actions import Fail, Retire, Unretire
from services.deployer.rollout.plan import Facts, plan
from services.deployer.rollout.replica import Replica
from tests.deployer.rollout.world import LIMITS, World


def serving(name: str = "a", release: str = "old", **state: object) -> Replica:
    replica = Replica(id=name, release=release, slot=0, since=0, running=True, ready=True, healthy=True, followed=True)
    replica.route = "active"
    for field, value in state.items():
        setattr(replica, field, value)
    return replica


@pytest.mark.parametrize(("problem", "text"), [("", ""), ("answers 500", ": answers 500")])
def test_a_deployment_that_fails_says_which_replica_and_why(problem: str, text: str) -> None:
    starting = Replica(id="a", release="new", slot=0, since=0, running=True, problem=problem)
    facts = Facts(now=10.0, target="new", desired=1, replicas=[starting], limits=LIMITS, deploying=True)
    assert plan(facts).actions == [Fail("check", f"a was not ready within 10 s{text}", "a")]
    ill = serving("a", "new", healthy=False, unhealthy_since=0.0, problem=problem)
    facts = msgspec.structs.replace(facts, replicas=[ill])
    assert plan(facts).actions == [Fail("check", f"a was unhealthy for 10 s{text}", "a")]
    unknown = serving("a", "new", followed=False, route_since=0.0)
    facts = msgspec.structs.replace(facts, replicas=[unknown])
    assert plan(facts).actions == [Fail("route", "the proxy did not follow the route to a within 10 s")]


def test_without_a_release_that_should_run_what_runs_is_stopped() -> None:
    facts = Facts(now=10.0, target="", desired=1, replicas=[serving()], limits=LIMITS)
    assert plan(facts).actions == [Retire("a", "stopped")]


def test_a_replica_that_still_takes_connections_on_its_way_out_is_kept_when_it_is_missed() -> None:
    facts = Facts(now=10.0, target="old", desired=1, replicas=[serving(leaving="replaced")], limits=LIMITS)
    assert plan(facts).actions == [Unretire("a")]


def test_an_old_replica_that_takes_no_connections_does_not_begin_to_in_a_deployment() -> None:
    old, new = serving("a", route="none"), serving("b", "new", ready=False, healthy=False)
    facts = Facts(now=5.0, target="new", desired=1, replicas=[old, new], limits=LIMITS, deploying=True)
    assert plan(facts).actions == []


def test_scaling_down_takes_the_highest_slots() -> None:
    world = World.serving(3)
    kept = next(replica for replica in world.replicas if replica.slot == 0)
    world.desired = 1
    world.settle()
    assert [replica.id for replica in world.replicas if not replica.leaving] == [kept.id]
