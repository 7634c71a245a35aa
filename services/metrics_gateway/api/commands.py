"""The commands to the deployers: POST, JSON, always with the admin token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from schemas import subjects
from schemas.commands import Abort, Command, Deploy, Drain, Pause, Reply, Resume, Retry, Rollback
from schemas.subjects import DEPLOYER_UNIT
from services.common import tracing
from services.common.errors import BusError
from services.metrics_gateway.api.dependencies import Gateway, InjectedGateway
from services.metrics_gateway.api.parameters import NAME
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.state.state import AppKey, State

DEFAULT_ACTOR = "api"
ACCEPTED = 202
PROBLEMS = specs(401, 404, 409, 413, 503)
SECURITY: list[dict[str, list[str]]] = [{"admin": []}]


PRINTABLE = r"^[!-~]*$(?!\n)"
"""Python's `$` also matches before a last newline; JavaScript, which reads this in the schema, has no `\\Z`."""

Word = Annotated[str, msgspec.Meta(max_length=255, pattern=PRINTABLE)]


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common fields of all commands. `by`: who sends it, for the log.

    An empty `app` stands for the only application that has a deployer.
    """

    app: Annotated[str, msgspec.Meta(pattern=NAME)] = ""
    host: Word = ""
    by: Word = DEFAULT_ACTOR


class DeployRequest(CommandRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`release`: empty for the newest that the registry offers."""

    release: Word = ""


class RollbackRequest(CommandRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`to`: the release; empty for the one before the current one."""

    to: Word = ""


class RetryRequest(CommandRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`release`: empty for a change of options that failed, else for the newest release in quarantine."""

    release: Word = ""


class DrainRequest(CommandRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`replica`: its id, as in /api/containers."""

    replica: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=PRINTABLE)]


class CommandResult(msgspec.Struct, frozen=True):
    """The deployer's reply. `deployment` is set when it started or aborted one; its events show the progress."""

    app: str
    host: str
    message: str
    deployment: str


def _command(path: str, status_code: int = ACCEPTED) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    return post(path, status_code=status_code, responses=PROBLEMS, opt={"access": "command"}, security=SECURITY)


@_command("/api/deploy")
async def deploy(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[DeployRequest]
) -> CommandResult:
    """Roll out a release now."""
    return await _send(gateway, request.headers, data, Deploy(data.release, data.by))


@_command("/api/rollback")
async def rollback(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[RollbackRequest]
) -> CommandResult:
    """Return to an earlier release and stay there until `resume`."""
    return await _send(gateway, request.headers, data, Rollback(data.to, data.by))


@_command("/api/pause", 200)
async def pause(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[CommandRequest]
) -> CommandResult:
    """Deploy nothing new until `resume`; what runs is kept running."""
    return await _send(gateway, request.headers, data, Pause(data.by))


@_command("/api/resume", 200)
async def resume(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[CommandRequest]
) -> CommandResult:
    """Follow the registry again."""
    return await _send(gateway, request.headers, data, Resume(data.by))


@_command("/api/retry")
async def retry(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[RetryRequest]
) -> CommandResult:
    """Lift the quarantine of a release or of a change of options, and deploy it again."""
    return await _send(gateway, request.headers, data, Retry(data.release, data.by))


@_command("/api/drain")
async def drain(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[DrainRequest]
) -> CommandResult:
    """Take a replica out of traffic, wait for its connections, and replace it."""
    return await _send(gateway, request.headers, data, Drain(data.replica, data.by))


@_command("/api/abort")
async def abort(
    request: Request[Any, Any, Any], gateway: InjectedGateway, data: JSONBody[CommandRequest]
) -> CommandResult:
    """End the deployment under way: roll it back, and quarantine its release."""
    return await _send(gateway, request.headers, data, Abort(data.by))


async def _send(
    gateway: Gateway, headers: Mapping[str, str], wanted: CommandRequest, command: Command
) -> CommandResult:
    """Send a command to the deployer of the application.

    Raises HTTPException: 404 or 409 if the application is not clear, 409 if the deployer refuses, 503 if it is away.
    """
    host, app = target(gateway.projection.state, wanted.app, wanted.host)
    try:
        payload = await gateway.bus.request(subjects.commands(app, host), command, headers=trace_context(headers))
    except BusError as error:
        raise HTTPException(status_code=503, detail=str(error)) from None
    try:
        reply = msgspec.json.decode(payload, type=Reply)
    except msgspec.MsgspecError:
        detail = f"the reply for {app} on {host} is not from a deployer of this version: see its log"
        raise HTTPException(status_code=503, detail=detail) from None
    if not reply.ok:
        raise HTTPException(status_code=409, detail=reply.message)
    return CommandResult(app, host, reply.message, reply.deployment)


def target(state: State, app: str, host: str) -> AppKey:
    """Return the host and app that are meant: one that has or had a deployer. Raises HTTPException."""
    delivered = {(at, unit.removeprefix(DEPLOYER_UNIT)) for at, unit in state.units if unit.startswith(DEPLOYER_UNIT)}
    known = delivered | state.apps.keys() if app else delivered
    found = sorted(key for key in known if app in ("", key[1]) and host in ("", key[0]))
    names = ", ".join(f"{name} on {at}" for at, name in sorted(delivered)) or "none"
    if not found:
        raise HTTPException(status_code=404, detail=f"no such application; there are: {names}")
    if len(found) > 1:
        raise HTTPException(status_code=409, detail=f"several applications match: name app and host, of {names}")
    return found[0]


def trace_context(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the W3C trace context of a request, to be passed on; empty if it has no valid one."""
    parent = headers.get("traceparent", "")
    if not tracing.parse(parent):
        return {}
    found = {"traceparent": parent, "tracestate": headers.get("tracestate", "")}
    return {name: value for name, value in found.items() if value}


REQUESTS = (CommandRequest, DeployRequest, RollbackRequest, RetryRequest, DrainRequest)
HANDLERS = [deploy, rollback, pause, resume, retry, drain, abort]
