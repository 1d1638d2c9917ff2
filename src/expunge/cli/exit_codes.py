"""The exit codes of all commands, and the table of them in docs/failures.md."""

from __future__ import annotations

DONE = 0
CHECK_FAILED = 1
NOT_POSSIBLE = 2
NO_RESULT = 3
UNEXPECTED = 4
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    DONE: "The command did its work, and every check of the result passed.",
    CHECK_FAILED: "The command did its work and wrote its files. A check of the result failed.",
    NOT_POSSIBLE: "The command could not be done: wrong flags or input, no permission, a full disk, too little memory, "
    "or a closed output.",
    NO_RESULT: "The run diverged or changed nothing, so there is no model. No checkpoint was written.",
    UNEXPECTED: "An error that nobody foresaw, in Expunge or in your own code. `--debug` shows its traceback.",
    INTERRUPTED: "You interrupted the command (Ctrl-C). It resumes when given again; `forget` begins anew, and waiting requests wait.",
}

# command: the check that failed. Commands that are not listed never end with 1.
CHECKS: dict[str, str] = {
    "unlearn": 'the model is further from the target than the original (status "worse"), or an earlier request came back',
    "audit": "the average gap exceeds `--max-gap`, the audit draws no conclusion, or an earlier request came back",
    "bench": "a run of the grid failed; the others are in the result",
    "forget": "the run does not answer one of several requests, `--pending` leaves one open, a request is not proved, or an earlier "
    "request came back",
    "status": "a request came back or is overdue, or a file of the project is missing or was changed",
    "ledger attach": "an earlier request came back",
    "ledger overdue": "there are overdue requests",
    "ledger check": "a row was changed, added or lost",
    "verify": "a check of the receipt failed",
}

# command: what has no result. Commands that are not listed never end with 3.
RUNS: dict[str, str] = {
    "train": "the training diverged or changed nothing",
    "unlearn": "the run diverged or changed nothing, or the trials kept the original",
    "erase": "the run diverged or changed nothing",
    "train-generator": "the training diverged or changed nothing",
    "unlearn-generator": "the run diverged or changed nothing",
    "forget": "the run answers none of the requests: it diverged, changed nothing, did harm or forgot nothing",
}


def table() -> str:
    """Return the tables of the page: the codes, and what 1 and 3 mean for each command."""
    lines = ["| code | meaning |", "| --- | --- |"]
    lines += [f"| {code} | {text} |" for code, text in MEANINGS.items()]
    lines += ["", "| command | 1 | 3 |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | {CHECKS.get(name, 'never')} | {RUNS.get(name, 'never')} |"
        for name in dict.fromkeys([*RUNS, *CHECKS])
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
