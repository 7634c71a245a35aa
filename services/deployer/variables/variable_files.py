"""The settings of replicas' variables, with the files that hold their values."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.common.errors import ReleaseError, SettingsError
from services.deployer.variables.masking import SHORTEST
from services.deployer.variables.masking import secrets as secrets_in
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

    def hidden(self) -> set[str]:
        """Return what an output must not show: each secret, and the variables whose name says that they are one."""
        try:
            variables = self.load()
        except ReleaseError:  # a file was removed since: what it held is not known any more
            variables = dict(text.split("=", 1) for text in self.env)
        names = {text.partition("=")[0] for text in self.secrets}
        lines_of_secrets = (line.strip() for name in names for line in variables.get(name, "").splitlines())
        return secrets_in(variables.items()) | {line for line in lines_of_secrets if len(line) >= SHORTEST}
