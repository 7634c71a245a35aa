"""The `longshore` program: the entry point, and the errors that users see."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OLDEST_PYTHON = (3, 11)
READER_GONE = 141
"""Exit code when the reader of the output is gone (`longshore events | head -1`): that of a program ended by SIGPIPE,
as scripts expect it."""

OUR_VARIABLES = ("LONGSHORE_", "OTEL_EXPORTER_", "SCOTTY__")


def main() -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 wrong usage, each failure with one line on stderr."""
    problem = unsupported(sys.platform, tuple(sys.version_info[:2]))
    if problem:
        _fail(problem, 1)
    problem = unreadable(sys.argv, os.environ)
    if problem:
        _fail(problem, 2)
    from typer._click.exceptions import ClickException, NoArgsIsHelpError

    from services.cli.app import app
    from services.common.errors import LongshoreError, reason

    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # an error of the write is reported here, not while Python exits
        sys.exit(code)
    except LongshoreError as error:
        _fail(reason(error), error.exit_code)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ClickException as error:
        message = " ".join(error.format_message().split())
        _fail(message + hint(sys.argv[1:], message), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer turns it into exit code 1
            sys.exit(READER_GONE)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(READER_GONE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{reason(error)}", 1)


def hint(words: "Sequence[str]", message: str) -> str:
    """Return what to do about an option of `docker run` that stands before the `--`; empty for other mistakes."""
    _, separator, rest = message.partition("No such option: ")
    if not separator or words[:1] != ["container"]:
        return ""
    from services.deployer.runtime.docker.arguments import OPTIONS, SHORT

    option = rest.split()[0]
    name = option.lstrip("-")
    is_known = name in OPTIONS or name in SHORT
    return f"; {option} is an option of `docker run`: write it behind --" if is_known else ""


def unsupported(platform: str, version: "tuple[int, ...]") -> str:
    """Return why Longshore cannot run here; empty when it can. This must parse on any Python 3."""
    if platform != "linux":
        return f"Longshore runs on Linux only (its proxy uses epoll and splice); this is {platform}"
    if version < OLDEST_PYTHON:
        return f"Longshore needs Python 3.11 or newer; this is {version[0]}.{version[1]}"
    return ""


def unreadable(words: "Sequence[str]", variables: "Mapping[str, str]") -> str:
    """Return which argument or LONGSHORE_* variable is not UTF-8; empty when all are. The text shows no value."""
    for before, word in zip(["", *words], words):  # noqa: B905 - any Python 3
        if not _is_utf8(word):
            where = word.partition("=")[0] if word.startswith("--") and "=" in word else f"what stands after {before}"
            return f"{where}: not valid UTF-8"
    for name, value in variables.items():
        if name.startswith(OUR_VARIABLES) and not _is_utf8(value):
            return f"{name}: not valid UTF-8"
    return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fail(message: str, code: int) -> None:
    print(f"longshore: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
