"""The resources that all connections of a worker share."""

from __future__ import annotations

import resource

import msgspec

from services.proxy.messages import Limits
from services.proxy.worker.admission import Admission
from services.proxy.worker.channel import Channel
from services.proxy.worker.loop import Loop
from services.proxy.worker.recorder import Recorder
from services.proxy.worker.relay.pipes import MOST_IN_USE, Pipes

_MOST_FILES = 1 << 20  # where the system sets no limit
_OTHER_FILES = 32  # listeners, epoll, the channel, the black box and a reserve


class Resources(msgspec.Struct, frozen=True):
    """The loop, the channel to the master, and the limited resources."""

    loop: Loop
    channel: Channel
    recorder: Recorder
    limits: Limits
    admission: Admission
    pipes: Pipes


def raise_file_limit() -> int:
    """Raise the limit of open files as far as this process may; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def share(files: int) -> tuple[int, int]:
    """Return the numbers of connections and pipes, of two files each, that so many open files allow."""
    pipes = min(MOST_IN_USE, files // 16)  # at most an eighth of the files: without a pipe, bytes are copied
    return max(1, (files - _OTHER_FILES - 2 * pipes) // 2), pipes
