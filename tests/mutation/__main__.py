"""Try mutants of the modules that decide, and say which of them no test notices.

Exits with 1 when too few are killed, when one survives that is not in the list, and when one in the list does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, settings

from tests.mutation.run import Outcome, run

LEAST = 90
"""So many of a hundred mutants of a module must be killed."""


class Survivor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mutant that may survive, and why."""

    place: str
    change: str
    reason: str


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module that decides, the files with its fast tests, and the mutants that may survive."""

    source: str
    tests: list[str]
    survivors: list[Survivor] = []


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="names in the table (default: all)")
    parser.add_argument("--table", type=Path, default=Path(__file__).with_name("modules.toml"))
    options = parser.parse_args()
    table = msgspec.toml.decode(options.table.read_bytes(), type=dict[str, Module])
    if unknown := set(options.modules) - set(table):
        parser.error(f"no such module: {' '.join(sorted(unknown))}; there are {' '.join(table)}")
    # The same examples for each mutant, nothing that depends on the speed, and no search for the smallest failure.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    print(f"{'module':<12}{'mutants':>8}{'killed':>8}{'percent':>9}{'seconds':>9}")
    return max([_try(name, table[name]) for name in options.modules or table])


def _try(name: str, module: Module) -> int:
    began = time.monotonic()
    outcome = run(module.source, module.tests)
    if outcome.trouble:
        print(f"{name}: {outcome.trouble}", file=sys.stderr)
        return 1
    killed = outcome.mutants - len(outcome.survivors)
    percent = 100 * killed / outcome.mutants
    seconds = time.monotonic() - began
    print(f"{name:<12}{outcome.mutants:>8}{killed:>8}{percent:>9.1f}{seconds:>9.1f}")
    complaints = _complaints(module, outcome)
    if percent < LEAST:
        complaints.append(f"less than {LEAST} % are killed")
    for line in [*_known(module, outcome), *complaints]:
        print(f"  {line}")
    sys.stdout.flush()
    return int(bool(complaints))


def _known(module: Module, outcome: Outcome) -> list[str]:
    return [
        f"survives: {one.place}: {one.change} ({one.reason})"
        for one in module.survivors
        if (one.place, one.change) in outcome.survivors
    ]


def _complaints(module: Module, outcome: Outcome) -> list[str]:
    listed = {(one.place, one.change) for one in module.survivors}
    survivors = set(outcome.survivors)
    return [
        *(f"SURVIVES, and is not listed: {place}: {change}" for place, change in sorted(survivors - listed)),
        *(f"IS LISTED, and does not survive: {place}: {change}" for place, change in sorted(listed - survivors)),
    ]


if __name__ == "__main__":
    sys.exit(main())
