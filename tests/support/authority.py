"""Certificates made by openssl, as a user makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """An authority in a folder, and the certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority", "-days", "2")

    def _openssl(self, *command: str) -> None:
        files = ["-keyout", str(self._key), "-out", str(self.certificate)]
        openssl(*command, *files)

    def sign(self, name: str, *validity: str) -> tuple[Path, Path]:
        """Certificate and key of `name`, for localhost; `validity` as openssl x509 takes it, a day if empty."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost\n")
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)
        )
        command = ["x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)]
        command += ["-CAcreateserial", "-extfile", str(extensions), "-out", str(certificate)]
        openssl(*command, *(validity or ("-days", "1")))
        return certificate, key


def openssl(*command: str) -> None:
    done = subprocess.run(["openssl", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
