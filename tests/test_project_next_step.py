"""What `expunge forget` and a plan say is to be done next."""

import re

import pytest

from expunge.cli import main
from expunge.cli.project_answer import show_answer
from expunge.cli.table import earlier_table
from expunge.errors import ExpungeError, WriteError
from expunge.projects.effect import apart
from expunge.projects.requests import NOT_PROVED
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from project_office import content


def forget(project, *extra):
    return main(["forget", "--project", str(project.path), *extra])


def ids_file(folder, *ids):
    (folder / "ids.txt").write_text("\n".join(ids))
    return str(folder / "ids.txt")


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_a_reopened_request_stands_in_the_way_of_the_model(answered, tmp_path, capsys):
    """The new run does not answer it, so its model must not be handed over as the one that answers all."""
    one = answered.forget(ids=["p9"])
    assert one.entries[0].state == "done"
    Ledger(answered.path / "ledger.db").attach(1, status="open", note="asked again")
    assert forget(answered, "--ids", ids_file(tmp_path, "p20")) == 0
    last = last_line(capsys)
    run = f"`expunge forget --project {answered.path} --pending`"
    assert last.startswith(
        f"next: do not hand over the model yet: request 1 was reopened in the ledger. First answer it again with {run}. Then hand over "
        "the model with its receipt ("
    )
    # once it is answered again, nothing is in the way
    assert forget(answered, "--pending") == 0
    assert last_line(capsys).startswith("next: hand over the model with its receipt (")


def test_a_request_that_is_not_proved_stands_in_the_way(answered, capsys, monkeypatch):
    """Each kind of request that the model does not serve is named with what to do. One that waits is not in the way."""
    found, status = answered.forget(ids=["p9"]), answered.status()
    first, second, third = status.requests
    monkeypatch.setattr(type(answered), "status", lambda self: status)

    def last():
        show_answer(answered, found)
        return last_line(capsys)

    expected, run = (
        str(answered.path / "expunge.toml"),
        f"`expunge forget --project {answered.path} --pending`",
    )
    third.state = "waiting"
    third.ledger_state = "open"
    assert last().startswith("next: hand over the model")
    first.ledger_state, first.missing = NOT_PROVED, ("a signature", "an audit")
    lacks = f"(`expunge ledger attach`), or change method or [settings] in {expected} and run {run}"
    assert last().startswith(
        "next: do not hand over the model yet: request 1 is not proved (missing: a signature; an audit). First give what it lacks "
        f"{lacks}. Then hand over the model"
    )
    second.state = "came back"
    second.ledger_state = "open"
    assert last().startswith(
        "next: do not hand over the model yet: request 1 is not proved (missing: a signature; an audit), request 2 came back. First "
        f"answer it again with {run}; then give what it lacks {lacks}. Then hand over the model"
    )


def test_a_plan_for_samples_that_are_removed_has_no_run(answered, tmp_path, capsys):
    """Before, the plan of a run without any request was printed: the method's steps, seconds and disk space."""
    before = content(answered.path)
    ids = ids_file(tmp_path, "p2")
    assert forget(answered, "--ids", ids, "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "requests: 1 (1 samples)",
        "plan: no run is to be made, as run 1 removed all of them already. Without --dry-run, the requests are entered and answered at "
        "once, and the model stays as it is.",
    ]
    assert "request 1 removed all samples of the request already; no run is needed for it" in shown.err
    assert content(answered.path) == before
    plan = answered.plan([wanted(ids=["p1", "p2"]), wanted(classes=3)])
    assert plan.by_runs == (1, 2) and plan.trials == (0, 0) and plan.disk == 0 and plan.samples[0] == 2
    assert not plan.retraining_is_cheaper
    # the command agrees
    assert forget(answered, "--ids", ids) == 0
    assert sorted(p.name for p in (answered.path / "models").glob("*.safetensors"))[-1] == "0002.safetensors"
    # one new sample needs a run
    assert answered.plan([wanted(ids=["p2", "p9"])]).by_runs == ()
    mixed = answered.plan([wanted(ids=["p2"]), wanted(ids=["p9"])])
    assert mixed.by_runs == () and mixed.samples == [1]


@pytest.mark.parametrize("lost", ["0001.receipt.json", ""])
def test_a_plan_needs_the_evidence_of_the_earlier_run_as_the_answer_does(answered, lost):
    """Without the receipt of the run, a new run is planned and made."""
    if lost:
        (answered.path / "models" / lost).unlink()
    assert bool(answered.plan([wanted(ids=["p2"])]).by_runs) == (not lost)
    assert bool(answered.forget(ids=["p2"]).outcomes) == bool(lost)


def test_a_plan_counts_samples_that_are_named_again(answered):
    """Before, a sample that the new request names again was not among those that earlier requests removed."""
    removed = answered.plan([wanted(ids=["p9"])]).earlier
    assert removed == answered.plan([wanted(ids=["p9", "p2"])]).earlier > 2


def test_a_number_and_its_limit_never_look_equal():
    assert apart(20.04, 20) == "20.04" and apart(20.0004, 20) == "20.0004"
    assert apart(30.0, 20) == "30.0" and apart(20.0, 20) == "20.0"
    assert (apart(0.253, 0.251, 2), apart(0.251, 0.253, 2)) == ("0.253", "0.251")


def test_a_request_that_is_answered_again_is_no_other_request(answered):
    Ledger(answered.path / "ledger.db").attach(1, status="open")
    record = answered.answer(pending=True).record
    assert [e["number"] for e in record.details["requests"]] == [1]
    table = earlier_table(record)
    shown = list(table.columns[0].cells)
    assert [text.partition(" ")[0] for text in shown] == ["2"]


def test_an_export_names_what_stands_in_the_way(answered, tmp_path, capsys):
    """It writes the file all the same: who exports may have a reason."""
    answered.forget(ids=["p9"])

    def exported(name):
        assert main(["export", str(tmp_path / name), "--project", str(answered.path)]) == 0
        assert (tmp_path / name).is_file()
        return last_line(capsys)

    assert exported("whole.safetensors").startswith("next: hand over both; ")
    answered.register([wanted(ids=["p30"])])
    run = f"`expunge forget --project {answered.path} --pending`"
    waits = exported("waits.safetensors")
    assert re.match(
        rf"next: do not hand over the model yet: request \d+ waits. First answer it with {run}. Then hand over both; ",
        waits,
    )
    Ledger(answered.path / "ledger.db").attach(1, status="open", note="asked again")
    opened = exported("opened.safetensors")
    assert (
        "request 1 was reopened in the ledger, request" in opened and f"answer it again with {run}" in opened
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            WriteError(
                "models/0003.safetensors cannot be written: No space left on device; free some space."
            ),
            True,
        ),
        (MemoryError("out of memory"), True),
        (ExpungeError("'p999' is unknown"), False),
    ],
)
def test_an_error_of_the_system_says_that_the_request_was_not_entered(
    answered, tmp_path, capsys, monkeypatch, error, told
):
    def fails(self, *_, **__):
        raise error

    monkeypatch.setattr(type(answered), "answer", fails)
    assert forget(answered, "--ids", ids_file(tmp_path, "p20")) != 0
    assert (
        "the request was not entered; with --wait, requests are entered first" in capsys.readouterr().err
    ) == told
