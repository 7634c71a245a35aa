"""The newest few snapshots on the bus.

Each is an object of its own, replaced as a whole or not at all. One of the gateways on a bus saves. If a gateway that
was suspended saves late, it replaces one object, and readers take the newest of the others.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from services.common.errors import ObjectError
from services.common.jetstream.log_reader import Stream
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.snapshots.snapshot import Snapshot, SnapshotError, decode, restore
from services.metrics_gateway.state.state import State

REPLACED = "the log was created again: the numbers continue with its messages"
SLOTS = ("state-0", "state-1", "state-2")


class Store:
    """Snapshots in the object store. Every method raises BusError when the bus does not answer."""

    def __init__(self, objects: Objects, logger: FilteringBoundLogger) -> None:
        self._objects = objects
        self._log = logger
        self._oldest_first = list(SLOTS)

    async def load(self, stream: Stream) -> State | None:
        """Return the newest state that can be used with this stream, None if there is none."""
        await self._objects.sweep()
        found = await self.survey(stream)
        for slot in reversed(self._oldest_first):
            try:
                if slot in found:
                    state = restore(found[slot])
                    self._warn_replaced_stream(found[slot], stream)
                    return state
            except SnapshotError as error:
                self._reject(slot, error)
        return None

    async def survey(self, stream: Stream) -> dict[str, Snapshot]:
        """Return the existing snapshots by object. The next save replaces the oldest of them."""
        found = {slot: snapshot for slot in SLOTS if (snapshot := await self._read(slot, stream))}
        self._oldest_first = sorted(SLOTS, key=lambda slot: _age(found.get(slot)))
        return found

    async def save(self, data: bytes) -> None:
        """Replace the oldest snapshot."""
        await self._objects.put(self._oldest_first[0], data)
        self._oldest_first.append(self._oldest_first.pop(0))

    async def _read(self, slot: str, stream: Stream) -> Snapshot | None:
        try:
            data = await self._objects.get(slot)
            return None if data is None else decode(data, stream.created, stream.last)
        except (ObjectError, SnapshotError) as error:
            self._reject(slot, error)
            return None

    def _warn_replaced_stream(self, snapshot: Snapshot, stream: Stream) -> None:
        if snapshot.stream != stream.created:
            self._log.warning(REPLACED, snapshot=snapshot.stream, log=stream.created)

    def _reject(self, slot: str, error: Exception) -> None:
        self._log.warning("snapshot not used", object=slot, reason=str(error))


def _age(snapshot: Snapshot | None) -> tuple[int, int]:
    """Return a key that sorts snapshots by age. The count of events only grows, whatever the stream."""
    return (snapshot.events, snapshot.position) if snapshot else (-1, -1)
