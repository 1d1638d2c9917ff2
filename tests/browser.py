"""Open pages in a headless Chromium. Playwright drives the browser of the system, and downloads none."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright


def executable() -> str | None:
    """Return the path of a Chromium on PATH, or None."""
    paths = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in paths if path), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser, and stop it at the end of the block."""
    with sync_playwright() as driver:
        # The sandbox refuses to start as root, and /dev/shm is small in containers.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=executable(), args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    path: Path,
    width: int,
    *,
    height: int = 900,
    dark: bool = False,
    scripts: bool = True,
    media: str = "screen",
) -> Iterator[Page]:
    """Open a file at a width in CSS pixels. At the end of the block, the console must hold no errors."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "assert") else None)
    page.emulate_media(media=media)
    page.goto(path.resolve().as_uri())
    yield page
    context.close()
    assert errors == []


def picture(page: Path, target: Path, width: int = 1400, height: int = 1120) -> None:
    """Write the top of a page as a small PNG (256 colours). The picture of the README is made with it."""
    with launched() as browser, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        with opened(browser, page, width, height=height) as window:
            window.screenshot(path=file)
        image = Image.open(file).convert("RGB")
        image.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
