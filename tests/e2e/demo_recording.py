"""`python -m tests.e2e.demo_recording` records the demo, and writes what it prints into the README."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.harness import LONGSHORE, clean_environment

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"(?<=demo_recording` records this block\. -->\n```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    command = ["demo", "--once"]
    demo = subprocess.run([LONGSHORE, *command], env=clean_environment(), capture_output=True, text=True, check=True)
    text, count = BLOCK.subn(lambda _: f"$ longshore {' '.join(command)}\n{demo.stdout}", README.read_text())
    assert count == 1, "README.md has no such block"
    README.write_text(text)


if __name__ == "__main__":
    main()
