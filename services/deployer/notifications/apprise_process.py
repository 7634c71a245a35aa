"""The process that has apprise loaded, for as long as one errand takes: `messenger_process check` or `... send`.

It reads its errand from standard input, for a command line can be read by everyone on the host, and writes its answer
as JSON: for a check, what is wrong with each URL; for a message, why it was not delivered. Nothing wrong is "".
"""

from __future__ import annotations

import logging
import sys

import apprise
import msgspec

from services.deployer.notifications.target import scrubbed


class Errand(msgspec.Struct):
    url: str
    title: str
    text: str
    level: str


class Remarks(logging.Handler):
    """The last thing that apprise warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def check(urls: list[str], remarks: Remarks) -> list[str]:
    return [flaw(url, remarks) for url in urls]


def flaw(url: str, remarks: Remarks) -> str:
    remarks.last = ""
    if apprise.Apprise.instantiate(url) is not None:
        return ""
    return scrubbed(remarks.last, url) or "apprise does not understand it"


def send(errand: Errand, remarks: Remarks) -> str:
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Longshore", app_desc="Longshore"))
    if not sender.add(errand.url):
        return "apprise does not understand it"
    is_delivered = sender.notify(
        title=errand.title,
        body=errand.text,
        notify_type=apprise.NotifyType(errand.level),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return "" if is_delivered else scrubbed(remarks.last, errand.url) or "apprise could not deliver it"


def main() -> None:
    remarks = Remarks()
    logger = logging.getLogger("apprise")
    logger.addHandler(remarks)
    logger.propagate = False
    errand = sys.stdin.buffer.read()
    answer: object
    if sys.argv[1] == "check":
        answer = check(msgspec.json.decode(errand, type=list[str]), remarks)
    else:
        answer = send(msgspec.json.decode(errand, type=Errand), remarks)
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
