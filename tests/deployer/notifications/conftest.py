"""A receiver of notices, and the secret that it shares with the deployer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployer.notifications.receiver import Receiver, receiving

SECRET = "the secret of both"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("LONGSHORE_NOTIFY_SECRET", SECRET)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with receiving() as receiver:
        yield receiver
