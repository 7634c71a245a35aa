"""The commands of docs/operating.md about what runs, in their order, against a real system."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.demo import releases
from tests.support.harness import Server, Traffic, longshore, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def commands(heading: str) -> list[list[str]]:
    """The words of each command in a section of the page, after the name of our program."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("longshore ")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("operating"))
    releases.publish(one.registry, releases.FIRST)
    one.start("--replicas", "2", "--settle", "0.2")
    wait_for("it serves", lambda: one.serves(releases.FIRST) and len(serving(one)) == 2)
    yield one
    one.stop()
    one.end_replicas()


def serving(server: Server) -> set[str]:
    return {one["id"] for one in server.status().get("replicas", []) if one["routed"] == "active"}


def does(server: Server, words: list[str]) -> str:
    """Run a command, and return what it prints on stderr: that is for people."""
    done = server.verb(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def history(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.verb("history", "--json").stdout.splitlines()]


def apps_of_the_page(server: Server) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/api/status", timeout=15) as answer:
        return [app["name"] for app in json.load(answer)["apps"]]


def test_restart(server: Server) -> None:
    before = serving(server)
    with Traffic(server.port) as traffic:
        ((command),) = commands("Restart")
        said = does(server, command)
        traffic.wait_for_more(10)
    assert traffic.broken == []
    assert re.search(r"release \S+ \(restart\): 2/2 ready, done in \d+ s\n$", said), said
    assert "trace=" not in said
    assert not before & serving(server)
    assert history(server)[-1]["kind"] == "restart"
    assert history(server)[-1]["digest"] == history(server)[0]["digest"] != ""
    verbose = server.verb(*command, "--verbose")
    assert "ReplicaReady" in verbose.stderr


def test_scale(server: Server) -> None:
    for command, count in zip(commands("Scale"), (3, 1), strict=True):
        assert f"{count}/{count} replicas serve" in does(server, command)
        assert len(serving(server)) == count
        assert server.status()["scaled"] == count
    assert re.search(rf"scaled +to {count} ", server.verb("status").stdout)
    refused = longshore("scale", "--state-dir", server.state, "--", "-1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "REPLICAS -1: use 0 or more" in refused.stderr


def test_drain_waits_for_the_successor(server: Server) -> None:
    (replica,) = serving(server)
    assert f"{replica} is replaced" in does(server, ["drain", replica])
    assert serving(server)
    assert replica not in serving(server)


def test_stop_and_start(server: Server) -> None:
    stop, start = commands("Stop and start")
    assert "0 replicas are left" in does(server, stop)
    assert server.shims() == []
    assert "`longshore start` starts them" in server.verb("status").stdout
    assert "1/1 replicas serve" in does(server, start)
    with Traffic(server.port) as traffic:
        traffic.wait_for_more(3)
    assert traffic.broken == []


def test_redeploy_a_tag_that_moved(server: Server) -> None:
    ((command),) = commands("Redeploy a tag that moved")
    before = history(server)[-1]["digest"]
    (server.registry / releases.FIRST / "more").write_text("a new file")
    assert "`longshore deploy --force`" in server.verb("deploy").stdout
    assert "(redeploy): 1/1 ready, done in" in does(server, command)
    newest = history(server)[-1]
    assert (newest["kind"], newest["previous_digest"]) == ("redeploy", before)
    assert newest["digest"] not in ("", before)


def test_remove_an_application(server: Server) -> None:
    ((command),) = commands("Remove an application")
    refused = server.verb("remove")
    assert refused.returncode == 1
    assert "the removal of web is not confirmed: add --yes" in refused.stderr
    assert does(server, command).endswith("removed\n")
    assert server.shims() == []
    assert server.status() == {}
    wait_for("the page has it no more", lambda: apps_of_the_page(server) == [])
    gone = server.verb("restart")
    assert gone.returncode == 1
    assert "no application runs on" in gone.stderr
    assert "(removed: web; name it with --app to start it again)" in server.verb("start").stderr
    assert "`longshore start --app web` first" in server.verb("restart", "--app", "web").stderr
    assert "replicas serve" in does(server, ["start", "--app", "web"])
    wait_for("the page has it again", lambda: apps_of_the_page(server) == ["web"])


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["deploy"],
        ["rollback"],
        ["pause"],
        ["resume"],
        ["retry"],
        ["drain", "x"],
        ["abort"],
        ["restart"],
        ["scale", "2"],
        ["stop"],
        ["start"],
        ["remove", "--yes"],
    ],
    ids=lambda words: words[0],
)
def test_an_application_that_does_not_exist_is_an_error_that_says_which_ones_do(
    server: Server, words: list[str]
) -> None:
    done = server.verb(*words, "--app", "other")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"--app other: no such application on \S+; there are: web\n$", done.stderr), done.stderr
