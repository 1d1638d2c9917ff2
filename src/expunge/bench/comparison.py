"""`Comparison`: the outcomes of several methods and seeds, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from ..pipeline.outcome import Outcome
from ..records.record import Record
from .results import entry
from .tables import markdown


@dataclass(eq=False)
class Comparison:
    """What `bench` returns. Its text is the table of all runs.

    Args:
        outcomes: The outcomes, seed by seed: original, retrained model, then one per method. The label of each is in
            `outcome.record.details["label"]`.
        failed: {"label, seed N": what went wrong}, for methods that failed.
    """

    outcomes: list[Outcome]
    failed: dict[str, str]

    @property
    def records(self) -> list[Record]:
        """The records of all outcomes, for `expunge.report.write_report`."""
        return [outcome.record for outcome in self.outcomes]

    def of(self, label: str) -> list[Outcome]:
        """Return the outcomes with a label, one per seed: "Original", "Retrain", or that of a method."""
        return [o for o in self.outcomes if o.record.details["label"] == label]

    def table(self) -> str:
        """Return the table in Markdown: mean ± standard deviation over seeds, the gap of each score in brackets."""
        return markdown([entry(r, r.details["label"], r.split) for r in self.records])

    def _cells(self) -> list[list[str]]:
        lines = self.table().replace("**", "").splitlines()
        return [line.strip("| ").split(" | ") for line in lines]

    def __repr__(self) -> str:
        rows = self._cells()
        widths = [max(map(len, column)) for column in zip(rows[0], *rows[2:], strict=True)]
        rows[1] = ["-" * width for width in widths]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines + [f"failed: {label}: {why}" for label, why in self.failed.items()])

    def _repr_html_(self) -> str:
        rows = self._cells()
        body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows[2:])
        return f"<table><tr>{''.join(f'<th>{escape(c)}</th>' for c in rows[0])}</tr>{body}</table>"
