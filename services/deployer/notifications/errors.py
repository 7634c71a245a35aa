"""Errors of a delivery."""

from __future__ import annotations


class UndeliveredError(Exception):
    """A target did not take a notice. `is_final`: a retry cannot succeed either."""

    def __init__(self, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
