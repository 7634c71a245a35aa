"""The process that has apprise loaded, for as long as one errand takes: `apprise_process check` or `... send`.

It reads its errand from standard input, for a command line can be read by everyone on the host, and writes its answer
as JSON: for a check, what is wrong with each URL; for a message, why it was not delivered. Nothing wrong is "".
"""

from __future__ import annotations

import logging
import sys

import apprise
import msgspec

from services.deployer.notifications.target import scrubbed


class DeliveryRequest(msgspec.Struct):
    url: str
    title: str
    text: str
    level: str


class LastLogMessage(logging.Handler):
    """The last thing that apprise warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def check(urls: list[str], last_message: LastLogMessage) -> list[str]:
    return [flaw(url, last_message) for url in urls]


def flaw(url: str, last_message: LastLogMessage) -> str:
    last_message.last = ""
    if apprise.Apprise.instantiate(url) is not None:
        return ""
    return scrubbed(last_message.last, url) or "apprise does not understand it"


def send(request: DeliveryRequest, last_message: LastLogMessage) -> str:
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
