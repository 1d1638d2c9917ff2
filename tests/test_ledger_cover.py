"""What proves a request without ids, and which audits a ledger refuses."""

import json

import pytest
import torch
from torch import nn

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.receipts.issue import issue
from expunge.receipts.ledger import Ledger
from expunge.records.hashing import model_hash
from expunge.records.record import Record
from test_ledger_proof import entry, make_run


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "requests.db", create=True)


def class_run(
    folder, name, numbers, *, classes=("tabby", "dog", "3", "x"), goal="unlearn", kind="unlearn", concept=None
):
    """Write a run that removes classes, with its receipt."""
    torch.manual_seed(0)
    before, after = nn.Linear(2, 2), nn.Linear(2, 2)
    details = {"verdict": {"words": ["indistinguishable"]}}
    if concept is not None:
        details["erasure"] = {"concept": concept}
    record = Record(
        kind,
        "salun",
        {"name": name},
        goal=goal,
        model={"hash_before": model_hash(before.state_dict()), "hash_after": model_hash(after.state_dict())},
        data={"classes": list(classes)},
        split={"hash": "5" * 64, "forget_classes": list(numbers)},
        scores={"UA": 100.0, "MIA": 90.0},
        details=details,
        machine={},
    )
    path = folder / f"{name}.json"
    record.save(path)
    issue(record, None)[0].save(folder / f"{name}.receipt.json")
    return {"record": path, "audit": path, "receipt": folder / f"{name}.receipt.json"}


# ---- classes and concepts


@pytest.mark.parametrize("asked", [["tabby"], ["0"], ["tabby", "1"], ["3"], ["dog", "tabby", "3"]])
def test_a_class_request_is_done_by_a_run_that_removes_its_classes(ledger, tmp_path, asked):
    ledger.add("a", classes=asked)
    # the class named "3" has the number 2
    state = ledger.attach(1, **class_run(tmp_path, "one", [0, 1, 2]))
    assert (state.state, state.missing, state.covered) == ("done", [], True)
    # the file names no class
    assert b"tabby" not in ledger.path.read_bytes() and all(c.ok for c in ledger.check(full=True))


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        (["tabby"], {"numbers": [1]}),
        (["tabby", "dog"], {"numbers": [0]}),
        (["3"], {"numbers": [3]}),
        (["tabby"], {"numbers": [0], "goal": "untrain"}),
        (["tabby"], {"numbers": []}),
        (["tabby"], {"numbers": [0], "kind": "erase", "concept": "tabby"}),
        (["9"], {"numbers": [0]}),
    ],
)
def test_a_run_that_removes_other_classes_is_refused(ledger, tmp_path, asked, run):
    ledger.add("a", classes=asked)
    head = ledger.head()
    with pytest.raises(
        ExpungeError, match=f"does not remove all {len(asked)} classes or concepts of request 1"
    ):
        ledger.attach(1, **class_run(tmp_path, "one", run.pop("numbers"), **run))
    assert ledger.head() == head


def test_a_concept_request_is_done_by_an_erasure_of_the_concept(ledger, tmp_path):
    ledger.add("a", concept="Jane Do\u00e9")
    with pytest.raises(ExpungeError, match="does not remove"):
        ledger.attach(1, **class_run(tmp_path, "other", [], kind="erase", concept="bag"))
    # the same text in another Unicode form
    files = class_run(tmp_path, "one", [], kind="erase", concept="Jane Doe\u0301")
    assert ledger.attach(1, **files).state == "done"
    assert "Jane" not in ledger.path.read_bytes().decode(errors="replace")


def test_what_is_missing_without_the_record_and_for_both(ledger, tmp_path):
    ledger.add("a", classes=["tabby"])
    files = class_run(tmp_path, "one", [0])
    state = ledger.attach(1, receipt=files["receipt"])
    assert (
        state.state == "done, not proved"
        and "a record of a run that removes its 1 classes or concepts" in state.missing
    )
    assert ledger.attach(1, record=files["record"], audit=files["audit"]).state == "done"
    ledger.add("b", ["1"], classes=["tabby"])
    state = ledger.attach(2, **files)
    assert state.missing == ["a proof that its 1 ids are in the forget set"]
    # a second person may ask for the same class
    ledger.add("c", classes=["tabby"])
    assert ledger.attach(3, **files).state == "done"
    ledger.add("d")
    assert (
        ledger.attach(4, record=files["record"], audit=files["audit"], status="done").state
        == "done, not proved"
    )


def test_a_later_run_must_cover_the_classes_too(ledger, tmp_path):
    ledger.add("a", classes=["tabby"])
    ledger.attach(1, **class_run(tmp_path, "one", [0]))
    with pytest.raises(ExpungeError, match="does not remove"):
        ledger.attach(1, record=class_run(tmp_path, "two", [1])["record"])
    with pytest.raises(ExpungeError, match="the name of a class is empty"):
        ledger.add("b", classes=[" "])


# ---- audits that prove nothing


def test_an_audit_without_a_verdict_proves_nothing(ledger, tmp_path):
    ledger.add("a", ["1"])
    state = ledger.attach(1, **make_run(tmp_path, "one", ["1"], verdict=()))
    assert state.missing == ["an audit with a verdict (`expunge audit --out FILE` writes one)"]


@pytest.mark.parametrize(
    ("grounds", "word"),
    [
        ({"unchanged": "x"}, "unchanged"),
        ({"reference": "x"}, "no conclusion"),
        ({"over_forgotten": "x"}, "over-forgotten"),
    ],
)
def test_what_stands_against_a_conclusion_counts_without_a_verdict(ledger, tmp_path, grounds, word):
    ledger.add("a", ["1"])
    files = make_run(tmp_path, "one", ["1"], verdict=())
    audit = Record.load(files["record"])
    audit.details["grounds"] = grounds
    audit.save(tmp_path / "audit.json")
    state = ledger.attach(1, **{**files, "audit": tmp_path / "audit.json"})
    assert state.missing == [f"an audit within the limits (verdict {word})"]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"UA": "100"}, "has UA '100'; allowed are percentages from 0 to 100"),
        ({"UA": True}, "has UA True"),
        ({"UA": 1.0, "MIA": [1]}, r"has MIA \[1\]"),
        ({"UA": 101.0}, "has UA 101.0"),
        ({"UA": 1.0, "TA": -3}, "has TA -3"),
        ({"UA": 1.0, "gap": 0.1}, "a gap that is no table of numbers"),
        ({"UA": 1.0, "gap": {"avg": "0.1"}}, "a gap that is no table of numbers"),
    ],
)
def test_scores_of_wrong_types_are_refused(ledger, tmp_path, scores, words):
    ledger.add("a", ["1"])
    head = ledger.head()
    with pytest.raises(ExpungeError, match=words):
        ledger.attach(1, **make_run(tmp_path, "one", ["1"], scores=scores))
    assert ledger.head() == head


@pytest.mark.parametrize("verdict", [3, {"words": 3}, {"words": [1]}])
def test_a_verdict_of_a_wrong_type_is_refused(ledger, tmp_path, verdict):
    ledger.add("a", ["1"])
    files = make_run(tmp_path, "one", ["1"])
    audit = Record.load(files["record"])
    audit.details["verdict"] = verdict
    audit.save(tmp_path / "audit.json")
    with pytest.raises(ExpungeError, match=r"the verdict of .* is no list of words"):
        ledger.attach(1, audit=tmp_path / "audit.json")


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        ("none", "earlier_requests is no list"),
        ([1], "earlier request 1 is no table"),
        ([{}, {"came_back": True}], "earlier request 2 has a wrong receipt"),
        ([{"UA": "20"}], "earlier request 1 has a wrong UA"),
        ([{"MIA": 120}], "earlier request 1 has a wrong MIA"),
        ([{"UA_change": [1]}], "earlier request 1 has a wrong UA_change"),
        ([{"came_back": "yes"}], "earlier request 1 has a wrong came_back"),
        ([{"receipt": 5, "UA": True}], "earlier request 1 has a wrong receipt, UA"),
    ],
)
def test_malformed_results_on_earlier_requests_are_refused(ledger, tmp_path, earlier, words):
    """They were left out, so a request that came back stayed done."""
    one = make_run(tmp_path, "one", ["1"])
    ledger.add("a", ["1"])
    ledger.add("b", ["2"])
    ledger.attach(1, **one)
    bare = {"came_back": True}
    if isinstance(earlier, list):
        earlier = [{**entry(one), **e} if isinstance(e, dict) and e not in ({}, bare) else e for e in earlier]
        earlier = [entry(one) if e == {} else e for e in earlier]
    head = ledger.head()
    with pytest.raises(ExpungeError, match=words):
        ledger.attach(2, **make_run(tmp_path, "two", ["2"], earlier=earlier, seed=1))
    assert ledger.head() == head


# ---- an audit that comes before the run it speaks of


def test_a_run_that_an_earlier_audit_found_undone_is_reopened_at_once(ledger, tmp_path):
    one = make_run(tmp_path, "one", ["1"])
    ledger.add("a", ["1"])
    ledger.add("b", ["2"])
    two = make_run(tmp_path, "two", ["2"], earlier=[entry(one)], seed=1)
    assert ledger.attach(2, **two).unknown_returns
    state = ledger.attach(1, **one)
    assert state.status == "open" and state.reopened == (1,) and not state.proved
    assert "came back in the audit of request 2 (UA 20.0 (-60.0)" in state.note and state.drift.request == 2
    assert ledger.request(2).brought_back == (1,)
    with pytest.raises(ExpungeError, match="its samples came back"):
        ledger.attach(1, **one)
    assert ledger.attach(1, **make_run(tmp_path, "three", ["1"], seed=2)).state == "done"
    assert ledger.request(2).state == "done" and all(c.ok for c in ledger.check(full=True))


def test_a_later_audit_that_finds_nothing_lets_the_run_count(ledger, tmp_path):
    one = make_run(tmp_path, "one", ["1"])
    for name in "abc":
        ledger.add(name, ["1"])
    ledger.attach(2, **make_run(tmp_path, "two", ["1"], earlier=[entry(one)], seed=1))
    ledger.attach(3, **make_run(tmp_path, "three", ["1"], earlier=[entry(one, came_back=False)], seed=2))
    state = ledger.attach(1, **one)
    assert state.state == "done" and state.reopened == () and state.drift.request == 3


# ---- the whole way, on digits


def test_the_commands_from_request_to_done_and_back(tmp_path, monkeypatch, capsys):
    """Two requests by ids and one for a class; then an audit says that the first one came back."""
    monkeypatch.chdir(tmp_path)
    data = ["--data", "digits?limit=300&test_limit=150", "--model", "mlp"]

    def run(*words):
        code = main(list(words))
        return code, capsys.readouterr()

    (tmp_path / "ids.txt").write_text("5\n17\n23\n")
    assert run("train", *data, "--epochs", "10", "--batch-size", "32", "--out", "m0.safetensors")[0] == 0
    assert run("ledger", "add", "l.db", "case 1", "--ids", "ids.txt", "--received", "2026-01-01")[0] == 0
    assert run("ledger", "add", "l.db", "case 2", "--class", "3", "--received", "2026-01-01")[0] == 0
    salun = [
        "unlearn",
        "salun",
        *data,
        "--epochs",
        "1",
        "--batch-size",
        "32",
        "--lr",
        "0.001",
        "--trials",
        "0",
    ]
    ids = ["--forget-ids", "ids.txt"]
    assert run(*salun, "--checkpoint", "m0.safetensors", *ids, "--out", "m1.safetensors")[0] == 0
    audit = ["audit", *data, "--checkpoint", "m1.safetensors", "--original", "m0.safetensors", *ids]
    assert run(*audit, "--out", "a1.json")[0] == 0
    assert run("ledger", "overdue", "l.db", "--today", "2026-03-01")[0] == 1

    attach = ["ledger", "attach", "l.db", "1", "--record", "m1.json"]
    code, shown = run(*attach, "--receipt", "m1.receipt.json")
    assert code == 0 and "request 1 is done, not proved" in shown.out and "missing: an audit" in shown.out
    code, shown = run(*attach, "--receipt", "m1.receipt.json", "--audit", "m1.json", "--ids", "ids.txt")
    assert "missing: an audit with a verdict" in shown.out
    code, shown = run(*attach, "--audit", "a1.json", "--receipt", "m1.receipt.json", "--ids", "ids.txt")
    verdict = json.loads((tmp_path / "a1.json").read_text())["details"]["verdict"]["words"]
    assert code == 0 and verdict == ["unknown"]
    assert shown.out.startswith("request 1 is done; all 3 ids shown to be in its forget set")

    class3 = ["--forget-class", "3"]
    assert run(*salun, "--checkpoint", "m1.safetensors", *class3, "--out", "m2.safetensors")[0] in (0, 1)
    audit = ["audit", *data, "--checkpoint", "m2.safetensors", "--original", "m1.safetensors", *class3]
    run(*audit, "--out", "a2.json")
    attach = ["ledger", "attach", "l.db", "2", "--record", "m2.json", "--receipt", "m2.receipt.json"]
    code, shown = run(*attach, "--audit", "a2.json")
    assert "request 2 is done" in shown.out and "classes or concepts" not in shown.out
    assert run("ledger", "check", "l.db")[0] == run("ledger", "check", "l.db", "--full")[0] == 0
    assert "removed by the run" in run("ledger", "show", "l.db", "2")[1].out

    # a later audit that says that the samples of the first request are known again
    later = json.loads((tmp_path / "a2.json").read_text())
    (first,) = later["details"]["earlier_requests"]
    assert first["receipt"] == json.loads((tmp_path / "m1.receipt.json").read_text())["id"]
    first |= {"came_back": True, "reason": "accuracy 100 %"}
    (tmp_path / "a3.json").write_text(json.dumps(later))
    code, shown = run("ledger", "attach", "l.db", "2", "--audit", "a3.json")
    assert code == 1 and "request 1 is reopened: came back in the audit of request 2" in shown.out
    assert run("ledger", "overdue", "l.db", "--today", "2026-03-01")[0] == 1
    assert "state: open" in run("ledger", "show", "l.db", "1")[1].out
    assert run("ledger", "check", "l.db", "--full")[0] == 0
