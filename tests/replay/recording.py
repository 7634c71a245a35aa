"""Logs in files for the tests of replay, and the golden file of each version of the format.

`python -m tests.replay.recording` writes the file of the version that is current, once: it never changes afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from schemas import codec, subjects
from services.replay.log.logfile import VERSION, Header, Record, Writer
from tests.metrics_gateway import recording

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / f"golden-v{VERSION}.log"
NUMBERS = FOLDER / "golden.json"


def records(payloads: Iterable[bytes]) -> list[Record]:
    """Payloads as messages of a stream, stored a tenth of a second apart."""
    return [
        Record(number, recording.START + number / 10, _subject(payload), payload)
        for number, payload in enumerate(payloads, 1)
    ]


def write(path: Path, log: Iterable[Record], whole: bool = True, every: int = 100) -> Path:
    """A log file with a frame for every few records."""
    with path.open("wb") as file:
        writer = Writer(file, Header(VERSION, recording.STREAM))
        for number, record in enumerate(log, 1):
            writer.add(record)
            if number % every == 0:
                writer.flush()
        writer.close() if whole else writer.flush()
    return path


def recorded() -> list[Record]:
    """The recorded log of the gateway's tests."""
    return records(recording.read(recording.LOG))


def _subject(payload: bytes) -> str:
    try:
        batch = codec.decode(payload).batch
    except msgspec.MsgspecError:
        return subjects.events("proxy", recording.APP)
    return subjects.events(batch.service, batch.app)


if __name__ == "__main__" and not GOLDEN.exists():
    write(GOLDEN, recorded())
