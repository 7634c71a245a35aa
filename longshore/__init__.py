"""The public interface of Longshore for Python: its version, the events of its log, and fixtures for tests.

`services` and `schemas` are private: their modules, names and signatures change without notice.
"""

from __future__ import annotations

from services.common.version import VERSION as __version__

__all__ = ["__version__"]
