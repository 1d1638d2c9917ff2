"""`expunge report`: one HTML page from records."""

from __future__ import annotations

from pathlib import Path

from ..errors import ExpungeError, raise_all
from ..records.record import Record, is_record
from .output_checks import output_problems


def report(
    records: tuple[Path, ...], /, *, out: Path = Path("report.html"), title: str | None = None
) -> None:
    """Write one self-contained HTML page from records.

    Args:
        records: Records (JSON), or folders that hold them.
        out: The page to write.
        title: Title of the page.
    """
    from ..report import write_report

    files = [file for path in records for file in (_records_in(path) if path.is_dir() else [path])]
    if not files:
        raise ExpungeError("no records were found; name JSON files that expunge wrote, or folders of them.")
    raise_all(output_problems({"--out": out}, *files))
    write_report(out, [Record.load(file) for file in files], **({"title": title} if title else {}))
    print(f"report: {out}")


def _records_in(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if is_record(file)]
