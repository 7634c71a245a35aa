"""The settings of replicas' variables, with the files that hold their values."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from msgspec.structs import replace

from services.common.errors import ReleaseError, SettingsError
from services.deployer.variables import masking
from services.deployer.variables.variables import resolve


class Variables(msgspec.Struct, frozen=True):
    """The settings that name a replica's variables."""

    env: list[str] = []
    env_files: list[str] = []
    secrets: list[str] = []
    is_process: bool = True

    def load(self) -> dict[str, str]:
        """Read the files. Raises ReleaseError for one that cannot be read, or that has an invalid line."""
        try:
            return resolve(self.env, self.env_files, self.secrets, self.is_process, self._read)
        except SettingsError as error:
            raise ReleaseError(str(error)) from None

    def _read(self, file: str) -> str:
        option = "--env-file" if file in self.env_files else "--secret"
        try:
            return Path(file).read_bytes().decode()
        except OSError as error:
            raise SettingsError(f"{option} {file}: {error.strerror}; create it, or correct the path") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{option} {file}: not valid UTF-8; save it as UTF-8") from None

    @property
    def secret_names(self) -> set[str]:
        """The names of the variables that are secrets."""
        return {text.partition("=")[0] for text in self.secrets}

    def hidden(self) -> set[str]:
        """Return what an output must not show: each secret, and the variables whose name says that they are one.

        A file that cannot be read any more hides no value of the others.
        """
        parts = [
            *(replace(self, env_files=[], secrets=[], env=[one]) for one in self.env),
            *(replace(self, env=[], secrets=[], env_files=[one]) for one in self.env_files),
            *(replace(self, env=[], env_files=[], secrets=[one]) for one in self.secrets),
        ]
        found: set[str] = set()
        for part in parts:
            with contextlib.suppress(ReleaseError):
                found |= masking.values(part.load(), self.secret_names)
        return found
