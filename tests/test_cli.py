"""The command line as a user meets it: refusals with a sentence, formats kept, runs that survive being killed."""

import json
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch

import expunge.cli
from expunge import Record, Retrain
from expunge.cli import main
from expunge.cli.compute_flags import RecipeFlags
from expunge.cli.flags import SplitFlags
from expunge.cli.settings_flags import given
from expunge.errors import SplitError
from expunge.masks.mask import full_mask
from expunge.models import build
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.keyed import agrees
from expunge.records.request_file import read_key

QUICK = ["--epochs", "4", "--batch-size", "64"]
DIGITS = ["--data", "digits", "--model", "mlp"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert main(["train", *DIGITS, "--out", str(folder / "original.safetensors"), *QUICK]) == 0
    assert (
        main(
            [
                "train",
                *DIGITS,
                "--out",
                str(folder / "gold.safetensors"),
                "--without-forget",
                "--forget-class",
                "3",
                *QUICK,
            ]
        )
        == 0
    )
    return folder


def test_help_and_version_and_lists(capsys):
    for args in (["--version"], ["methods"], ["methods", "--verbose"]):
        assert main(args) == 0
    out = capsys.readouterr().out
    assert "expunge 0" in out and "salun" in out and "arXiv:2310.12508" in out
    for args in (["--help"], ["unlearn", "--help"], ["unlearn", "salun", "--help"], ["train", "--help"]):
        assert main(args) == 0


def test_a_checkpoint_says_what_it_was_trained_on(trained):
    read = read_checkpoint(trained / "original.safetensors")
    assert len(read.metadata["train_hash"]) == 64 and json.loads(read.metadata["recipe"])["epochs"] == 4
    record = Record.load(trained / "original.json")
    assert record.kind == "original" and record.model["hash_after"] and record.scores["RA"] > 20


def run_unlearn(folder, *more, method="salun", checkpoint="original.safetensors"):
    return main(
        [
            "unlearn",
            method,
            *DIGITS,
            "--checkpoint",
            str(folder / checkpoint),
            "--forget-class",
            "3",
            "--epochs",
            "1",
            *more,
        ]
    )


def test_unlearn_writes_checkpoint_record_and_report(trained, tmp_path, capsys):
    before = (trained / "original.safetensors").read_bytes()
    out = tmp_path / "out.safetensors"
    assert (
        run_unlearn(
            trained,
            "--retrained",
            str(trained / "gold.safetensors"),
            "--out",
            str(out),
            "--report",
            str(tmp_path / "r.html"),
        )
        == 0
    )
    assert (trained / "original.safetensors").read_bytes() == before
    record = Record.load(tmp_path / "out.json")
    assert (
        set(record.scores["gap"]) - {"reliable"} == {"UA", "RA", "TA", "MIA", "avg", "features"}
        and record.settings["density"] == 0.5
    )
    key = read_key(tmp_path / "out.requests.json")
    assert record.command.startswith("expunge")
    assert agrees(read_checkpoint(out).metadata["split_hash"], record.split["hash"], "split_hash", key)
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")
    assert "Retrain" in capsys.readouterr().out
    assert not [f for f in tmp_path.iterdir() if f.name.endswith((".state", ".expunge-part"))]


def test_torch_checkpoints_of_others_keep_their_form(trained, tmp_path, capsys):
    state = build("mlp", num_classes=10, shape=(1, 8, 8)).state_dict()
    torch.save(
        {"model": {"module." + k: v for k, v in state.items()}, "epoch": 9, "optimizer": {}},
        tmp_path / "theirs.pt",
    )
    assert run_unlearn(tmp_path, "--validation", "0", "--trials", "0", checkpoint="theirs.pt") == 0
    after = torch.load(tmp_path / "theirs-salun.pt", weights_only=True)
    assert set(after) == {"model", "epoch", "expunge"} and all(
        k.startswith("module.") for k in after["model"]
    )
    told = capsys.readouterr().err
    assert (
        "'module.'" in told and "does not say which samples" in told and "remember the training data" in told
    )


SALUN = ["unlearn", "salun", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-class", "3"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["unlearn", "salun", *DIGITS, "--checkpoint", "none.pt", "--forget-class", "3"], "does not exist"),
        (["unlearn", "salun", *DIGITS, "--checkpoint", "ORIGINAL"], "give exactly one"),
        (
            [
                "unlearn",
                "salun",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
                "--forget-share",
                "0.1",
            ],
            "give exactly one",
        ),
        (
            ["unlearn", "salun", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-class", "30"],
            "there is no class 30",
        ),
        (
            [
                "unlearn",
                "salun",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
                "--out",
                "ORIGINAL",
            ],
            "never overwritten",
        ),
        (
            [
                "unlearn",
                "salun",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
                "--split-seed",
                "4",
            ],
            "trained on other samples",
        ),
        (
            [
                "unlearn",
                "salun",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
                "--density",
                "3",
            ],
            "from 0 to 1",
        ),
        (["unlearn", "nhle", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-share", "0.1"], "'random'"),
        (
            [
                "unlearn",
                "salun",
                "--data",
                "digits",
                "--model",
                "cnn",
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
            ],
            "of the same architecture",
        ),
        (
            [
                "unlearn",
                "salun",
                "--data",
                "digits",
                "--model",
                "cnnn",
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
            ],
            "no model 'cnnn'",
        ),
        (
            [
                "unlearn",
                "salun",
                "--data",
                "digitz",
                "--model",
                "cnn",
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
            ],
            "no data 'digitz'",
        ),
        (
            [
                "unlearn",
                "salun",
                "--data",
                "fashion-mnist:/none",
                "--model",
                "cnn",
                "--checkpoint",
                "ORIGINAL",
                "--forget-class",
                "3",
            ],
            "IDX files",
        ),
        (["train", *DIGITS, "--out", "x.pt", "--forget-class", "3"], "--without-forget"),
        (["train", *DIGITS, "--out", "x.pt", "--class-share", "0.5"], "--without-forget"),
        (["train", *DIGITS, "--out", "x.pt", "--device", "cuda:77"], "not available"),
        (["train", *DIGITS, "--out", "x.pt", "--device", "foo"], "'foo' is not available"),
        (["unlearn", "esd", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-class", "3"], "unlearn-generator"),
        (
            ["unlearn", "sisa", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-class", "3"],
            "SisaEnsemble.load",
        ),
        (
            ["unlearn", "salun", *DIGITS, "--checkpoint", "ORIGINAL", "--forget-group", "folder"],
            "write COLUMN=VALUE",
        ),
        (
            [
                "unlearn",
                "salun",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--forget-share",
                "0.1",
                "--class-share",
                "0.5",
            ],
            "--class-share 0.5",
        ),
        (
            [
                "audit",
                *DIGITS,
                "--checkpoint",
                "ORIGINAL",
                "--original",
                "ORIGINAL",
                "--forget-class",
                "3",
                "--max-gap",
                "3",
            ],
            "needs --retrained",
        ),
        (["report", "none.json"], "cannot be read"),
        (
            ["unlearn", "salunn", *DIGITS, "--checkpoint", "ORIGINAL"],
            "there is no method 'salunn'; did you mean 'salun'? known: amnesiac",
        ),
        ([*SALUN, "--seed", "-1"], "the seed is -1"),
        ([*SALUN, "--split-seed", str(2**64)], "from 0 to 2^63 - 1"),
        (["train", *DIGITS, "--out", "x.pt", "--seed", str(2**64)], "from 0 to 2^63 - 1"),
        ([*SALUN, "--lr", "nan"], "lr is nan; it must be a finite number"),
        ([*SALUN, "--report", "ORIGINAL"], "--report"),
        ([*SALUN, "--save-mask", "ORIGINAL"], "also an input"),
        ([*SALUN, "--out", "x.pt", "--report", "x.pt"], "--out and --report are both x.pt"),
        (["train", *DIGITS, "--out", "x.json"], "--out and its record are both x.json"),
        (["train", *DIGITS, "--out", "."], "--out . is a folder"),
        (["demo", "--seeds", "0"], "--seeds is 0"),
        (["report", "none.json", "--out", "."], "--out . is a folder"),
        (["verify", "none.json", "--model", "ORIGINAL"], "none.json is no file"),
        (
            ["audit", *DIGITS, "--checkpoint", "ORIGINAL", "--original", "ORIGINAL", "--out", "ORIGINAL"],
            "never overwritten",
        ),
    ],
)
def test_wrong_input_ends_with_a_sentence_and_changes_nothing(
    trained, tmp_path, monkeypatch, capsys, args, words
):
    monkeypatch.chdir(tmp_path)
    original = trained / "original.safetensors"
    before = original.read_bytes()
    assert main([str(original) if a == "ORIGINAL" else a for a in args]) == 2
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told
    assert original.read_bytes() == before and not list(tmp_path.iterdir())


def test_a_mask_is_no_checkpoint(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    full_mask(build("mlp", num_classes=10, shape=(1, 8, 8))).save("mask.safetensors")
    before = ["audit", *DIGITS, "--forget-class", "3", "--original", str(trained / "original.safetensors")]
    assert main([*before, "--checkpoint", "mask.safetensors"]) == 2
    assert "mask.safetensors is a mask, not a model" in capsys.readouterr().err
    assert main([*before, "--checkpoint", "mask.safetensors", "--retrained", "x", "--max-gap", "nan"]) == 2
    assert "--max-gap is nan" in capsys.readouterr().err


def test_data_that_is_not_finite_is_refused_and_the_sample_is_named(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    y = np.arange(60) % 3
    x[7] = np.nan
    np.savez(tmp_path / "d.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    command = ["train", "--data", f"npz:{tmp_path / 'd.npz'}", "--model", "mlp", "--epochs", "2"]
    assert main([*command, "--batch-size", "8", "--out", str(tmp_path / "o.pt")]) == 2
    assert "1 training samples hold NaN or infinity (ids: ['7'])" in capsys.readouterr().err
    assert not (tmp_path / "o.pt").exists()


def test_ids_that_are_no_text_are_refused_in_words(trained, tmp_path, capsys):
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe3\x00\n")
    for command in (
        ["unlearn", "salun", *DIGITS, "--checkpoint", str(trained / "original.safetensors"), "--forget-ids"],
        ["ledger", "add", str(tmp_path / "l.sqlite"), "someone", "--ids"],
    ):
        assert main([*command, str(tmp_path / "ids.txt")]) == 2
        assert "text file in UTF-8" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["ids.txt"]


def test_several_wrong_forget_flags_are_told_together():
    with pytest.raises(SplitError) as told:
        SplitFlags(forget_group="site", forget_share=0.1, class_share=0.5).draw(None, None)
    assert len(told.value.problems) == 3


def test_methods_says_what_the_docs_table_says(capsys):
    assert main(["methods"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "needs: nothing; mask: no" in words  # the bias shift
    assert "needs: retain; mask: no" in words  # Retrain starts from fresh weights
    assert "needs  samples" not in words


def test_a_warning_of_the_package_is_one_note(capsys, monkeypatch):
    code = compile("def warned():\n    warnings.warn('too few samples')", expunge.cli.__file__, "exec")
    exec(code, space := {"warnings": warnings, "__name__": "expunge.cli.demos"})
    monkeypatch.setattr("expunge.cli.demos.demo", space["warned"])
    before = warnings.showwarning
    assert main(["demo"]) == 0 and warnings.showwarning is before
    assert capsys.readouterr().err == "note: too few samples\n"


def test_trials_choose_settings_by_validation_data(trained, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    # a field that is given as a flag is not tried
    command = ["--trials", "3", "--smoothing=-0.5", "--batch-size", "64", "--out", str(out)]
    assert run_unlearn(trained, *command, method="ugradsl_plus") == 0
    record, told = Record.load(tmp_path / "out.json"), capsys.readouterr()
    tries = record.details["trials"]
    assert len(tries) == 3 and tries == sorted(tries, key=lambda t: t["distance"])
    assert all("smoothing" not in t["settings"] and t["seconds"] > 0 for t in tries)
    assert record.settings["smoothing"] == -0.5
    # the trials leave out what the original never saw of the class, so the chosen settings run once more on all of it
    assert 0 < record.seconds != tries[0]["seconds"]
    best = tries[0]["settings"]
    written = json.loads(read_checkpoint(out).metadata["settings"])
    assert {k: record.settings[k] for k in best} == {k: written[k] for k in best} == best
    assert told.err.count("estimated gap") == 3 and "the best of 3 trials: lr " in told.out
    assert "--trials 3" in record.command
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    again = ["--smoothing=-0.5", *(f"--{k}={v}" for k, v in best.items()), "--batch-size", "64"]
    assert run_unlearn(trained, *again, "--out", str(tmp_path / "b.safetensors"), method="ugradsl_plus") == 0
    a, b = (read_checkpoint(p).state for p in (out, tmp_path / "b.safetensors"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_interrupted_trials_go_on_to_the_same_model(trained, tmp_path, monkeypatch, capsys):
    from expunge.tuning import trials as tuning

    command = ["--trials", "3", "--batch-size", "64"]
    assert run_unlearn(trained, *command, "--out", str(tmp_path / "whole.safetensors")) == 0
    execute, count = tuning.execute_trial, []

    def third_fails(*args, **options):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return execute(*args, **options)

    cut = str(tmp_path / "cut.safetensors")
    monkeypatch.setattr(tuning, "execute_trial", third_fails)
    assert run_unlearn(trained, *command, "--out", cut) == 130
    assert "after its last finished trial" in capsys.readouterr().err
    monkeypatch.undo()
    assert run_unlearn(trained, *command, "--seed", "1", "--out", cut) == 2
    assert "holds the trials of another run" in capsys.readouterr().err
    assert run_unlearn(trained, *command, "--out", cut) == 0
    a, b = (read_checkpoint(tmp_path / f"{n}.safetensors").state for n in ("whole", "cut"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = (Record.load(tmp_path / f"{n}.json").details["trials"] for n in ("whole", "cut"))
    assert [t["settings"] for t in a] == [t["settings"] for t in b]
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("retrain", ("--trials", "2"), "retrain has no settings to try; leave the trials out."),
        (
            "salun",
            ("--trials", "-1"),
            "the number of trials is -1; it must be a whole number of at least 1, or 'auto'.",
        ),
        (
            "salun",
            ("--trials", "2", "--lr", "0.01"),
            "every setting of salun that trials can choose (lr) is fixed",
        ),
    ],
)
def test_trials_that_cannot_be_made_are_refused(trained, tmp_path, capsys, method, more, said):
    assert run_unlearn(trained, *more, "--out", str(tmp_path / "o.pt"), method=method) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_trials_that_gain_nothing_are_told(trained, tmp_path, capsys):
    """Steps that change no prediction: the model as it came is as near, and the record says so."""
    out = tmp_path / "o.safetensors"
    still = ["--clip", "1e-6", "--weight-decay", "0", "--batch-norm", "freeze"]
    shares = [*still, "--trials", "2", "--out", str(out), "--batch-size", "64"]
    assert run_unlearn(trained, *shares) == 0
    assert "trials of salun improved on the original model" in capsys.readouterr().err
    details = Record.load(out.with_suffix(".json")).details
    assert details["trials"][0]["distance"] >= details["trials_untouched"] > 0


def test_reports_of_folders_leave_out_what_is_no_record(trained, tmp_path, capsys):
    (tmp_path / "gold.json").write_bytes((trained / "gold.json").read_bytes())
    (tmp_path / "proof-1.json").write_text('{"kind": "proof", "path": []}')
    (tmp_path / "requests.json").write_text("[1, 2]")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 0
    assert main(["report", str(tmp_path / "proof-1.json"), "--out", str(tmp_path / "r2.html")]) == 2
    assert "not a record" in capsys.readouterr().err


def test_an_interruption_promises_only_what_is_there(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("expunge.pipeline.pipeline.execute", interrupted)
    command = ["train", *DIGITS, "--out", str(tmp_path / "o.pt")]
    assert main(command) == 130
    assert "resumes" not in capsys.readouterr().err
    (tmp_path / ".o.pt.state").write_bytes(b"")
    assert main(command) == 130
    assert "resumes from its last written state" in capsys.readouterr().err
    monkeypatch.setattr("expunge.cli.demo.demo", interrupted)
    assert main(["demo"]) == 130
    told = capsys.readouterr().err
    assert "interrupted" in told and "resumes" not in told


def test_hostile_and_broken_checkpoints_are_refused(trained, tmp_path, capsys):
    state = read_checkpoint(trained / "original.safetensors").state
    state["head.weight"] = state["head.weight"][:7]
    state["head.bias"] = state["head.bias"][:7]
    write_checkpoint(tmp_path / "seven.pt", state)
    assert run_unlearn(tmp_path, checkpoint="seven.pt") == 2
    assert "7 classes, the data has 10" in capsys.readouterr().err


def test_audit_gates_a_pipeline_by_its_exit_code(trained, capsys):
    def gate(model, gap):
        return main(
            [
                "audit",
                *DIGITS,
                "--checkpoint",
                str(trained / model),
                "--original",
                str(trained / "original.safetensors"),
                "--retrained",
                str(trained / "gold.safetensors"),
                "--forget-class",
                "3",
                "--max-gap",
                gap,
            ]
        )

    assert gate("gold.safetensors", "0") == 0
    assert gate("original.safetensors", "0.5") == 1 and "no conclusion" in capsys.readouterr().err
    weak = trained / "weak.safetensors"
    assert run_unlearn(trained, "--lr", "1e-6", "--trials", "0", "--out", str(weak)) == 0
    assert gate(weak.name, "0.5") == 1 and "above --max-gap" in capsys.readouterr().err


def test_own_model_and_own_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (rng.normal(size=(120, 5)) + y[:, None]).astype(np.float32)
    np.savez(
        "mine.npz",
        x_train=x[:90],
        y_train=y[:90],
        x_test=x[90:],
        y_test=y[90:],
        ids=[f"u{i}" for i in range(90)],
        site=np.arange(90) // 30,
    )
    (tmp_path / "my_own_net.py").write_text(
        "import torch\ndef net(num_classes, shape):\n    return torch.nn.Linear(shape[0], num_classes)\n"
        "def data():\n    x, y = torch.randn(60, 5), torch.arange(60) % 3\n    return (x[:40], y[:40]), (x[40:], y[40:])\n"
    )
    (tmp_path / "ids.txt").write_text("u3\nu4\n")
    own = ["--data", "npz:mine.npz", "--model", "my_own_net:net", "--validation", "0"]
    assert main(["train", *own, "--out", "o.pt", *QUICK]) == 0
    for forget in (
        ["--forget-ids", "ids.txt"],
        ["--forget-group", "site=1"],
        ["--forget-share", "0.2"],
        ["--forget-class", "1"],
    ):
        # the model has learned nothing, so trials would find nothing to forget
        flags = ["--checkpoint", "o.pt", "--out", "u.pt", "--trials", "0", *forget, *QUICK]
        assert main(["unlearn", "salun", *own, *flags]) == 0
    assert (
        main(["train", "--data", "my_own_net:data", "--model", "my_own_net:net", "--out", "f.pt", *QUICK])
        == 0
    )


def test_recipe_flags_are_the_fields_of_retrain_but_those_of_masks():
    of_recipe = [f.name for f in fields(Retrain) if f.name not in ("density", "mask")]
    assert [f.name for f in fields(RecipeFlags)] == of_recipe
    assert given(RecipeFlags()) == {} and given(RecipeFlags(clip=None, lr=0.1)) == {"clip": None, "lr": 0.1}


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_resumes_to_the_same_weights(trained, tmp_path):
    command = [
        sys.executable,
        "-m",
        "expunge",
        "unlearn",
        "salun",
        *DIGITS,
        "--checkpoint",
        str(trained / "original.safetensors"),
        "--forget-class",
        "3",
        "--epochs",
        "40",
        "--batch-size",
        "16",
        "--threads",
        "1",
    ]
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    state = tmp_path / ".cut.safetensors.state"
    process = subprocess.Popen(
        [*command, "--out", str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(3000):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists() and not cut.exists()
    subprocess.run([*command, "--out", str(cut)], check=True, capture_output=True)
    assert not state.exists()
    a, b = read_checkpoint(whole), read_checkpoint(cut)
    assert all(torch.equal(a.state[k], b.state[k]) for k in a.state)
    assert Record.load(tmp_path / "cut.json").curves == Record.load(tmp_path / "whole.json").curves


def test_one_problem_stands_behind_the_word_and_several_below_it(tmp_path, capsys):
    recipe = [
        "train",
        "--data",
        "digits?limit=100",
        "--model",
        "mlp",
        "--out",
        str(tmp_path / "o.pt"),
        "--epochs",
        "-1",
    ]
    for more, begins in (([], "error: epochs is -1"), (["--lr", "-1"], "error:\n- epochs is -1")):
        assert main([*recipe, *more]) == 2
        assert capsys.readouterr().err.startswith(begins)
