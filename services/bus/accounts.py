"""The server's accounts: one for the streams, and one for each service, which reaches the streams through imports.

Permissions alone do not keep users of one account apart. The server checks which user publishes to a subject, but not
which user makes the server itself write there: a publisher names a reply subject, to which the acknowledgement goes,
and a reader of a stream names the subject to which its messages are delivered. Both stay within an account. So each
service has an account of its own, without another user, and its permissions say which of the imports it uses.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import subjects
from services.bus.permissions import ACCESS, commands, output, permissions

STORE = "LONGSHORE"
"""The account with the streams. Only the administrator is in it."""

_API = "$JS.API.>"
_STORED = (subjects.ALL_EVENTS, "$KV.>", "$O.>")


class User(msgspec.Struct, frozen=True):
    """A user and its login (`{"user": …, "password": …}` or `{"nkey": …}`). `host`: its only host; empty: all."""

    service: str
    sign_in: dict[str, str]
    host: str = ""

    @property
    def account(self) -> str:
        host = f"_{subjects.token(self.host)}" if self.host else ""
        return f"{STORE}_{self.service.upper()}{host}"


def accounts(admin: dict[str, str], users: list[User]) -> dict[str, Any]:
    """Return the server's `accounts` block."""
    names = [user.account for user in users]
    exports: list[dict[str, Any]] = [{"service": _API, "response_type": "stream", "accounts": names}]
    exports += [{"service": subject, "accounts": names} for subject in _STORED]
    store = {"jetstream": "enabled", "users": [admin], "exports": exports}
    return {STORE: store, **{user.account: _account(user, users) for user in users}}


def _account(user: User, users: list[User]) -> dict[str, Any]:
    imports = [_import(STORE, subject) for subject in (_API, *_STORED)]
    imports += [_import(one.account, commands(one.service, one.host)) for one in users if _commands(user, one)]
    imports += [
        _import(one.account, subject)
        for one in users
        if _reads_output(user, one)
        for subject in output(one.service, one.host)
    ]
    account: dict[str, Any] = {
        "users": [{**user.sign_in, "permissions": permissions(user.service, ACCESS[user.service], user.host)}],
        "imports": imports,
    }
    exports: list[dict[str, Any]] = []
    if ACCESS[user.service].answers:
        senders = [one.account for one in users if _commands(one, user)]
        exports += [{"service": commands(user.service, user.host), "accounts": senders}]
    if ACCESS[user.service].streams:
        readers = [one.account for one in users if _reads_output(one, user)]
        exports += [{"service": subject, "accounts": readers} for subject in output(user.service, user.host)]
    return account | ({"exports": exports} if exports else {})


def _commands(sender: User, executor: User) -> bool:
    can = ACCESS[executor.service].answers and executor.service in ACCESS[sender.service].commands
    return can and _reaches(sender, executor)


def _reads_output(reader: User, producer: User) -> bool:
    can = ACCESS[producer.service].streams and producer.service in ACCESS[reader.service].reads_output
    return can and _reaches(reader, producer)


def _reaches(one: User, other: User) -> bool:
    return ACCESS[one.service].all_hosts or not one.host or one.host == other.host


def _import(account: str, subject: str) -> dict[str, Any]:
    return {"service": {"account": account, "subject": subject}}
