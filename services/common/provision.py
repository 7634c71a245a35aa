"""What the bus must hold before anyone works with it: the stream of the log, the buckets, the object stores."""

from __future__ import annotations

import nats.js.errors
from nats.js.api import RetentionPolicy, StorageType, StoreCompression, StreamConfig
from nats.js.client import JetStreamContext

from schemas import subjects

MAX_AGE = 7 * 24 * 3600.0
MAX_BYTES = 8 << 30
DUPLICATE_WINDOW = 120.0


async def provision(jetstream: JetStreamContext, replicas: int, max_age: float, max_bytes: int) -> None:
    """Create what is missing; what is there stays as it is. `max_age` in seconds. Raises the client's errors."""
    await _stream(jetstream, replicas, max_age, max_bytes)
    for bucket in subjects.BUCKETS:
        await _bucket(jetstream, bucket, replicas)
    for store in subjects.OBJECT_STORES:
        await _object_store(jetstream, store, replicas)


async def _stream(jetstream: JetStreamContext, replicas: int, max_age: float, max_bytes: int) -> None:
    config = StreamConfig(
        name=subjects.STREAM,
        description="What happened, in order",
        subjects=[subjects.ALL_EVENTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        compression=StoreCompression.S2,
        max_age=max_age,
        max_bytes=max_bytes,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=replicas,
        allow_direct=True,
    )
    try:
        await jetstream.stream_info(subjects.STREAM)
    except nats.js.errors.NotFoundError:
        await jetstream.add_stream(config)


async def _bucket(jetstream: JetStreamContext, bucket: str, replicas: int) -> None:
    try:
        await jetstream.key_value(bucket)
    except nats.js.errors.BucketNotFoundError:
        await jetstream.create_key_value(bucket=bucket, history=1, replicas=replicas)


async def _object_store(jetstream: JetStreamContext, store: str, replicas: int) -> None:
    try:
        await jetstream.object_store(store)
    except nats.js.errors.BucketNotFoundError:
        await jetstream.create_object_store(store, storage=StorageType.FILE, replicas=replicas)
