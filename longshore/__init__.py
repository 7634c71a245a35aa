"""The public interface of Longshore for Python: its version, the events of its log, and fixtures for tests.

`services` and `schemas` are private: their modules, names and signatures change without notice. A wheel installs them
inside this package, as `longshore._services` and `longshore._schemas`.
"""

from __future__ import annotations

from services.common.version import VERSION

__all__ = ["__version__"]

__version__ = VERSION
