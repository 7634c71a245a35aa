"""The cost of one sample of what replicas use: `python -m tests.benchmarks.samples [REPLICAS]`.

Processes are real ones, read from /proc. The containers are one, read so many times from the engine, whose own cost is
that of dockerd.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from services.deployer import sampling
from services.deployer.runtime import usage
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.engine import Engine
from tests.support.engine import connect

ROUNDS = 20


@contextmanager
def processes(count: int) -> Iterator[dict[str, int]]:
    """Start pairs of a session leader, as a shim is one, and its child."""
    command = ["sh", "-c", "sleep 600; true"]
    started = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield {f"web-1-0-0-{number}-abcdef": one.pid for number, one in enumerate(started)}
    finally:
        for one in started:
            os.killpg(one.pid, 9)
            one.wait()


async def cost(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Print what one call of `work` takes."""
    await work()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(ROUNDS):
        await work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    share = cpu / ROUNDS / sampling.INTERVAL * 100
    print(f"{what:40} {wall / ROUNDS * 1e3:8.1f} ms  CPU {cpu / ROUNDS * 1e3:6.1f} ms, {share:.3f} % of a core")


async def main(replicas: int) -> None:
    """Measure both runtimes."""
    total = sum(name.isdigit() for name in os.listdir("/proc"))  # noqa: PTH208 # as the measured code
    with processes(replicas) as shims:
        while len(usage.measure(shims)) < replicas:
            time.sleep(0.1)  # noqa: ASYNC251 # nothing else runs
        await cost(
            f"{replicas} processes among {total + 2 * replicas}", lambda: asyncio.to_thread(usage.measure, shims)
        )
    client = connect()
    running = client.containers.list()
    if not running:
        print("no container runs: start one to measure the engine's statistics")
        return
    engine = Engine("")
    await cost("statistics of 1 container", lambda: Containers(engine).stats(running[0].name))
    engine.close()
    client.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 100))
