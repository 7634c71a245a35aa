"""Objects on the bus: values of any size, in chunks, in the format of the JetStream object store (NATS ADR-20).

An object exists, or is replaced, once its meta message is stored: an interrupted put changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from hashlib import sha256

import msgspec
import nats.errors
import nats.js.errors
from nats.js.object_store import ObjectStore

from services.common.bus.connection import Bus
from services.common.errors import BusError, ObjectError

DEADLINE = 30.0
LEFT_BEHIND = 3600.0
"""Seconds after which an unfinished put never ends, however wrong the clocks are."""


class _Meta(msgspec.Struct, frozen=True):
    """The meta message of an object: its chunks and their digest."""

    nuid: str
    digest: str = ""
    chunks: int = 0
    deleted: bool = False


class Objects:
    """The objects of one bucket. Every method raises BusError when the bus does not do it."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, data: bytes) -> None:
        """Set an object."""
        async with self._store(f"cannot write {name}") as store:
            await self._remove_if_damaged(name)
            await store.put(name, data)

    async def get(self, name: str) -> bytes | None:
        """Return an object, None if there is none. Raises ObjectError when it is damaged, or replaced meanwhile."""
        async with self._store(f"cannot read {name}"):
            meta = await self._meta(self._meta_subject(name))
            if meta is None or meta.deleted:
                return None
            content = await self._content(name, meta)
        if meta.digest != f"SHA-256={base64.urlsafe_b64encode(sha256(content).digest()).decode()}":
            raise ObjectError(f"{name} in {self._bucket} is damaged: it does not have its digest")
        return content

    async def delete(self, name: str) -> None:
        """Delete an object, which need not exist."""
        async with self._store(f"cannot delete {name}") as store:
            await self._remove_if_damaged(name)
            with contextlib.suppress(nats.js.errors.ObjectNotFoundError):
                await store.delete(name)

    async def sweep(self, age: float = LEFT_BEHIND) -> None:
        """Purge the chunks of puts that were interrupted more than `age` seconds ago; newer puts may be running."""
        async with self._store("cannot remove old chunks"):
            chunks = await self._subjects("C")
            kept = {self._chunks_subject(nuid) for nuid in await self._nuids()}
            for subject in chunks - kept:
                if await self._written(subject) <= time.time() - age:
                    await self._purge(subject)

    async def _remove_if_damaged(self, name: str) -> None:
        """Purge a damaged meta message: the client can neither replace nor delete such an object."""
        subject = self._meta_subject(name)
        try:
            await self._meta(subject)
        except ObjectError:
            await self._purge(subject)

    async def _meta(self, subject: str) -> _Meta | None:
        try:
            message = await self._bus.jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError:
            return None
        try:
            return msgspec.json.decode(message.data or b"", type=_Meta)
        except msgspec.MsgspecError:
            raise ObjectError(f"{subject} is damaged: no meta message of an object") from None

    async def _content(self, name: str, meta: _Meta) -> bytes:
        """Read the chunks one by one: the client's own get waits indefinitely when a chunk is missing."""
        chunks: list[bytes] = []
        sequence = 0
        for _ in range(meta.chunks):
            try:
                chunk = await self._bus.jetstream.get_msg(
                    self._stream, seq=sequence + 1, subject=self._chunks_subject(meta.nuid), next=True
                )
            except nats.js.errors.NotFoundError:
                raise ObjectError(f"{name} in {self._bucket} is damaged: a chunk is missing") from None
            sequence = chunk.seq or 0
            chunks.append(chunk.data or b"")
        return b"".join(chunks)

    async def _nuids(self) -> set[str]:
        found = set()
        for subject in await self._subjects("M"):
            with contextlib.suppress(ObjectError):
                meta = await self._meta(subject)
                found |= {meta.nuid} if meta else set()
        return found

    async def _subjects(self, kind: str) -> set[str]:
        info = await self._bus.jetstream.stream_info(self._stream, subjects_filter=f"$O.{self._bucket}.{kind}.>")
        return set(info.state.subjects or ())

    async def _written(self, subject: str) -> float:
        """Return the time at which a subject's newest message was stored (unix seconds); 0 if there is none."""
        with contextlib.suppress(nats.js.errors.NotFoundError):
            message = await self._bus.jetstream.get_last_msg(self._stream, subject)
            return message.time.timestamp() if message.time else 0.0
        return 0.0

    async def _purge(self, subject: str) -> None:
        await self._bus.jetstream.purge_stream(self._stream, subject=subject)

    def _meta_subject(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunks_subject(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"

    @contextlib.asynccontextmanager
    async def _store(self, what: str) -> AsyncIterator[ObjectStore]:
        try:
            async with asyncio.timeout(DEADLINE):
                yield await self._bus.jetstream.object_store(self._bucket)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{what} in {self._bucket}: {error or type(error).__name__}") from error
