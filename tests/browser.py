"""A headless Chromium driven over its debugging pipe: null-terminated JSON on descriptors 3 and 4."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--hide-scrollbars",
)
LAUNCH = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def find() -> str | None:
    """The browser on PATH, if there is one."""
    return next(
        (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
    )


class Browser:
    """One browser with one page. A context manager; `errors` collects what the console complained of."""

    def __init__(self, timeout: float = 60.0):
        self.timeout, self.count, self._rest = timeout, 0, b""
        self.errors: list[str] = []
        self.session: str | None = None
        self.profile = tempfile.mkdtemp(prefix="expunge-browser-")
        self._start(find() or "chromium")
        try:
            target = next(t for t in self._targets() if t["type"] == "page")
            found = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self.session = found["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _start(self, program: str) -> None:
        """Start the browser with its ends of two pipes on descriptors 3 and 4, in a group of its own."""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        given = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out)]
        command = [sys.executable, "-c", LAUNCH, *map(str, given), program, *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={self.profile}", "about:blank"],
            pass_fds=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for fd in (theirs_in, theirs_out, *given):
            os.close(fd)

    def _targets(self) -> list[dict[str, Any]]:
        for _ in range(100):
            found = self.call("Target.getTargets")["targetInfos"]
            if any(t["type"] == "page" for t in found):
                return found
            time.sleep(0.1)
        raise TimeoutError("The browser opened no page.")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and everything it started, and remove its profile."""
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("The browser did not answer.")
            got = os.read(self._in, 1 << 16)
            if not got:
                raise ConnectionError("The browser closed.")
            self._rest += got
        first, self._rest = self._rest.split(b"\0", 1)
        return json.loads(first)

    def _note(self, message: dict[str, Any]) -> None:
        method, given = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(given["exceptionDetails"].get("text", "exception"))
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(given["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            self.errors.append(json.dumps(given["args"]))

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        self.count += 1
        number, sent = self.count, {"id": self.count, "method": method, "params": given}
        if self.session:
            sent["sessionId"] = self.session
        os.write(self._out, json.dumps(sent).encode() + b"\0")
        end = time.monotonic() + self.timeout
        while True:
            message = self._message(end)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def open(
        self,
        path: Path,
        width: int,
        *,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        media: str = "",
    ) -> None:
        """Show a file at a width in CSS pixels and wait until it is laid out."""
        self.errors.clear()
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + self.timeout
        while self.run("document.readyState + location.protocol") != "completefile:":
            if time.monotonic() > end:
                raise TimeoutError(f"{path} did not load.")
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self, path: Path, *, full: bool = True, clip: dict[str, float] | None = None) -> Path:
        """A PNG of the whole page (`full`), of what is in view, or of a rectangle."""
        more: dict[str, Any] = {"clip": {**clip, "scale": 1}} if clip else {}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full, **more)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


def picture(page: Path, target: Path, width: int = 1400, height: int = 1120) -> None:
    """The top of a page as a small PNG (256 colours): how the README's picture is made."""
    from PIL import Image

    with Browser() as window, tempfile.TemporaryDirectory() as folder:
        window.open(page, width, height=height)
        shot = Image.open(window.screenshot(Path(folder) / "page.png", full=False)).convert("RGB")
        shot.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
