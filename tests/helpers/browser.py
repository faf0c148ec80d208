"""A headless Chromium, driven through a pipe by its own protocol: no driver and no package is needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Iterator

import pytest

from tools import wheels
from tools.pins import AXE

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not PROGRAM, reason="needs chromium: on Debian, apt-get install chromium")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
# How long an answer may take, in seconds: then the browser hangs.
PATIENCE = 120


def axe_script() -> str:
    """The source of axe-core."""
    with zipfile.ZipFile(wheels.fetch(AXE)) as wheel:
        return wheel.read("axe_playwright_python/axe.min.js").decode()


class Browser:
    """One page of a browser, and what it complained about."""

    def __init__(self, to_browser: int, from_browser: int):
        self._to, self._from = to_browser, from_browser
        self._received, self._id, self._session = b"", 0, None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: object) -> dict:
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._received:
            read = os.read(self._from, 1 << 20)
            assert read, "the browser has ended"
            self._received += read
        message, _, self._received = self._received.partition(b"\0")
        event = json.loads(message)
        if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(event["params"]))
        return event

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=path.as_uri())
        while self.run("document.readyState + location.protocol") != "completefile:":
            pass

    def run(self, script: str):
        """The value of an expression in the page; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        x, y = self.run(
            f"(e => {{e.scrollIntoView({{block: 'center', inline: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]}})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    # The browser reads its file descriptor 3 and writes to 4.
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()
    with tempfile.TemporaryDirectory(prefix="susx-browser-") as profile:
        # Only bash knows file descriptors of two digits.
        move = f'exec "$@" 3<&{read_there} 4>&{write_there}'
        program = ["timeout", str(PATIENCE), "bash", "-c", move, "bash", PROGRAM, *OPTIONS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            program, pass_fds=(read_there, write_there), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read_there)
        os.close(write_there)
        try:
            yield Browser(write_here, read_here)
        finally:
            process.terminate()
            process.wait()
            os.close(write_here)
            os.close(read_here)
