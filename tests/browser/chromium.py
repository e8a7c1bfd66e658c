"""A headless Chromium that is told what to do over two pipes, in its DevTools protocol.

No driver and no socket: `--remote-debugging-pipe` reads commands from descriptor 3 and writes what
happens to descriptor 4, as JSON that ends with a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60
# Virtual-key code, and what it types.
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " "), "ArrowDown": (40, "")}


def program() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "no chromium on PATH: tests/browser/install.sh gets it"
    return found


class Chromium:
    """One browser with one page.

    Attributes:
        console: what the page wrote to the console, what the browser said of it, and exceptions.
        requests: addresses that the page asked for, but for those that hold their own data.
    """

    def __init__(self, profile: Path) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._number, self._buffer, self._events = 0, b"", set()
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()

        def place_pipes() -> None:
            # Neither may be overwritten before it has been copied.
            first, second = os.dup(commands_out), os.dup(answers_in)
            os.dup2(first, 3)
            os.dup2(second, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        # The log of the browser itself is not the page's console.
        self._process = subprocess.Popen(
            [program(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=place_pipes,
            close_fds=False,
        )
        os.close(commands_out)
        os.close(answers_in)
        self._session = ""
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            assert ready, f"Chromium said nothing for {SECONDS} s"
            data = os.read(self._answers, 1 << 20)
            assert data, "Chromium ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        self._events.add(method)
        if method == "Runtime.consoleAPICalled" and params["type"] != "debug":
            said = [str(a.get("value", a.get("description"))) for a in params["args"]]
            self.console.append(f"{params['type']}: {' '.join(said)}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", "")
            self.console.append(f"exception: {details['text']} {thrown}")
        elif method == "Log.entryAdded":
            entry = params["entry"]
            self.console.append(f"{entry['level']}: {entry['text']}")
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "blob:")):
                self.requests.append(url)

    def open(self, address: str) -> None:
        """Go to a page and wait until it has loaded, its pictures with it."""
        self._events.discard("Page.loadEventFired")
        self.console.clear()
        self.requests.clear()
        self.call("Page.navigate", url=address)
        end = time.monotonic() + SECONDS
        while "Page.loadEventFired" not in self._events:
            assert time.monotonic() < end
            self._next()

    def run(self, script: str, **context: Any) -> Any:
        """The value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, **context
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def run_in_frame(self, script: str) -> Any:
        """The value of an expression in the page's only frame."""
        (frame,) = self.call("Page.getFrameTree")["frameTree"]["childFrames"]
        world = self.call("Page.createIsolatedWorld", frameId=frame["frame"]["id"])
        return self.run(script, contextId=world["executionContextId"])

    def wait(self, script: str, limit: float = 30, frame: bool = False) -> Any:
        """The value of an expression, there or in the frame, as soon as it is true."""
        end = time.monotonic() + limit
        run = self.run_in_frame if frame else self.run
        while not (value := run(script)):
            assert time.monotonic() < end, f"waited {limit:g} s in vain: {script}"
            time.sleep(0.1)
        return value

    def press(self, key: str) -> None:
        """One of `KEYS`, down and up, in what has the focus."""
        number, text = KEYS[key]
        about = {"key": text if key == "Space" else key, "code": key}
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                windowsVirtualKeyCode=number,
                **about,
                **typed,
            )

    def window(self, width: int, height: int, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        """`light` or `dark`, as the user's system would ask for."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
