"""Trackers get settings, curves, scores and paths of a run, and nothing private; a failing one costs a warning."""

import json
import os
import sys
import warnings

import pytest
import torch

from expunge import (
    ExpungeError,
    GradientMethod,
    SalUn,
    Session,
    UnlearningFailed,
    audit,
    execute,
    experiment,
    find,
    unlearn,
)
from expunge.cli import main
from expunge.cli.invocation import command_line, invoked_with
from expunge.tracking.by_name import make_trackers
from expunge.tracking.mlflow import PATIENCE, MLflow
from expunge.tracking.mlflow_uri import divided, uri_problem
from expunge.tracking.tracker import Result, Tracker
from expunge.tracking.tracking import Tracking, flat
from expunge.training.tracked import run_settings, tracked
from small_problem import vectors

QUICK = SalUn(epochs=2, batch_size=8)
MODULE = '''
import json

class Lines:
    """A tracker of a user: one line of JSON for each call."""
    def _write(self, *values):
        with open("lines.txt", "a") as file:
            file.write(json.dumps(values) + "\\n")
    def start(self, name, settings): self._write("start", name, settings)
    def log(self, step, values): self._write("log", step, values)
    def finish(self, result): self._write("finish", result.ended, result.scores, result.outputs)
'''


class Kept:
    """A tracker that keeps all calls, and fails in those that are named."""

    def __init__(self, *broken):
        self.calls, self.broken = [], broken

    def _take(self, name, *values):
        if name in self.broken:
            raise ConnectionError("no route to host")
        self.calls.append((name, *values))

    def start(self, name, settings):
        self._take("start", name, settings)

    def log(self, step, values):
        self._take("log", step, values)

    def finish(self, result):
        self._take("finish", result)

    @property
    def names(self):
        return [call[0] for call in self.calls]

    @property
    def result(self):
        return self.calls[-1][1]


class NoStep(GradientMethod):
    """A method that changes nothing."""

    schedule = "forget"

    def loss(self, run, forget, retain):
        return 0.0 * run.task.loss(run.model, forget).mean()


def test_execute_unlearn_experiment_audit_and_session_tell_a_tracker():
    model, split, task = vectors()
    kept = Kept()
    run = execute(model, split, QUICK, task, tracker=kept)
    assert kept.names == ["start", "log", "log", "log", "finish"]
    assert kept.calls[0][1] == "run salun" and kept.calls[0][2]["settings.epochs"] == 2
    assert [call[1] for call in kept.calls[1:-1]] == [row["step"] for row in run.history]
    assert kept.calls[2][2]["forget"] == run.history[1]["forget"] and kept.result == Result(ended="finished")

    one, two = Kept(), Kept()
    plain = unlearn(model, split, QUICK, task)
    watched = unlearn(model, split, QUICK, task, tracker=[one, two])
    assert one.calls == two.calls and one.calls[0][1] == "unlearn salun"
    # a tracker changes no result
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))

    kept = Kept()
    outcome = experiment(model, split, QUICK, task, tracker=kept, names={"model": "mlp", "data": "x?limit=3"})
    assert kept.result.scores["UA"] == outcome.record.scores["UA"]
    assert kept.calls[0][2]["data"] == "x" and kept.calls[0][2]["samples.forget"] == len(split.forget)

    kept = Kept()
    scores = audit(model, split, task, tracker=kept).scores
    assert kept.names == ["start", "finish"] and kept.result.scores["TA"] == scores["TA"]

    kept = Kept()
    train, test = split.forget.data, split.test.data
    session = Session(model, (train, test), task, SalUn(epochs=1, batch_size=8, lr=0.05), tracker=kept)
    answer = session.forget(classes=[1])
    assert kept.calls[0][1] == "forget salun" and kept.calls[0][2]["requests"] == 1
    assert kept.result.scores["UA"] == answer.scores["UA"]


def test_trials_are_one_growing_axis_and_the_chosen_settings_come_last():
    model, split, task = vectors(random=True)
    kept = Kept()
    outcome = experiment(
        model, split, SalUn(epochs=1, batch_size=8), task, trials=3, fixed=["epochs"], tracker=kept
    )
    steps = [call[1] for call in kept.calls if call[0] == "log"]
    assert steps == sorted(set(steps)) and kept.calls[-2][2]["trial"] == len(outcome.record.details["trials"])
    asked = kept.calls[0][2]
    for name, value in outcome.record.settings.items():
        if value is not None and asked.get(f"settings.{name}") != value:
            assert kept.result.chosen[f"settings.{name}"] == value


@pytest.mark.parametrize("broken", ["start", "log", "finish"])
def test_a_failing_tracker_costs_one_warning_and_no_run(broken):
    model, split, task = vectors()
    bad, good = Kept(broken), Kept()
    with pytest.warns(RuntimeWarning, match="tracker Kept failed.*no route to host") as caught:
        run = execute(model, split, QUICK, task, tracker=[bad, good])
    assert len([w for w in caught if "tracker" in str(w.message)]) == 1
    assert run.ended == "finished" and good.names == ["start", "log", "log", "log", "finish"]
    # the control: what fails gets nothing more
    assert bad.names == {"start": [], "log": ["start"], "finish": ["start", "log", "log", "log"]}[broken]


def test_the_ending_is_told_after_errors_too():
    model, split, task = vectors()
    kept = Kept()
    with pytest.raises(UnlearningFailed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unlearn(model, split, NoStep(epochs=1, batch_size=8, weight_decay=0.0), task, tracker=kept)
    assert kept.result.ended == "unchanged" and not kept.result.succeeded
    for error, ended in ((KeyboardInterrupt(), "interrupted"), (ValueError("x"), "failed")):
        kept = Kept()
        with pytest.raises(type(error)), tracked(kept, "run", {}):
            raise error
        assert kept.result.ended == ended


def test_names_of_trackers_are_checked_before_a_run(monkeypatch, tmp_path):
    with pytest.raises(ExpungeError) as caught:
        make_trackers(["tensorbord", "mlflow:", "mlflow:http://me:secret@host", "no.module:f", Kept, 3])
    problems = caught.value.problems
    assert len(problems) == 6 and "secret" not in str(caught.value)
    for text, words in zip(problems, ("tensorboard:DIR", "no place", "MLFLOW_TRACKING_PASSWORD", "no.module:f",
                                      "is Kept", "is int"), strict=True):  # fmt: skip
        assert words in text
    monkeypatch.setattr("expunge.tracking.by_name.find_spec", lambda name: None)
    with pytest.raises(ExpungeError, match=r"expunge\[wandb\]"):
        make_trackers("wandb:project")
    assert make_trackers(None) == [] and isinstance(Kept(), Tracker)
    assert flat({"a": {"b": [1, 2], "c": None}, "d": 1.5}) == {"a.b": "1, 2", "d": 1.5}
    # nothing is a score that is no number
    quiet = Tracking([kept := Kept()])
    quiet.take("finished", scores={"UA": float("nan"), "RA": 3.0, "name": "x", "gap": {"avg": 1.0}})
    quiet.finish()
    assert kept.result.scores == {"RA": 3.0, "gap.avg": 1.0}


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """A folder with a tracker of the user's, and data whose ids and groups are private."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_tracker.py").write_text(MODULE, encoding="utf-8")
    rows = [f"anna-{k},word{k % 3} {'abc'[k % 3]} n{k},{'xyz'[k % 3]},Smith{k // 10}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,text,label,person", *rows]) + "\n", encoding="utf-8")
    yield tmp_path
    sys.modules.pop("own_tracker", None)


def test_commands_tell_a_tracker_of_the_user_and_nothing_private(lines, capsys):
    data = ["--data", "text:t.csv?length=4", "--model", "text_transformer"]
    track = ["--track", "own_tracker:Lines"]
    quick = ["--epochs", "1", "--batch-size", "16"]
    assert main(["train", *data, "--out", "o.pt", *quick, *track]) == 0
    forget = ["--forget-group", "person=Smith2"]
    run = [
        "unlearn",
        "salun",
        *data,
        "--checkpoint",
        "o.pt",
        *forget,
        "--trials",
        "0",
        "--out",
        "u.pt",
        *quick,
    ]
    assert main([*run, *track, "--report", "r.html"]) in (0, 1)
    assert main(["audit", *data, "--checkpoint", "u.pt", "--original", "o.pt", *forget, *track]) in (0, 1)
    assert main(["init", "office", *data, "--checkpoint", "o.pt", "--settings", "epochs=1", "batch_size=16",
                 "--trials", "0"]) == 0, capsys.readouterr().err  # fmt: skip
    ids = lines / "ids.txt"
    ids.write_text(
        "\n".join(json.loads((lines / "u.requests.json").read_text())["requests"][0]["ids"]), "utf-8"
    )
    main(["forget", "--ids", str(ids), "--project", "office", "--subject", "case-77", *track])
    text = (lines / "lines.txt").read_text(encoding="utf-8")
    for private in ("anna", "Smith", "person=", "ids.txt", "case-77", "--"):
        assert private not in text, private
    calls = [json.loads(line) for line in text.splitlines()]
    names = [call[1] for call in calls if call[0] == "start"]
    assert names == ["train original", "unlearn salun", "audit", "forget salun"]
    ends = [call for call in calls if call[0] == "finish"]
    assert ends[0][1] == "finished" and all(end[2]["UA"] >= 0 for end in ends[:3])
    assert ends[1][3] == {
        "checkpoint": "u.pt",
        "record": "u.json",
        "receipt": "u.receipt.json",
        "report": "r.html",
    }


def test_a_wrong_tracker_is_refused_before_anything_is_read(lines, capsys):
    assert main(["train", "--data", "digits", "--model", "mlp", "--out", "o.pt", "--track", "mlflow"]) == 2
    assert "mlflow:URI" in capsys.readouterr().err and not (lines / "o.pt").exists()


def test_settings_name_nobody():
    split = vectors(random=True).split
    settings = run_settings(
        QUICK, split, 3, {"model": "mlp", "data": "folder:faces?size=3", "classes": ["Anna"]}
    )
    assert "Anna" not in str(settings) and "hash" not in str(settings) and settings["data"] == "folder:faces"


SECRET_URIS = (
    "http://user:hunter2@localhost", "http://user:hunter2#x@localhost", "http://localhost:5000?password=hunter2",
    "https://hunter2@host:5000", "http://user:pa/hunter2@host#runs", "http://user:hunter2%40host",
    "postgresql+psycopg2://me:hunter2@host/runs", "mysql://host/runs?password=hunter2", "sqlite://me:hunter2@/runs.db",
    "user:hunter2@host", "hunter2@host/path", "http://[hunter2", "http://host:hunter2/", "sqlite:///a.db?token=hunter2",
)  # fmt: skip


@pytest.mark.parametrize("uri", SECRET_URIS)
def test_a_uri_with_a_secret_is_refused_and_not_repeated(uri):
    with pytest.raises(ExpungeError, match="MLFLOW_TRACKING_USERNAME") as caught:
        make_trackers(f"mlflow:{uri}")
    assert "hunter2" not in str(caught.value)


def test_a_hash_sign_in_the_path_of_a_database_is_no_experiment():
    expected = {
        "sqlite:///runs.db": ("sqlite:///runs.db", ""),
        "sqlite:///runs.db#mine": ("sqlite:///runs.db", "mine"),
        "sqlite:////data/a#1/runs.db": ("sqlite:////data/a#1/runs.db", ""),
        "sqlite:////data/a#1/runs#2.db#mine": ("sqlite:////data/a#1/runs#2.db", "mine"),
        "http://localhost:5000#a b": ("http://localhost:5000", "a b"),
        "http://localhost:5000": ("http://localhost:5000", ""),
        "./me@home/runs": ("./me@home/runs", ""),
    }
    for text, parts in expected.items():
        assert divided(text) == parts and uri_problem(text) == "", text


def test_records_and_warnings_have_no_password():
    arguments = [
        "train",
        "--data",
        "text:t.csv?tokenizer=bert",
        "--track",
        "x.y:http://me:hunter2@host/a?token=hunter2",
    ]
    with invoked_with(arguments):
        line = command_line()
    assert "hunter2" not in line and "tokenizer=bert" in line and "http://***@host/a?token=***" in line
    with pytest.warns(RuntimeWarning, match=r"http://\*\*\*@host") as caught:
        Tracking([Raises(ValueError("no answer of http://me:hunter2@host"))]).start("run", {})
    assert "hunter2" not in str(caught[0].message)


class Raises(Kept):
    """A tracker that raises an error at each call."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def _take(self, name, *values):
        raise self.error


def test_a_tracker_that_ends_its_process_ends_no_run():
    model, split, task = vectors()
    with pytest.warns(RuntimeWarning, match="SystemExit: 3"):
        assert execute(model, split, QUICK, task, tracker=Raises(SystemExit(3))).ended == "finished"
    with pytest.raises(KeyboardInterrupt):
        execute(model, split, QUICK, task, tracker=Raises(KeyboardInterrupt()))


def test_a_tracker_cannot_change_what_others_get():
    class Clears(Kept):
        def _take(self, name, *values):
            for value in values:
                for each in (value.scores, value.outputs) if isinstance(value, Result) else (value,):
                    getattr(each, "clear", int)()

    kept, tracking = Kept(), Tracking([Clears(), last := Kept()])
    tracking.trackers.insert(0, kept)
    tracking.start("run", {"method": "salun"})
    tracking.row({"step": 0, "loss": 1.0})
    tracking.take("finished", scores={"UA": 3.0})
    tracking.finish()
    assert last.calls == kept.calls and last.result.scores == {"UA": 3.0} and tracking.settings


def test_a_server_that_does_not_answer_is_given_up_soon(monkeypatch):
    """MLflow reads its limits from the environment at each call; those of the user stay."""
    seen = []

    class Client:
        def __getattr__(self, name):
            seen.append({key: os.environ.get(key) for key in PATIENCE})
            return lambda *a, **k: None

    for name in PATIENCE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    tracker = MLflow("http://localhost:1")
    tracker._client = Client()
    tracker._batches("tags", [1])
    tracker._batches("tags", [1])
    assert seen == [{**PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}] * 2
    assert not set(PATIENCE) - {"MLFLOW_HTTP_REQUEST_TIMEOUT"} & set(os.environ)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"


def test_trackers_are_told_how_a_run_ended():
    model, split, task = vectors()
    kept = Kept()
    with pytest.warns(RuntimeWarning, match="diverged"):
        run = execute(model, split, find("finetune")(epochs=1, lr=1e30, batch_size=8), task, tracker=kept)
    assert kept.result.ended == run.ended == "diverged"
