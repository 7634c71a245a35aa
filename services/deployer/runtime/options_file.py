"""The file with the options of the replicas that run: so a failed change of options can be undone at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from services.common.files import replace_atomically
from services.deployer.runtime.options import Options, decode, encode, fingerprint
from services.deployer.variables import masking

FILE = "options.json"


class OptionsFile:
    """The options of the replicas of an application by their fingerprints, in a file that its owner alone can read.

    They are not on the bus, because they may hold secrets.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def find(self, wanted: str) -> Options | None:
        """Return options by their fingerprint, None if they are not kept."""
        return self._read().get(wanted)

    def keep(self, options: Options, others: Collection[str]) -> None:
        """Keep these options, and of the others those with these fingerprints. Raises OSError."""
        kept = {name: one for name, one in self._read().items() if name in others}
        replace_atomically(self._path, encode(kept | {fingerprint(options): options}))

    def hidden(self, names: Collection[str]) -> set[str]:
        """Return what an output must not show of the kept options: replicas run with them, whatever the files hold now.

        `names`: variables that are secrets, whatever their name.
        """
        return {one for options in self._read().values() for one in masking.values(options.environment, names)}

    def forget(self) -> None:
        """Remove the file: no replica is left, and it may hold secrets."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Options]:
        with contextlib.suppress(OSError, ValueError):
            return decode(self._path.read_bytes())
        return {}
