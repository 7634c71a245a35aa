"""What everything together costs while nothing happens: resident memory and CPU of each process.

Prints the table of docs/performance.md: python -m tests.benchmarks.idle [seconds]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from services.demo import releases
from tests.support.harness import Server, wait_for, workers

REPLICAS = 2
TICKS = os.sysconf("SC_CLK_TCK")


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--stop-containers", "--replicas", str(REPLICAS), "--workers", "2")
        releases.publish(server.registry, releases.FIRST)
        server.start()
        try:
            wait_for("it serves", lambda: server.serves(releases.FIRST))
            time.sleep(5)
            measure(processes(server), seconds)
        finally:
            server.stop()


def processes(server: Server) -> dict[str, int]:
    """Name and process id of everything that belongs to Longshore, the replicas' shims included."""
    found = {"supervisor": server.pid, **server.children()}
    found |= {f"proxy worker {n}": pid for n, pid in enumerate(workers(found["proxy"]), 1)}
    return found | {f"shim {n}": pid for n, pid in enumerate(server.shims(), 1)}


def measure(pids: dict[str, int], seconds: float) -> None:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    used = {name: (cpu_seconds(pid) - before[name]) / seconds * 100 for name, pid in pids.items()}
    memory = {name: memory_mib(pid) for name, pid in pids.items()}
    print("| process | resident MiB | proportional MiB | CPU % of one core |\n|---|---|---|---|")
    for name in pids:
        print(f"| {name} | {memory[name][0]:.1f} | {memory[name][1]:.1f} | {used[name]:.2f} |")
    resident, proportional = (sum(values) for values in zip(*memory.values(), strict=True))
    print(f"| all | {resident:.1f} | {proportional:.1f} | {sum(used.values()):.2f} |")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> tuple[float, float]:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(rows["Rss"].split()[0]) / 1024, int(rows["Pss"].split()[0]) / 1024


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
