"""Few comparable unseen samples: standard errors, the warning, the estimate that borrows from all unseen samples."""

import io
import warnings
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from expunge import ExpungeError, Split, TensorData
from expunge.cli import demo_generation
from expunge.cli.demo import progress_bars
from expunge.cli.outputs import resumable
from expunge.cli.table_notes import table_notes
from expunge.cli.terminal import print_trials
from expunge.data.likeness import Likeness, Target, few_text, importance_weights, likeness, standard_error
from expunge.errors import CheckpointError
from expunge.methods.jit import JIT
from expunge.methods.lotus import LoTUS
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.ugradsl import UGradSL
from expunge.pipeline.changes import change_texts
from expunge.records.atomic_files import atomic
from expunge.records.checkpoint_metadata import check_retrained, metadata_for
from expunge.records.record import Record
from expunge.tuning.auto import why_no_search
from expunge.tuning.caution import gap_error
from expunge.tuning.search import Objective, Trial
from small_problem import vectors

Y = torch.arange(120) % 4
DATA, TEST = TensorData(torch.randn(120, 3), Y), TensorData(torch.randn(40, 3), Y[:40])


def of_ids(**options) -> Split:
    """Samples 0 and 4, of class 0."""
    return Split.by_ids(DATA, TEST, ["0", "4"], copies="ignore", **{"validation_from": "test", **options})


# ---- numbers by hand


def test_the_standard_error_by_hand():
    """2 of 12: p = 3 / 14, sqrt(3 / 14 * 11 / 14 / 12) = 0.1185. And 0 of 3 is no certainty: sqrt(1 / 5 * 4 / 5 / 3)."""
    assert standard_error(100 * 2 / 12, 12) == pytest.approx(11.845, abs=0.001)
    assert standard_error(0, 3) == pytest.approx(23.094, abs=0.001)
    assert str(Target(100 * 2 / 12, 11.845, 12)) == "16.7 ± 11.8 (12 comparable samples)"
    assert str(Target(0.0)) == "0.0"


def test_few_samples_of_a_class_borrow_from_all_by_hand():
    """A validation share of 0.5: 5 of each class. Those of class 0 count 5 / 15, all 20 together count 10 / 15."""
    split = of_ids(validation=0.5)
    alike = likeness(split)
    of_class = split.unseen.labels == 0
    assert (alike.samples, alike.size) == (5, pytest.approx(5)) and int(of_class.sum()) == 5
    shares = alike.weights / alike.weights.sum()
    assert shares[of_class].tolist() == pytest.approx([1 / 3 / 5 + 2 / 3 / 20] * 5)
    assert shares[~of_class].tolist() == pytest.approx([2 / 3 / 20] * 15)
    # of class 0 one in five is right, of the others all: 1/3 * 0.2 + 2/3 * 16/20
    right = (~of_class).double()
    right[of_class.nonzero()[0]] = 1
    target = Target.of(right, alike)
    assert target.percent == pytest.approx(60) and target.samples == 5
    assert target.error == pytest.approx(standard_error(60, 5))


def test_enough_samples_of_a_class_borrow_nothing():
    labels = torch.arange(240) % 4
    test = TensorData(torch.randn(240, 3), labels)
    for validation, least in ((0.5, 30), (0.45, 27)):
        split = Split.by_ids(
            DATA, test, ["0"], copies="ignore", validation_from="test", validation=validation
        )
        weights = importance_weights(split)
        assert int((split.unseen.labels == 0).sum()) == least
        assert bool((weights[split.unseen.labels != 0] > 0).any()) == (least < 30)


def test_the_error_of_a_gap_by_hand():
    """UA 50 of 12 samples: sqrt(0.25 / 12) = 14.43 points; UA and MIA are two of four parts, for half of the forget set."""
    alike = Likeness(torch.ones(12), 12, 12.0)
    assert gap_error({"UA": 50.0, "MIA": 50.0}, 0.0, alike) == pytest.approx(14.434 / 2, abs=0.001)
    assert gap_error({"UA": 75.0, "MIA": 75.0}, 0.5, alike) == pytest.approx(14.434 / 4, abs=0.001)
    assert gap_error({"UA": 100.0, "MIA": 100.0}, 1.0, None) == 0


# ---- what users read


def test_stop_rules_say_how_many_samples_set_their_target():
    problem = vectors(random=True)
    for method in (UGradSL(), JIT(), LoTUS()):
        run = problem.run()
        with pytest.warns(RuntimeWarning, match="only 8 unseen samples are comparable"):
            method.prepare(run)
        target = method.details(run)["stop_target"]
        assert target["samples"] == 8 and target["error"] > 15 and run.notes == [few_text(8)]
    run.memo["difference"], run.memo["measured"], run.step = -0.5, 1, 1
    assert "(8 comparable samples)" in method.stop(run, {"forget": 0.0})
    run = problem.run()
    with pytest.warns(RuntimeWarning):
        UGradSL().prepare(run)
    reason = UGradSL().stop(run, {"forget": 0.0})
    assert "reached that of unseen samples, " in reason and "± " in reason
    assert UGradSL(early_stop=False).stop(run, {"forget": 0.0}) is None


def test_few_samples_behind_trials_are_named(capsys):
    assert Objective(lambda m: 0.0, unseen=12).notes == [few_text(12)]
    assert Objective(lambda m: 0.0, unseen=30).notes == [] == Objective(lambda m: 0.0).notes
    trial = Trial({"lr": 0.1}, 2.67, "finished", 1.0, 5.92, 12)
    print_trials(2)([trial])
    assert "estimated gap 2.67 ± 5.9 points (12 comparable samples)" in capsys.readouterr().err
    print_trials(2)([Trial({"lr": 9.0}, 100.0, "diverged at step 3: NaN")])
    assert "lr 9: diverged at step 3: NaN" in capsys.readouterr().err


def test_lines_under_the_table():
    trials = [vars(Trial({"lr": 0.1}, 2.67, "finished", s, 5.92, 12)) for s in (20.0, 27.8)]
    details = {"trials": trials, "changes": ["RA fell by 22.0 points against the original (98.8 to 76.8)."],
               "stop_target": {"percent": 16.7, "error": 11.8, "samples": 12}}  # fmt: skip
    record = Record("unlearn", "ugradsl", settings={"lr": 0.1, "epochs": 1}, details=details, machine={})
    assert table_notes([Record("original", "retrain", machine={}), record]) == [
        "The chosen settings had an estimated gap of 2.67 ± 5.9 points (12 comparable samples).",
        "RTE is the one run that made the model. The 2 trials together took 47.8 s.",
        "The stop rule ends a run at a forget accuracy of 16.7 ± 11.8 (12 comparable samples).",
        "RA fell by 22.0 points against the original (98.8 to 76.8).",
    ]
    # records of earlier versions have neither errors nor numbers of samples
    old = Record(
        "unlearn", "salun", details={"trials": [{"settings": {}, "distance": 2.0, "status": ""}]}, machine={}
    )
    assert table_notes([old]) == ["The chosen settings had an estimated gap of 2.00 points."]


@pytest.mark.parametrize(("lr", "gap"), [(0.1, "1.50"), (0.2, "1.84"), (0.3, "")])
def test_the_line_on_the_chosen_settings_is_that_of_the_trial_that_was_used(lr, gap):
    """A project may take another trial than the closest one."""
    trials = [vars(Trial({"lr": v, "betas": (0, 1)}, d, "finished")) for v, d in ((0.1, 1.5), (0.2, 1.84))]
    record = Record(
        "unlearn", "salun", settings={"lr": lr, "betas": [0, 1]}, details={"trials": trials}, machine={}
    )
    assert [text for text in table_notes([record]) if "chosen" in text] == (
        [f"The chosen settings had an estimated gap of {gap} points."] if gap else []
    )


def test_large_losses_and_unchanged_forget_sets_are_said():
    before = {"RA": 98.8, "TA": 56.9, "UA": 0.0}
    assert change_texts({"RA": 76.8, "TA": 51.7, "UA": 0.0}, before) == [
        "RA fell by 22.0 points against the original (98.8 to 76.8), and TA by 5.2 points (56.9 to 51.7).",
        "UA did not change (0.00 before and after): by this score, the run forgot nothing.",
    ]
    assert change_texts({"RA": 96.0, "TA": 60.0, "UA": 50.0}, before) == []
    assert change_texts({"RA": 98.8, "UA": 0.0}, before, exact=True) == []
    assert change_texts({}, before) == []


def test_a_missing_remedy_is_said_once():
    split = of_ids(validation=0.0, validation_from="train")
    with pytest.warns(RuntimeWarning) as caught:
        why_no_search(UGradSL(), split, ())
        why_no_search(SalUn(), split, ())
    assert ["--unseen-ids" in str(w.message) for w in caught] == [False, True]
    with pytest.raises(ExpungeError, match=r"lotus compares .*--validation-from test"):
        why_no_search(LoTUS(), split, ())


def test_a_split_mismatch_names_the_flags_that_differ(tmp_path):
    made = {source: of_ids(validation=0.5, seed=1, validation_from=source) for source in ("test", "train")}
    files = {source: SimpleNamespace(metadata=metadata_for("retrain", split, Retrain(), 0, key=None), path=tmp_path / "r.safetensors")
             for source, split in made.items()}  # fmt: skip
    assert check_retrained(files["test"], made["test"]) is None
    train = {"validation": 0.5, "seed": 1, "validation_from": "train"}
    for source, options, words in (
        ("test", train, "give --validation-from test, or"),
        ("train", {**train, "validation_from": "test"}, "give no --validation-from, or"),
        ("train", {**train, "seed": 0}, "give --split-seed 1, or"),
        ("train", {**train, "validation": 0.1}, "give --validation 0.5, or"),
        (
            "test",
            {"seed": 1, "validation": 0.1, "validation_from": "train", "unseen_ids": ["1"]},
            "give --validation 0.5 and --validation-from test and no --unseen-ids, or",
        ),
    ):
        with pytest.raises(CheckpointError, match=words):
            check_retrained(files[source], of_ids(**options))
    other = Split.by_class(DATA, TEST, 1, validation=0.5, seed=1, validation_from="test", goal="untrain")
    with pytest.raises(CheckpointError, match="give the same forget flags"):
        check_retrained(files["test"], other)


def test_problems_of_one_id_and_of_several():
    assert "1 id, '200', is unknown" in str(_refused(["200"]))
    assert "2 ids (first: ['200', '201']): each is unknown" in str(_refused(["200", "201"]))


def _refused(ids):
    with pytest.raises(ExpungeError) as error:
        Split.by_ids(DATA, TEST, ids)
    return error.value


# ---- files, statuses, the demo


def test_weights_in_a_folder_follow_the_umask_and_private_files_stay_private(tmp_path):
    with atomic(tmp_path / "folder", folder=True) as part:
        (part / "sub").mkdir()
        for name in ("model.safetensors", "sub/unet.safetensors", "secret.json"):
            (part / name).touch()
            (part / name).chmod(0o600)
    modes = {f.name: f.stat().st_mode & 0o777 for f in (tmp_path / "folder").rglob("*.*")}
    (tmp_path / "plain").touch()
    assert modes == {
        "model.safetensors": (tmp_path / "plain").stat().st_mode & 0o777,
        "unet.safetensors": (tmp_path / "plain").stat().st_mode & 0o777,
        "secret.json": 0o600,
    }


def test_the_status_of_a_failed_run_is_left_to_the_error(tmp_path):
    texts = ["SalUn diverged at step 1: NaN", "UGradSL unchanged: every parameter is identical",
             "None of the 4 trials of salun improved on the original model (estimated gap 3)",
             "NHLE stopped at step 14: accuracy fell", "only 4 unseen samples are comparable"]  # fmt: skip
    for keeps_original, shown in ((True, texts[3:]), (False, texts[2:])):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with resumable(tmp_path / "out.pt", keeps_original):
                for text in texts:
                    warnings.warn(text, RuntimeWarning, stacklevel=1)
        assert [str(w.message) for w in caught] == shown


def test_the_demo_prints_lines_into_a_log(capsys):
    with progress_bars(Console(file=io.StringIO())) as bars, bars.bar("retrain", Retrain(epochs=2)) as watch:
        watch.on_row({"epoch": 1, "step": 3, "loss": 0.5, "forget": None, "retain": 0.25})
    lines = capsys.readouterr().err.replace("\r", "").splitlines()
    assert lines[0] == "retrain (reference): starts" and lines[-1].startswith("retrain (reference): took ")
    assert "retrain (reference) epoch 1/2 step 3: loss 0.500, retain 0.250" in lines[1]


def test_the_demo_makes_its_folder_first(tmp_path):
    (tmp_path / "file").touch()
    demo_generation.folder_to_write(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(ExpungeError, match="cannot be made"):
        demo_generation.folder_to_write(tmp_path / "file" / "b")
    text = demo_generation.plan_text("digits", ("salun", "esd"), tmp_path)
    assert "2 methods (salun, esd)" in text and "minutes" in text and "does not resume" in text
