"""The report in a real browser: nothing overflows, nothing is empty; wide, narrow, dark, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
from expunge.report import write_report
from make_records import generator, sample
from test_report import hostile

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "it can be looked at")

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
def window() -> Iterator[browser.Browser]:
    with browser.Browser() as window:
        yield window


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", sample(3))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 390, 800, 1400, 1600])
def test_layout(window: browser.Browser, report: Path, width: int, dark: bool) -> None:
    window.open(report, width, dark=dark)
    assert window.run("innerWidth") == width
    assert window.run(OPEN) <= width
    assert window.run(WIDE) == []
    assert window.run(EMPTY) == []
    assert window.run(SMALL) >= 8.5  # CSS pixels, axis names included
    assert window.run(OUTSIDE) == []
    assert window.errors == []
    text = window.run("document.body.innerText")
    for part in (
        "comes closest to retraining",
        "Scores beside Retrain",
        "Methods",
        "What these results do not show",
        "standard deviation",
        "smallest gap",
        "Confidence",
        "Predictions on the forget set",
        "NHLE × masking",
        "expunge unlearn salun --data digits",
    ):
        assert part in text, part
    assert (window.run("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 25)") == dark


def test_generator(window: browser.Browser, tmp_path: Path) -> None:
    path = write_report(tmp_path / "grids.html", generator())
    for width in (390, 1400):
        window.open(path, width)
        assert (
            window.run(OPEN) <= width
            and window.run(WIDE) == []
            and window.run(EMPTY) == []
            and window.errors == []
        )
        shown = window.run(
            "[...document.querySelectorAll('.grids img')]"
            ".map(i => i.naturalWidth * i.getBoundingClientRect().width)"
        )
        assert len(shown) == 4 and min(shown) > 32 * 200
        assert "FID" in window.run("document.querySelector('table.main').innerText")


def test_hostile_page(window: browser.Browser, tmp_path: Path) -> None:
    path = write_report(tmp_path / "evil.html", hostile(), title="<script>document.title = 'hit'</script>")
    for width in (390, 1400):
        window.open(path, width)
        assert window.run(OPEN) <= width and window.errors == []
        assert window.run("document.scripts.length") == 1 and window.run("document.images.length") < 40
        assert window.run("document.title") == "<script>document.title = 'hit'</script>"


def test_without_scripts(window: browser.Browser, report: Path) -> None:
    window.open(report, 1400, scripts=False)
    assert window.run("document.querySelectorAll('th button').length") == 0  # sorting is an extra
    assert window.run("document.querySelector('details.method').open")
    assert "comes closest to retraining" in window.run("document.body.innerText")


def test_sorting_and_links(window: browser.Browser, report: Path) -> None:
    window.open(report, 1400)
    names = (
        "[...document.querySelectorAll('table.main tbody th')]"
        ".map(t => t.querySelector('a')?.textContent ?? t.textContent.trim())"
    )
    before = window.run(names)
    window.run(
        "[...document.querySelectorAll('th[data-sort] button')].find(b => b.textContent === 'UA').click()"
    )
    after = window.run(names)
    values = window.run(
        "[...document.querySelectorAll('table.main tr.method')].map(r => +r.cells[2].dataset.value)"
    )
    assert after[:2] == before[:2] and values == sorted(values) and sorted(after) == sorted(before)
    assert window.run("document.querySelector('th[aria-sort]').ariaSort") == "ascending"
    last = window.run("[...document.querySelectorAll('table.main a')].at(-1).click(), location.hash.slice(1)")
    assert window.run(
        f"new Promise(done => setTimeout(() => done(document.getElementById('{last}').open), 50))"
    )


def test_on_paper_everything_is_open(window: browser.Browser, report: Path) -> None:
    window.open(report, 800, media="print")
    hidden = (
        "[...document.querySelectorAll('details.method figure')]"
        ".filter(f => f.getBoundingClientRect().height < 20).length"
    )
    assert window.run(hidden) == 0
    assert window.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_picture_is_not_blank(window: browser.Browser, report: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for width in (390, 1400):
        window.open(report, width)
        shot = image.open(window.screenshot(tmp_path / f"{width}.png", full=False)).convert("RGB")
        assert shot.width == width
        colours = dict((c, n) for n, c in shot.getcolors(1 << 24))
        paper = colours[(251, 251, 249)] / (shot.width * shot.height)
        assert 0.6 < paper < 0.98 and len(colours) > 50


def test_errors_of_the_page_are_seen(window: browser.Browser, tmp_path: Path) -> None:
    """The other tests rely on an empty list of errors."""
    page = tmp_path / "page.html"
    page.write_text(
        "<script>console.error('one'); console.assert(false, 'two'); throw new Error('three')</script>"
    )
    window.open(page, 400)
    assert len(window.errors) == 3 and "three" in "".join(window.errors)
    page.write_text("<img src='missing.png'>")
    window.open(page, 400)
    assert len(window.errors) == 1
    page.write_text("<p>nothing wrong</p>")
    window.open(page, 400)
    assert window.errors == []
