"""Look at the report in a browser: nothing overflows or is empty. Wide, narrow, dark, on paper, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expunge.report import write_report
from make_records import generator, sample
from test_report import hostile

pytest.importorskip("playwright", reason="playwright is not installed")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
import browser  # noqa: E402

pytestmark = pytest.mark.skipif(browser.executable() is None, reason="no Chromium is on PATH")

OPEN = (
    "document.querySelectorAll('details').forEach(d => d.open = true), document.documentElement.scrollWidth"
)
EMPTY = """[...document.querySelectorAll('figure, figure svg, figure img, .examples img, table')].filter(
  e => { const r = e.getBoundingClientRect(); return r.width < 20 || r.height < 20; })
  .map(e => e.outerHTML.slice(0, 80))"""
WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, .defs') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))"""
SMALL = """[...document.querySelectorAll('svg text')].map(t => { const s = t.ownerSVGElement;
  const scale = s.getBoundingClientRect().width / s.viewBox.baseVal.width;
  return parseFloat(getComputedStyle(t).fontSize) * scale; })
  .reduce((a, b) => Math.min(a, b), 99)"""
OUTSIDE = """[...document.querySelectorAll('figure svg text')].filter(t => {
  const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
  return a.left < b.left - 2 || a.right > b.right + 2; }).map(t => t.textContent)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.launched() as program:
        yield program


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", sample(3))


def background(page: Any) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 390, 800, 1400, 1600])
def test_layout(chromium: Any, report: Path, width: int, dark: bool) -> None:
    with browser.opened(chromium, report, width, dark=dark) as page:
        assert page.evaluate("innerWidth") == width
        assert page.evaluate(OPEN) <= width
        assert page.evaluate(WIDE) == []
        assert page.evaluate(EMPTY) == []
        assert page.evaluate(SMALL) >= 8.5  # CSS pixels, axis names included
        assert page.evaluate(OUTSIDE) == []
        text = page.inner_text("body")
        for part in (
            "comes closest to retraining",
            "Beside Retrain",
            "Method by method",
            "What this does not say",
            "standard deviation",
            "smallest gap",
            "Confidence",
            "Where forgotten samples now go",
            "NHLE × masking",
            "expunge unlearn salun --data digits",
        ):
            assert part in text, part
        assert (background(page) == "rgb(19, 21, 25)") == dark


def test_generator(chromium: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "grids.html", generator())
    for width in (390, 1400):
        with browser.opened(chromium, path, width) as page:
            assert page.evaluate(OPEN) <= width
            assert page.evaluate(WIDE) == [] and page.evaluate(EMPTY) == []
            shown = page.evaluate(
                "[...document.querySelectorAll('.grids img')]"
                ".map(i => i.naturalWidth * i.getBoundingClientRect().width)"
            )
            assert len(shown) == 4 and min(shown) > 32 * 200
            assert "FID" in page.inner_text("table.main")


def test_hostile_page(chromium: Any, tmp_path: Path) -> None:
    title = "<script>document.title = 'hit'</script>"
    path = write_report(tmp_path / "evil.html", hostile(), title=title)
    for width in (390, 1400):
        with browser.opened(chromium, path, width) as page:
            assert page.evaluate(OPEN) <= width
            assert page.locator("script").count() == 1 and page.locator("img").count() < 40
            assert page.title() == title


def test_without_scripts(chromium: Any, report: Path) -> None:
    with browser.opened(chromium, report, 1400, scripts=False) as page:
        assert page.locator("th button").count() == 0  # sorting is an extra
        assert page.locator("details.method").first.get_attribute("open") is not None
        assert "comes closest to retraining" in page.inner_text("body")


def test_sorting_and_links(chromium: Any, report: Path) -> None:
    names = (
        "[...document.querySelectorAll('table.main tbody th')]"
        ".map(t => t.querySelector('a')?.textContent ?? t.textContent.trim())"
    )
    with browser.opened(chromium, report, 1400) as page:
        before = page.evaluate(names)
        page.get_by_role("button", name="UA", exact=True).click()
        after = page.evaluate(names)
        values = page.evaluate(
            "[...document.querySelectorAll('table.main tr.method')].map(r => +r.cells[2].dataset.value)"
        )
        assert after[:2] == before[:2] and values == sorted(values) and sorted(after) == sorted(before)
        assert page.evaluate("document.querySelector('th[aria-sort]').ariaSort") == "ascending"
        page.locator("table.main a").last.click()
        page.wait_for_function("document.getElementById(location.hash.slice(1)).open")


def test_on_paper_everything_is_open(chromium: Any, report: Path) -> None:
    hidden = (
        "[...document.querySelectorAll('details.method figure')]"
        ".filter(f => f.getBoundingClientRect().height < 20).length"
    )
    with browser.opened(chromium, report, 800, media="print") as page:
        assert page.evaluate(hidden) == 0
        assert background(page) == "rgb(255, 255, 255)"


def test_picture_is_not_blank(chromium: Any, report: Path, tmp_path: Path) -> None:
    for width in (390, 1400):
        with browser.opened(chromium, report, width) as page:
            page.screenshot(path=tmp_path / f"{width}.png")
        shot = Image.open(tmp_path / f"{width}.png").convert("RGB")
        assert shot.width == width
        colours = dict((c, n) for n, c in shot.getcolors(1 << 24))
        paper = colours[(251, 251, 249)] / (shot.width * shot.height)
        assert 0.6 < paper < 0.98 and len(colours) > 50
