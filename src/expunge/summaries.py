"""Short texts and tables that `repr` shows of an object, instead of everything it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

# requests that wait, of which a sentence names each with the number of its samples
SHOWN_WAITING = 5

# limits of one `repr`
LONGEST_LINE = 120
MOST_SCORES = 7

Rows = list[tuple[str, str, str]]


def short(value: Any, length: int = 40) -> str:
    """Return a value as text of one line, cut to `length` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def summary(title: str, *facts: str) -> str:
    """Join the title and the facts, one per line, without the empty ones. Long lines are cut."""
    lines = [title, *(f"  {fact}" for fact in facts if fact)]
    return "\n".join(line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…" for line in lines)


def entry(values: Any, name: str, default: str = "?") -> str:
    """Return an entry of a dict that came from a file as short text. `default` if there is none."""
    value = values.get(name) if isinstance(values, dict) else None
    return default if value is None or value == "" else short(value)


def score_rows(scores: Any) -> Rows:
    """Return name, score and gap to Retrain of each score, as text. The last row is the average gap, if there is one."""
    scores = scores if isinstance(scores, Mapping) else {}
    gap = scores.get("gap") if isinstance(scores.get("gap"), Mapping) else {}
    rows = [
        (short(name), _number(value), _number(gap[name]) if name in gap else "")
        for name, value in scores.items()
        if name != "gap" and (value is None or isinstance(value, int | float))
    ]
    return [*rows, ("average gap", "", _number(gap["avg"]))] if "avg" in gap else rows


def score_lines(scores: Any) -> list[str]:
    """Return the score table as at most 9 lines of text."""
    rows = score_rows(scores)
    if not rows:
        return ["no scores"]
    last = rows[-1:] if rows[-1][0] == "average gap" else []
    others = rows[: len(rows) - len(last)]
    shown = [("", "score", "gap to Retrain" if last else ""), *others[: MOST_SCORES - len(last)], *last]
    width = max(len(name) for name, _, _ in shown)
    lines = [f"{name:<{width}}  {score:>7}  {gap:>14}".rstrip() for name, score, gap in shown]
    hidden = len(others) - (len(shown) - 1 - len(last))
    return [*lines, f"and {hidden} more in .scores"] if hidden else lines


def score_html(title: str, scores: Any) -> str:
    """Return the score table as plain HTML, for notebooks. All texts are escaped."""
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(score)}</td><td>{escape(gap)}</td></tr>'
        for name, score, gap in score_rows(scores)
    )
    head = '<tr><th scope="col">score</th><th scope="col">value</th><th scope="col">gap to Retrain</th></tr>'
    return f"<table><caption>{escape(title)}</caption><thead>{head}</thead><tbody>{cells}</tbody></table>"


def _number(value: Any) -> str:
    """Return a score with two decimals, or a dash for a value that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    try:
        return f"{value:.2f}" if math.isfinite(value) else "–"
    except OverflowError:
        return "–"


def numbers_text(numbers: Iterable[int]) -> str:
    """Return numbers, such as those of requests, as words. Three or more that follow each other become a range.

    Example:
        >>> numbers_text([1, 2, 5]), numbers_text([1, 2, 3, 4, 9])
        ('1, 2 and 5', '1-4 and 9')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [text for run in runs for text in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))]
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def waiting_text(waiting: Mapping[int, int]) -> str:
    """Return {number of a request: number of its samples} as words. Long lists become ranges of numbers."""
    if len(waiting) <= SHOWN_WAITING:
        return ", ".join(f"request {n} ({k:,} samples)" for n, k in waiting.items())
    least, most = min(waiting.values()), max(waiting.values())
    each = f"{least:,} to {most:,} samples each" if least < most else f"{most:,} samples each"
    return f"requests {numbers_text(sorted(waiting))} ({each})"
