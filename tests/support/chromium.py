"""A headless Chromium, driven over the DevTools protocol through a pair of pipes. Standard library only.

The protocol: https://chromedevtools.github.io/devtools-protocol/. With ``--remote-debugging-pipe`` the browser reads
JSON messages that end in a zero byte from file descriptor 3, and writes them to 4: no port, no web socket.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--no-first-run", "--disable-component-update", "--disable-background-networking", "--hide-scrollbars",
)  # fmt: skip
KEYS = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33, "PageDown": 34, "Tab": 9}


def find_chromium() -> str | None:
    """Return the path of a browser: that of the environment variable CHROMIUM, or one of the usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser process with an empty profile, which is removed at the end."""

    def __init__(self, path: str):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (read, self._to), (self._from, write) = os.pipe(), os.pipe()
        shell = f'exec "$0" "$@" 3<&{read} 4>&{write}'  # the two ends get the numbers that it expects
        words = ["bash", "-c", shell, path, *OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(words, pass_fds=(read, write), **quiet)
        os.close(read)
        os.close(write)
        self._buffer, self._last, self._events = b"", 0, []

    def call(self, method: str, session: str | None = None, seconds: float = 60, **params: Any) -> dict:
        """Send a command and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = self._receive(until)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._events.append(answer)
        raise TimeoutError(f"{method} was not answered in {seconds} s")

    def events(self, session: str, method: str) -> list[dict]:
        """Return what was reported to a tab so far."""
        self.call("Browser.getVersion")  # all that was sent before has arrived then
        return [e["params"] for e in self._events if e.get("sessionId") == session and e.get("method") == method]

    def _receive(self, until: float) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("The browser is silent")
            part = os.read(self._from, 2**20)
            if not part:
                raise EOFError("The browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        """End the process and remove its profile."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()


class Tab:
    """A tab in a context of its own, as another person would have it."""

    def __init__(self, browser: Chromium, address: str, width: int = 1280, height: int = 900, dark: bool = False):
        self.browser = browser
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        self._target = browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)[
            "targetId"
        ]
        self.session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)

    def call(self, method: str, **params: Any) -> dict:
        return self.browser.call(method, self.session, **params)

    def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> Any:
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(f"Promise.resolve({condition}).then((v) => v instanceof Node || v)")):
            assert time.monotonic() < until, f"{condition}: not in {seconds} s. {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            code = KEYS.get(key, ord(key[0]))
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)
            text = {}

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click with the mouse at a fraction of an element's width and height."""
        box = f"document.querySelector({selector!r})"
        self.run(f"{box}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y, w, h = self.run(f"(b => [b.x, b.y, b.width, b.height])({box}.getBoundingClientRect())")
        at = {"x": x + w * across, "y": y + h * down, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file input a file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def save_downloads_in(self, folder: Path) -> None:
        where = {"downloadPath": str(folder), "browserContextId": self._context}
        self.browser.call("Browser.setDownloadBehavior", behavior="allow", **where)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        self.run("scrollTo(0, 0)")
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self.browser.call("Target.disposeBrowserContext", browserContextId=self._context)
