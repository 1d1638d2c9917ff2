"""`ProjectStatus`: what `expunge status` shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from .requests import NOT_PROVED, ProjectRequest


@dataclass(frozen=True)
class ProjectStatus:
    """What `expunge status` shows.

    Args:
        requests: All requests, in the order of entry.
        model: File of the latest model, inside the project.
        today: The day that due days are compared with.
        problems: Which files of the project are missing or were changed, one sentence each.
        wrong: What is wrong with `expunge.toml`, one sentence each. `forget` refuses it.
        old_models: Files of earlier models that are still there. They know what later requests removed.
        in_ledger: Requests that only the ledger has. Nobody said which samples they name, and no run answers them.
    """

    requests: list[ProjectRequest]
    model: str
    today: date
    problems: tuple[str, ...] = ()
    old_models: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    in_ledger: tuple[ProjectRequest, ...] = ()

    @property
    def listed(self) -> list[ProjectRequest]:
        """All requests of project and ledger, by number."""
        return sorted([*self.requests, *self.in_ledger], key=lambda r: r.number)

    @property
    def waiting(self) -> list[ProjectRequest]:
        """Requests that no run has answered, without those that are not proved because somebody closed them in the ledger."""
        return [
            r for r in self.requests if r.state == "waiting" and r.is_open and r.ledger_state != NOT_PROVED
        ]

    @property
    def not_proved(self) -> list[ProjectRequest]:
        """Requests that a run has answered, or somebody closed in the ledger, and that are not proved."""
        return [r for r in self.requests if r.ledger_state == NOT_PROVED]

    @property
    def overdue(self) -> list[ProjectRequest]:
        """Requests that are open or not proved, and whose due day has passed, also those that only the ledger has."""
        return [r for r in self.listed if r.is_overdue(self.today)]

    @property
    def reopened(self) -> list[ProjectRequest]:
        """Requests that a run answered and that somebody has opened again in the ledger."""
        return [r for r in self.requests if r.is_reopened]

    @property
    def came_back(self) -> list[ProjectRequest]:
        """Requests whose samples the latest model recognises again."""
        return [r for r in self.requests if r.state == "came back" and r.is_open]

    @property
    def exit_code(self) -> int:
        """2 if `expunge.toml` is wrong; 1 if a request came back or is overdue, or a file is missing or was changed; else 0."""
        if self.wrong:
            return 2
        return 1 if self.overdue or self.came_back or self.problems else 0
