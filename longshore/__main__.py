"""The programs `longshore` and `longshore-watch`, and `python -m longshore`."""

from __future__ import annotations

from services.cli.main import main

__all__ = ["main", "watch"]


def watch() -> None:
    """Run one service under a watchdog: the program `longshore-watch`."""
    from services.supervisor.watched_service import main as run

    run()


if __name__ == "__main__":
    main()
