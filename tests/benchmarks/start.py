"""What it costs to start a process: CPU time of the command line, and of each service until it connects to the bus.

Prints the table of docs/performance.md: python -m tests.benchmarks.start [runs]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

from tests.support.harness import clean_environment

SERVICES = ("proxy", "deployer", "health", "gateway")
STOP = ["--bus-timeout", "0"]
"""Ends a service with a message when everything is imported and its options are checked, before it does anything."""


def main(runs: int) -> None:
    commands = {"python -c pass": ["-c", "pass"]}
    commands |= {f"longshore {word}": ["-m", "services.cli.main", word] for word in ("--version", "--help")}
    commands |= {f"longshore {name}": ["-m", "services.cli.main", name, *STOP] for name in SERVICES}
    commands["a proxy worker"] = ["-c", "import services.proxy.worker.worker"]
    print("| process | CPU milliseconds | modules |\n|---|---|---|")
    for name, words in commands.items():
        print(f"| {name} | {statistics.median(_cpu(words) for _ in range(runs)) * 1000:.0f} | {_modules(words)} |")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=clean_environment(), capture_output=True, text=True, check=False
    )


def _cpu(words: list[str]) -> float:
    """Seconds in user and system mode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _modules(words: list[str]) -> int:
    return sum(line.startswith("import time:") for line in _run("-X", "importtime", *words).stderr.splitlines()) - 1


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
