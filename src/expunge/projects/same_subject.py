"""Tell the user that a subject has requests already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .requests import ProjectRequest
from .wanted import Wanted


def note_same_subjects(
    requests: Sequence[ProjectRequest], new: Sequence[Wanted], say: Callable[[str], None]
) -> None:
    """Say which subjects of new requests have requests already: a second one may be a mistake.

    Args:
        requests: The requests of the project.
        new: The new requests.
        say: Called with one sentence for each subject.
    """
    for subject in dict.fromkeys(request.subject for request in new if request.subject):
        earlier = [r for r in requests if r.subject == subject]
        if not earlier:
            continue
        listed = ", ".join(f"{r.number} ({r.shown_state})" for r in earlier)
        many = "s" if len(earlier) > 1 else ""
        say(f"subject {subject} already has request{many} {listed}; this is another one.")
