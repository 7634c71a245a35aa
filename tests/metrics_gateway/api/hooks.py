"""What schemathesis must know: a stream that is followed has no end."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if "stream" in case.path:
        case.query = {**(case.query or {}), "follow": "false"}
