"""Progress on stderr: on a terminal one line that changes; in a pipe or a file a new line, at most one every few seconds."""

from __future__ import annotations

import sys
import time

from ..receipts.limits import visible_lines

# seconds between two lines of the same work in a pipe
PAUSE = 5.0


class ProgressLine:
    """The line of the process. A line of other work, and the end of work, are shown at once."""

    def __init__(self) -> None:
        self._label = ""
        self._shown_at = -PAUSE
        self._width = 0

    def show(self, label: str, text: str, ended: bool = False) -> None:
        """Show how far some work is.

        Args:
            label: What is done.
            text: How far it is.
            ended: Whether this is the last line of the work.
        """
        line, now = visible_lines(f"{label}{text}"), time.monotonic()
        if sys.stderr.isatty():
            # a shorter line covers the one before it
            print(f"\r{line:<{self._width}}", end="\n" if ended else "", file=sys.stderr, flush=True)
            self._width = 0 if ended else len(line)
        elif ended or label != self._label or now - self._shown_at >= PAUSE:
            print(line, file=sys.stderr, flush=True)
            self._shown_at = now
        self._label = "" if ended else label

    def finish(self) -> None:
        """End the line of a terminal, so that other text begins on a new one."""
        if self._width:
            print(file=sys.stderr, flush=True)
        self._width, self._label = 0, ""


LINE = ProgressLine()
