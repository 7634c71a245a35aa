"""Every verb of the command line at an existing server: TLS, a client certificate and an nkey for each account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.demo import releases
from tests.support.authority import Authority
from tests.support.configured_server import serving
from tests.support.harness import Server, longshore, wait_for

FIRST, NEXT = releases.FIRST, releases.SECOND
ACCOUNTS = ("proxy", "deployer", "health", "gateway", "cli", "admin")


class Secured(Server):
    """`longshore server` on such a bus; its verbs sign in as the account `cli`."""

    def __init__(self, directory: Path, *sign_in: str) -> None:
        super().__init__(directory, *sign_in)
        self.sign_in = sign_in

    def does(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """What a verb prints as JSON."""
        return [json.loads(line) for line in self.says(*words, "--json", code=code).splitlines()]

    def says(self, *words: str, code: int = 0) -> str:
        done = longshore(*words, *self.sign_in)
        assert done.returncode == code, (words, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    def offers(self, release: str) -> None:
        releases.publish(self.registry, release)

    def is_at(self, release: str) -> None:
        wait_for(f"{release} runs alone", lambda: self.current() == release)

    def current(self) -> str:
        apps = self.does("status")
        routed = {one["release"] for app in apps for one in app["replicas"] if one["routed"] == "active"}
        return str(apps[0]["release"]) if apps and routed == {apps[0]["release"]} else ""


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority, secrets = Authority(tmp_path / "authority"), tmp_path / "secrets"
    certificate, key = authority.sign("server")
    for account in ACCOUNTS:
        authority.sign(account)
    accounts = longshore("bus", "config", "--out", str(secrets)).stdout
    tls = {"cert_file": str(certificate), "key_file": str(key), "ca_file": str(authority.certificate), "verify": True}
    with serving(tmp_path / "nats", f"tls {json.dumps(tls)}\n{accounts}") as nats:
        sign_in = [f"--nats-url=tls://localhost:{nats.port}", f"--nats-ca={authority.certificate}"]
        sign_in += [
            f"--nats-{what}={authority.folder}/{{service}}.{end}" for what, end in (("cert", "pem"), ("key", "key"))
        ]
        sign_in += [f"--nats-nkey-file={secrets}/{{service}}.nk"]
        assert longshore("bus", "setup", *sign_in).returncode == 0
        server = Secured(tmp_path, *sign_in)
        server.offers(FIRST)
        server.start()
        yield server
        server.stop()
        server.end_replicas()
        assert "Permissions Violation" not in nats.log.read_text()


def test_every_verb_works(secured: Secured, tmp_path: Path) -> None:
    secured.is_at(FIRST)
    assert secured.does("pause")[0]["ok"]
    secured.offers(NEXT)
    assert "deployments are paused" in longshore("deploy", *secured.sign_in).stderr
    (resumed,) = secured.does("resume")
    assert (resumed["release"], resumed["outcome"]) == (NEXT, "succeeded")
    secured.is_at(NEXT)
    (rolled_back,) = secured.does("rollback")
    assert (rolled_back["release"], rolled_back["outcome"]) == (FIRST, "succeeded")
    (deployed,) = secured.does("deploy", NEXT)
    assert deployed["release"] == NEXT
    secured.says("retry", code=1)
    (replica,) = (one["id"] for one in secured.does("status")[0]["replicas"])
    assert secured.does("drain", replica)[0]["ok"]
    assert [one["release"] for one in secured.does("history")] == [FIRST, NEXT, FIRST, NEXT]
    assert {"DeploymentSucceeded", "CommandAnswered"} <= {str(one["event"]) for one in secured.does("events")}
    assert NEXT in secured.says("diff", FIRST, NEXT)
    secured.says("verify")
    assert "dewy_deployments_total" in secured.says("replay", "--stream")
    log = str(tmp_path / "exported.log")
    secured.says("export", log)
    secured.says("verify", log)
    assert "dewy_deployments_total" in secured.says("replay", log)
    assert "were there already" in secured.says("import", log)
