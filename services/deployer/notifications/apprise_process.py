"""The process that has apprise loaded, for as long as one request takes: `apprise_process check` or `... send`.

It reads the request from standard input, because everyone on the host can read a command line, and writes its answer as
JSON: for a check, the problem of each URL; for a message, why it was not delivered. No problem is "".
"""

from __future__ import annotations

import logging
import sys

import apprise
import msgspec

from services.deployer.notifications.target import scrubbed


class DeliveryRequest(msgspec.Struct):
    """A message to send. `url` holds secrets."""

    url: str
    title: str
    text: str
    level: str


class LastLogMessage(logging.Handler):
    """The last warning that apprise logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the message."""
        self.last = record.getMessage()


def check(urls: list[str], last_message: LastLogMessage) -> list[str]:
    """Return the problem of each URL, empty if apprise understands it."""
    return [flaw(url, last_message) for url in urls]


def flaw(url: str, last_message: LastLogMessage) -> str:
    """Return the problem of a URL, without any part of it; empty if apprise understands it."""
    last_message.last = ""
    if apprise.Apprise.instantiate(url) is not None:
        return ""
    return scrubbed(last_message.last, url) or "apprise does not understand it"


def send(request: DeliveryRequest, last_message: LastLogMessage) -> str:
    """Send a message. Return why it was not delivered, empty if it was."""
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Longshore", app_desc="Longshore"))
    if not sender.add(request.url):
        return "apprise does not understand it"
    is_delivered = sender.notify(
        title=request.title,
        body=request.text,
        notify_type=apprise.NotifyType(request.level),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return "" if is_delivered else scrubbed(last_message.last, request.url) or "apprise could not deliver it"


def main() -> None:
    """Serve one request."""
    last_message = LastLogMessage()
    logger = logging.getLogger("apprise")
    logger.addHandler(last_message)
    logger.propagate = False
    request = sys.stdin.buffer.read()
    answer: object
    if sys.argv[1] == "check":
        answer = check(msgspec.json.decode(request, type=list[str]), last_message)
    else:
        answer = send(msgspec.json.decode(request, type=DeliveryRequest), last_message)
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
