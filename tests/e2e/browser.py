"""A real browser for the tests: Chromium without a window, spoken to over its own protocol (CDP)."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# It asks nobody anything at its start, and needs neither a screen nor a graphics card.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-port=0",
    "--disable-dev-shm-usage", "--no-proxy-server",
)  # fmt: skip
_PATIENCE = 60.0


@dataclass(slots=True)
class Tab:
    """One page. `said` collects what the browser complains of: console messages, violated policies, failed requests."""

    socket: ClientConnection
    said: list[str] = field(default_factory=list)
    loaded: bool = False
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def ask(self, method: str, **params: Any) -> Any:
        """Do one thing; its result."""
        number = next(self._ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.socket.recv(timeout=_PATIENCE))
        match told.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Log.entryAdded":
                self.said.append(told["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.said.append(json.dumps(told["params"]["args"]))
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(told["params"]["exceptionDetails"]))
        return told

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True, scale: float = 1) -> None:
        """Be that wide, prefer those colours, and run scripts or not."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.loaded = False

    def go(self, url: str) -> None:
        """Open an address and wait until all of it is there."""
        self.loaded = False
        found = self.ask("Page.navigate", url=url)
        assert "errorText" not in found, found
        self._loaded()

    def submit(self) -> None:
        """Press Enter where the cursor is, and wait for the page that follows."""
        self.key("Enter", "\r")
        self._loaded()

    def follow(self, selector: str) -> None:
        """Click the first such element, as a mouse does, and wait for the page that follows."""
        self.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.value(f"JSON.stringify(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
        spot = json.loads(box)
        place = {"x": spot["left"] + spot["width"] / 2, "y": spot["top"] + spot["height"] / 2, "button": "left", "clickCount": 1}
        self.ask("Input.dispatchMouseEvent", type="mousePressed", **place)
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", **place)
        self._loaded()

    def key(self, name: str, text: str = "") -> None:
        """Press and release a key."""
        code = {"Enter": 13, "Tab": 9}[name]
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.ask("Input.dispatchKeyEvent", key=name, code=name, windowsVirtualKeyCode=code, **down)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)

    def _loaded(self) -> None:
        while not self.loaded:
            self._next()
        self.loaded = False

    def value(self, expression: str) -> Any:
        """What an expression is worth in the page; the tool's own, so it works where scripts of pages do not run."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, *, whole: bool = False) -> bytes:
        """What is seen, as PNG; with `whole`, all of the page."""
        return base64.b64decode(
            self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))["data"]
        )

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Tab]:
    """A browser with one tab, its profile in `home`; it ends with the block."""
    assert CHROMIUM is not None
    with subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={home}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            port = next(
                found[1] for line in process.stderr if (found := re.search(r"listening on ws://127\.0\.0\.1:(\d+)/", line))
            )
            targets = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE).read())
            address = next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")
            with connect(address, max_size=None, proxy=None) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Log", "Runtime"):
                    tab.ask(f"{domain}.enable")
                # The empty page it begins with is there before another one is asked for.
                ready = (
                    "new Promise(done => document.readyState === 'complete' ? done(1) : addEventListener('load', () => done(1)))"
                )
                tab.ask("Runtime.evaluate", expression=ready, awaitPromise=True)
                yield tab
        finally:
            process.terminate()
            process.wait(_PATIENCE)
