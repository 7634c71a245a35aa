"""The state of a running gateway, and its distance from the end of the log."""

from __future__ import annotations

import time
from collections import Counter

from services.common.bus.connection import Bus
from services.common.jetstream.lease import Lease
from services.common.jetstream.log_reader import LogMessage, describe
from services.common.version import VERSION
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.instruments.instrument import Measurement, Role
from services.metrics_gateway.state.state import State


class Projection:
    """Folds the messages of the log into the state.

    Nothing is shown before `is_caught_up`, so that no counter goes back. `is_whole`: no message is applied by half.
    `saved` is when the state was last saved, or the gateway started (unix seconds). `leases` are those of this
    gateway's roles.
    """

    def __init__(self, bus: Bus, process: str = "", host: str = "") -> None:
        self.state = State()
        self.folded = 0
        self.backlog: int | None = None
        self.pending = 0
        self.fold_seconds = 0.0
        self.leases: dict[Role, Lease] = {}
        self.is_whole = True
        self.saved = time.time()
        self.otlp_exports = Counter(success=0, failure=0)
        self.otlp_spans = Counter(success=0, failure=0, dropped=0)
        self._bus = bus
        self._process, self._host = process, host

    @property
    def is_caught_up(self) -> bool:
        """Whether everything is folded that the log held when reading began."""
        return self.backlog is not None and self.folded >= self.backlog

    @property
    def is_connected(self) -> bool:
        """Whether the bus is connected."""
        return self._bus.is_connected

    @property
    def age(self) -> float:
        """Seconds since the newest message of the state was stored."""
        return max(0.0, time.time() - self.state.time)

    def has_role(self, role: Role) -> bool:
        """Return whether this gateway has the role now. Ask right before each action."""
        lease = self.leases.get(role)
        return lease is None or lease.is_held

    async def is_behind(self, position: int) -> bool:
        """Return whether the log holds messages up to `position` that are not folded yet. Raises BusError.

        A log that was created again, or has lost its end, may never reach the position.
        """
        return self.state.position < position <= (await describe(self._bus)).last

    def fold(self, message: LogMessage) -> None:
        """Apply a message of the log."""
        if self.backlog is None:
            self.backlog = message.pending + 1
        self.is_whole = False
        self.skip_lost(message.sequence)
        began = time.perf_counter()
        apply(self.state, message.sequence, message.time, message.payload, message.subject, message.began)
        self.fold_seconds += time.perf_counter() - began
        self.is_whole = True
        self.folded += 1
        self.pending = message.pending

    def skip_lost(self, first: int) -> int:
        """Move to the message of sequence `first`. Return how many before it have left the log, after counting them.

        Messages from before anything was folded do not count.
        """
        lost = max(0, first - self.state.position - 1) if self.state.position else 0
        self.state.messages_lost += lost
        self.state.position += lost
        return lost

    def measurement(self) -> Measurement:
        """Return the present input of the instruments."""
        dropped = self.otlp_spans["dropped"] + self.state.tracing.dropped
        return Measurement(
            self.state,
            now=time.time(),
            version=VERSION,
            bus_connected=self.is_connected,
            otlp_exports=dict(self.otlp_exports),
            saved=self.saved,
            pending=self.pending,
            fold_seconds=self.fold_seconds,
            otlp_spans=dict(self.otlp_spans) | {"dropped": dropped},
            roles={role: lease.is_held for role, lease in self.leases.items()},
            process=self._process,
            host=self._host,
        )
