"""What all connections of a worker share."""

from __future__ import annotations

import resource

import msgspec

from services.proxy.messages import Limits
from services.proxy.worker.admission import Admission
from services.proxy.worker.channel import Channel
from services.proxy.worker.loop import Loop
from services.proxy.worker.recorder import Recorder
from services.proxy.worker.relay.pipes import MOST_IN_USE, Pipes

_MOST_FILES = 1 << 20
_OTHER_FILES = 32


class Resources(msgspec.Struct, frozen=True):
    """The loop, the way to the master, and what there is a limited amount of."""

    loop: Loop
    channel: Channel
    recorder: Recorder
    limits: Limits
    admission: Admission
    pipes: Pipes


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def share(files: int) -> tuple[int, int]:
    """How many connections, of two files each, and pipes, of two more, so many open files allow."""
    pipes = min(MOST_IN_USE, files // 16)
    return max(1, (files - _OTHER_FILES - 2 * pipes) // 2), pipes
