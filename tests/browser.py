"""A page in the Chromium of this machine, driven by playwright. No browser is ever downloaded."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """Return the path of the browser, or None if there is none on PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def missing() -> str:
    """Return why pages cannot be looked at here. Empty if they can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: the page cannot be looked at"
    return "" if find() else "no Chromium on PATH: the page cannot be looked at"


class Browser:
    """One browser that shows one page at a time. A context manager.

    Attributes:
        errors: What the page wrote to the console as errors since `open`.
    """

    def __init__(self) -> None:
        from playwright.sync_api import sync_playwright

        self.errors: list[str] = []
        self._pages: dict[bool, Any] = {}
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=find())

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

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
        """Show a file at a width in CSS pixels and wait until it is loaded."""
        # a new page takes most of the time, so there is one with scripts and one without
        if scripts not in self._pages:
            self._pages[scripts] = self._browser.new_page(java_script_enabled=scripts)
            self._pages[scripts].on("pageerror", lambda error: self.errors.append(str(error)))
            self._pages[scripts].on("console", self._note)
        self._page = self._pages[scripts]
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.emulate_media(media=media or "screen", color_scheme="dark" if dark else "light")
        self.errors.clear()
        self._page.goto(path.resolve().as_uri())

    def _note(self, message: Any) -> None:
        if message.type in ("error", "assert"):
            self.errors.append(message.text)

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self._page.evaluate(expression)

    def screenshot(self, path: Path, *, full: bool = True) -> Path:
        """Write a PNG of the whole page (`full`), or of what is in view."""
        self._page.screenshot(path=path, full_page=full)
        return path


def picture(page: Path, target: Path, width: int = 1400, height: int = 1120) -> None:
    """Write the top of a page as a small PNG of 256 colours. This makes the picture of the README."""
    from PIL import Image

    with Browser() as window, tempfile.TemporaryDirectory() as folder:
        window.open(page, width, height=height)
        shot = Image.open(window.screenshot(Path(folder) / "page.png", full=False)).convert("RGB")
        shot.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
