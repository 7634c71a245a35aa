"""A headless Chromium, driven by its DevTools protocol over a pipe: no driver, no network port."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.patience import patience

CHROMIUM = "/usr/bin/chromium"
TIMEOUT = patience(60.0)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """A browser with one page. `problems` are what its console complained of; `asked` the URLs that it asked for."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.asked: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="longshore-chromium-", ignore_cleanup_errors=True)
        self._count = 0
        self._rest = b""
        self._session = ""

    def __enter__(self) -> Browser:
        to_browser, self._commands = os.pipe()
        self._answers, from_browser = os.pipe()
        options = [*OPTIONS, f"--user-data-dir={self._profile.name}"]
        # The protocol's pipe is descriptors 3 (commands) and 4 (answers).
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "chromium", CHROMIUM, *options, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        self._call("Browser.close")
        self._process.wait(TIMEOUT)
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete'")

    def show(self, width: int, height: int, scheme: str, scale: float = 1.0) -> None:
        """Have a window of this size, whose user prefers a colour scheme: light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives. Raises AssertionError when it throws."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """The visible text of the first element that fits; empty without one."""
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText || ''"))

    def wait_for(self, expression: str, timeout: float = TIMEOUT) -> None:
        """Return when a JavaScript expression is truthy."""
        deadline = time.monotonic() + timeout
        while not self.value(expression):
            assert time.monotonic() < deadline, f"in vain: {expression}\n{self.text()}\n{self.problems}"
            time.sleep(0.1)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, optimizeForSpeed=False)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], TIMEOUT)
            assert ready, "the browser does not answer"
            data = os.read(self._answers, 1 << 16)
            assert data, "the browser ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
