"""The public interface of Longshore for Python: its version, the events of its log, and fixtures for tests.

`services` and `schemas` are private: their modules, names and signatures change without notice.
"""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("longshore")
