"""The choice of the replicas whose output a reader wants. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import LongshoreError
from services.common.text import first_few
from services.deployer.runtime.entry import Kept


def choose(kept: Sequence[Kept], names: Sequence[str], previous: bool) -> list[str]:
    """Return the replicas with these names, or all that run; with `previous`, the one before each of them in its slot.

    `kept` begins with the replica that was started first. Raises LongshoreError when there is no such replica.
    """
    known = {one.id: one for one in kept}
    for name in names:
        if name not in known:
            raise LongshoreError(
                f"the output of replica {name!r} is not kept here; it is of {first_few(_newest(kept)) or 'none'}"
            )
    chosen = [known[name] for name in names] or [one for one in kept if one.runs]
    if previous:
        return _previous(kept, chosen, bool(names))
    if not chosen:
        ended = first_few(_newest(kept))
        raise LongshoreError(
            f"no replica runs; ended: {ended}; use --previous for the last of each slot"
            if ended
            else "no replica has run here so far"
        )
    return [one.id for one in chosen]


def _previous(kept: Sequence[Kept], chosen: Sequence[Kept], is_named: bool) -> list[str]:
    """Return the replica before each chosen one; of all slots, also of those in which none runs, when none is named."""
    found: dict[str, None] = {}
    if is_named:
        for one in chosen:
            before = [other for other in kept if other.slot == one.slot and other.started < one.started]
            if not before:
                raise LongshoreError(f"no output is kept of a replica before {one.id}: drop --previous")
            found[before[-1].id] = None
    else:
        found = dict.fromkeys({one.slot: one.id for one in kept if not one.runs}.values())
    if not found:
        raise LongshoreError("no replica has ended so far: drop --previous")
    return list(found)


def _newest(kept: Sequence[Kept]) -> list[str]:
    return [one.id for one in reversed(kept)]
