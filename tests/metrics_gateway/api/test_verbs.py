"""The verbs: what reaches a deployer, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from litestar.exceptions import HTTPException

from schemas import subjects
from schemas.commands import Abort, Command, Deploy, Drain, Pause, Resume, Retry, Rollback
from schemas.events import ServiceStarted, ServiceStopped
from services.bus.permissions import ACCESS, permissions
from services.common.bus.connection import Bus
from services.metrics_gateway.api.commands import target, trace_context
from tests.metrics_gateway.api.conftest import Deployer
from tests.metrics_gateway.events import Log
from tests.support.gateway_process import Gateway, publishing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def tell(gateway: Gateway, token: str, verb: str, headers: dict[str, str], **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        return await client.post(f"/api/{verb}", json=body, headers={"authorization": f"Bearer {token}", **headers})


async def ready(gateway: Gateway, deployer: Deployer, *apps: str) -> None:
    for app in apps:
        await deployer.listen(app)
    await gateway.until("/api/status", lambda got: all(f'"name":"{app}"' in got.text for app in apps))


@pytest.mark.parametrize(
    ("verb", "body", "code", "command"),
    [
        ("deploy", {"release": "1.1", "by": "ann"}, 202, Deploy("1.1", "ann")),
        ("deploy", {}, 202, Deploy("", "api")),
        ("rollback", {"to": "1.0"}, 202, Rollback("1.0", "api")),
        ("pause", {}, 200, Pause("api")),
        ("resume", {"app": "shop", "host": "web-1"}, 200, Resume("api")),
        ("retry", {"release": "1.1"}, 202, Retry("1.1", "api")),
        ("drain", {"replica": "shop-1"}, 202, Drain("shop-1", "api")),
        ("abort", {"by": "ann"}, 202, Abort("ann")),
    ],
)
async def test_a_verb_reaches_the_deployer_and_its_answer_comes_back(
    gateway: Gateway,
    deployer: Deployer,
    token: Callable[[], str],
    verb: str,
    body: dict[str, str],
    code: int,
    command: Command,
) -> None:
    await ready(gateway, deployer, "shop")
    answer = await tell(gateway, token(), verb, {}, **body)
    assert answer.status_code == code
    assert deployer.obeyed == [command]
    started = "" if verb == "pause" else "d-1"
    assert answer.json() == {"app": "shop", "host": "web-1", "message": "done", "deployment": started}


async def test_what_the_deployer_refuses_is_a_conflict(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str]
) -> None:
    await ready(gateway, deployer, "shop")
    answer = await tell(gateway, token(), "deploy", {}, release="9.9")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "the registry offers no release 9.9"


async def test_of_several_applications_one_must_be_named(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str]
) -> None:
    assert (await tell(gateway, token(), "pause", {})).status_code == 404
    await ready(gateway, deployer, "shop", "blog")
    answer = await tell(gateway, token(), "pause", {})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "several applications match: name app and host, of blog on web-1, shop on web-1"
    assert (await tell(gateway, token(), "pause", {}, app="blog")).status_code == 200
    assert (await tell(gateway, token(), "pause", {}, app="mail")).status_code == 404


async def test_a_deployer_that_is_away_is_told(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str], bus: Bus
) -> None:
    async with publishing(bus, "deployer", "d-1") as outbox:
        outbox.record(ServiceStarted(1.0, "deployer:gone", "0.1.0", 42))
    await gateway.until("/api/status", lambda got: '"name":"gone"' in got.text)
    answer = await tell(gateway, token(), "pause", {})
    assert answer.status_code == 503
    assert "is it running?" in answer.json()["detail"]


MISTAKES = [
    ("deploy", b""),
    ("deploy", b"null"),
    ("deploy", b"[]"),
    ("deploy", b"{"),
    ("deploy", b"\xff"),
    ("deploy", b'{"release": 1}'),
    ("deploy", b'{"relaese": "1.1"}'),
    ("deploy", b'{"app": "a.b"}'),
    ("deploy", b'{"app": "*"}'),
    ("deploy", b'{"release": "a b"}'),
    ("deploy", b'{"by": "' + b"x" * 256 + b'"}'),
    ("drain", b"{}"),
    ("drain", b'{"replica": ""}'),
]


async def test_a_body_that_makes_no_sense_is_a_problem_of_one_line(
    client: httpx.AsyncClient, token: Callable[[], str]
) -> None:
    for verb, body in MISTAKES:
        answer = await client.post(f"/api/{verb}", content=body, headers={"authorization": f"Bearer {token()}"})
        assert answer.status_code == 400, body
        assert answer.text.count("\n") == 1


@pytest.mark.parametrize(
    "body", [{"by": "ann\n"}, {"app": "shop\n"}, {"app": "\n"}, {"replica": "x\n"}, {"host": "h\n"}]
)
async def test_a_word_with_a_newline_at_its_end_is_refused(
    body: dict[str, str], client: httpx.AsyncClient, token: Callable[[], str]
) -> None:
    verb = "drain" if "replica" in body else "pause"
    answer = await client.post(f"/api/{verb}", json=body, headers={"authorization": f"Bearer {token()}"})
    assert answer.status_code == 400


async def test_a_body_without_end_is_refused(client: httpx.AsyncClient, token: Callable[[], str]) -> None:
    answer = await client.post("/api/deploy", content=b" " * (65 << 10), headers={"authorization": f"Bearer {token()}"})
    assert answer.status_code == 413
    assert answer.json()["status"] == 413


async def test_the_trace_context_of_a_request_goes_on_to_the_deployer(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str]
) -> None:
    await ready(gateway, deployer, "shop")
    await tell(gateway, token(), "pause", {"traceparent": PARENT, "tracestate": "a=1"})
    await tell(gateway, token(), "pause", {"traceparent": "nonsense", "tracestate": "a=1"})
    assert deployer.headers == [{"traceparent": PARENT, "tracestate": "a=1"}, {}]


@pytest.mark.parametrize(
    "parent", ["", "00", PARENT.upper(), f"01{PARENT[2:]}", f"{PARENT}-x", f"00-{'0' * 32}-b7ad6b7169203331-01"]
)
def test_only_a_valid_trace_context_is_passed_on(parent: str) -> None:
    assert trace_context({"traceparent": parent, "tracestate": "a=1"}) == {}
    assert trace_context({"traceparent": PARENT}) == {"traceparent": PARENT}


def test_an_application_whose_deployer_has_ended_must_be_named() -> None:
    log = Log()
    log.say("d", ServiceStarted(1.0, "deployer:web", "1", 1))
    assert target(log.state, "", "") == ("host", "web")
    log.say("d", ServiceStopped(2.0, "stopped"))
    with pytest.raises(HTTPException, match="there are: none"):
        target(log.state, "", "")
    assert target(log.state, "web", "") == ("host", "web")


def test_the_gateway_may_send_commands_to_deployers_and_nothing_else() -> None:
    allowed = permissions("gateway", ACCESS["gateway"])["publish"]["allow"]
    assert [subject for subject in allowed if "commands" in subject] == ["longshore.commands.deployer.>"]
    for service in ("proxy", "health", "deployer"):
        assert not [one for one in permissions(service, ACCESS[service])["publish"]["allow"] if "commands" in one]


@pytest.mark.parametrize("body", [{"by": "ann\n"}, {"app": "shop\n"}, {"host": "web-1\n"}, {"release": "1.1\n"}])
async def test_a_word_that_ends_with_a_line_break_is_refused(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str], body: dict[str, str]
) -> None:
    await ready(gateway, deployer, "shop")
    assert (await tell(gateway, token(), "deploy", {}, **body)).status_code == 400
    assert (await gateway.get("/api/events?app=shop%0A")).status_code == 400
    assert deployer.obeyed == []


@pytest.mark.parametrize("reply", [b"", b"{}", b'{"ok": "yes"}', b"\xff"])
async def test_an_answer_that_is_no_answer_is_503_in_one_line(
    gateway: Gateway, bus: Bus, token: Callable[[], str], reply: bytes
) -> None:
    async def answer(_command: bytes, _headers: Mapping[str, str]) -> bytes:
        return reply

    await bus.respond(subjects.commands("shop", "web-1"), answer)
    async with publishing(bus, "deployer", "d-1") as outbox:
        outbox.record(ServiceStarted(1.0, "deployer:shop", "0.1.0", 42))
    await gateway.until("/api/status", lambda got: '"name":"shop"' in got.text)
    got = await tell(gateway, token(), "pause", {})
    assert got.status_code == 503
    assert "shop on web-1" in got.json()["detail"]
    assert "Traceback" not in gateway.log.read_text()
