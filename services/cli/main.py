"""The `longshore` program: where everything starts, and what a user's mistake looks like."""

import os
import sys

OLDEST_PYTHON = (3, 11)


def main() -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 wrong usage, each failure with one line on stderr."""
    problem = unsupported(sys.platform, tuple(sys.version_info[:2]))
    if problem:
        _fail(problem, 1)
    from typer._click.exceptions import ClickException, NoArgsIsHelpError

    from services.cli.app import app
    from services.common.errors import LongshoreError

    try:
        sys.exit(app(standalone_mode=False))
    except LongshoreError as error:
        _fail(str(error), error.exit_code)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ClickException as error:
        _fail(" ".join(error.format_message().split()), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def unsupported(platform: str, version: "tuple[int, ...]") -> str:
    """Why Longshore cannot run here; empty when it can. Must parse on any Python 3."""
    if platform != "linux":
        return f"Longshore runs on Linux only (its proxy uses epoll and splice); this is {platform}"
    if version < OLDEST_PYTHON:
        return f"Longshore needs Python 3.11 or newer; this is {version[0]}.{version[1]}"
    return ""


def _fail(message: str, code: int) -> None:
    print(f"longshore: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
