"""What checkpoints say of themselves, whichever command wrote them, and what `unlearn` and `audit` make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from expunge import CheckpointError, Method, Record, Retrain, Run, Split, find
from expunge.cli import main
from expunge.cli.demo import demo
from expunge.cli.demo_generation import write_run
from expunge.cli.flags import SplitFlags
from expunge.models import build
from expunge.pipeline import Outcome
from expunge.records import checkpoint_metadata
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_requests import key_of
from expunge.records.keyed import agrees
from expunge.records.request_file import read_requests
from expunge.sources import load
from expunge.tasks.diffusion import Diffusion
from expunge.training.registry import method_from_metadata, recipe_from_metadata

DIGITS = ["--data", "digits?limit=300", "--model", "mlp"]
AS_GIVEN = ["--trials", "0"]
QUICK = ["--epochs", "2", "--batch-size", "64"]
FORGET = ["--forget-class", "3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """original, gold (without 3), other (without 4), ours (SalUn on 3), and the names of their files."""
    at = {
        n: str(tmp_path_factory.mktemp("heads") / f"{n}.safetensors")
        for n in ("original", "gold", "other", "ours")
    }
    assert main(["train", *DIGITS, "--out", at["original"], *QUICK]) == 0
    for name, digit in (("gold", "3"), ("other", "4")):
        more = ["--without-forget", "--forget-class", digit]
        assert main(["train", *DIGITS, "--out", at[name], *more, *QUICK, "--lr", "0.05"]) == 0
    more = ["--checkpoint", at["original"], "--out", at["ours"], "--epochs", "1", "--trials", "0"]
    assert main(["unlearn", "salun", *DIGITS, *FORGET, *more]) == 0
    return at


def audit(made, checkpoint="ours", original="original", **more):
    flags = [part for k, v in more.items() for part in (f"--{k}", made.get(v, v))]
    named = ["--checkpoint", made.get(checkpoint, checkpoint), "--original", made.get(original, original)]
    return main(["audit", *DIGITS, *FORGET, *named, *flags])


def test_heads_say_what_the_weights_come_from(made):
    said = {n: read_checkpoint(path).metadata for n, path in made.items()}
    assert [said[n]["kind"] for n in said] == ["original", "retrain", "retrain", "unlearn"]
    assert len(said["original"]["train_hash"]) == 64 and said["gold"]["train_hash"] == ""
    keys = {n: key_of(read_checkpoint(path)) for n, path in made.items()}
    trained_on = said["original"]["train_hash"]
    assert agrees(said["ours"]["train_hash"], trained_on, "train_hash", keys["ours"])
    assert not agrees(said["ours"]["train_hash"], trained_on, "train_hash", keys["gold"])
    split = Record.load(Path(made["ours"]).with_suffix(".json")).split["hash"]
    assert not said["original"]["split_hash"] and keys["original"] is None
    assert all(agrees(said[n]["split_hash"], split, "split_hash", keys[n]) for n in ("gold", "ours"))
    assert json.loads(said["gold"]["recipe"])["lr"] == 0.05
    assert said["ours"]["method"] == "salun" and json.loads(said["ours"]["settings"])["epochs"] == 1


def test_a_model_of_images_normalised_otherwise_is_refused(made, tmp_path, capsys):
    other = ["--data", "digits?limit=300&mean=0.3&std=0.4", "--model", "mlp"]
    out = ["--out", str(tmp_path / "o.safetensors")]
    assert main(["unlearn", "salun", *other, *FORGET, "--checkpoint", made["original"], *out]) == 2
    assert "trained on images as they are and the data came with mean=0.3&std=0.4" in capsys.readouterr().err
    assert main(["unlearn", "salun", *DIGITS, *FORGET, *AS_GIVEN, "--checkpoint", made["original"], "--retrained", made["gold"],
                 "--epochs", "1", *out]) == 0  # fmt: skip
    assert main(["audit", *other, *FORGET, "--checkpoint", made["ours"], "--original", made["original"]]) == 2
    assert "give --data the same options" in capsys.readouterr().err


def test_what_was_forgotten_is_not_learned_again_by_a_second_request(made, tmp_path, capsys):
    """A model that has forgotten class 3 forgets class 4: class 3 is no longer among the retained samples."""
    ours = ["--trials", "0", "--checkpoint", made["ours"], "--epochs", "1", "--batch-size", "64"]
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(["unlearn", "salun", *DIGITS, "--forget-class", "4", *ours, "--out", str(first)]) == 0
    assert "answered 1 other request, 30 samples: they are not trained on" in capsys.readouterr().err
    assert [r.classes for r in read_requests(tmp_path / "a.requests.json")] == [(3,), (4,)]
    assert main(["unlearn", "salun", *DIGITS, "--forget-class", "3", "4", *ours, "--out", str(first)]) == 0
    start = ["unlearn", "salun", *DIGITS, *AS_GIVEN, "--epochs", "1", "--batch-size", "64"]
    some = ["--checkpoint", made["original"], "--forget-share", "0.1", "--out", str(second)]
    assert main([*start, *some]) == 0
    capsys.readouterr()
    later = ["--checkpoint", str(second), "--forget-class", "4", "--out", str(tmp_path / "c.safetensors")]
    assert main([*start, *later]) == 0
    assert "answered 1 other request, 27 samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("retrained", "words"),
    [("original", "is an original"), ("ours", "is an unlearned model"), ("other", "forget classes [4]")],
)
@pytest.mark.parametrize("command", ["unlearn", "audit"])
def test_what_is_no_reference_is_refused(made, command, retrained, words, tmp_path, capsys):
    if command == "audit":
        assert audit(made, retrained=retrained) == 2
    else:
        more = [
            "--checkpoint",
            made["original"],
            "--retrained",
            made[retrained],
            "--out",
            str(tmp_path / "x.pt"),
        ]
        assert main(["unlearn", "salun", *DIGITS, *FORGET, *more]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_originals_and_audited_models_are_checked_too(made, tmp_path, capsys):
    assert audit(made, original="gold") == 2
    assert "no original" in capsys.readouterr().err
    assert audit(made, checkpoint="other") == 2
    assert "was made for another split" in capsys.readouterr().err
    # the original is accepted as a checkpoint, but the audit does not conclude from it
    capsys.readouterr()
    assert audit(made, checkpoint="original") == 1
    printed = capsys.readouterr()
    assert "Verdict: unchanged." in printed.out and "no conclusion: The model is the original" in printed.err
    assert audit(made, checkpoint="gold", retrained="gold") == 0


def test_a_reference_without_a_head_is_taken_with_a_note(made, tmp_path, capsys):
    foreign = write_checkpoint(tmp_path / "bare.pt", read_checkpoint(made["gold"]).state)
    assert audit(made, retrained=str(foreign)) == 0
    assert "be sure that it never saw the forget set" in capsys.readouterr().err


def test_nothing_is_made_up_of_a_model_that_nobody_describes(made, tmp_path):
    bare = {
        n: write_checkpoint(tmp_path / f"{n}.pt", read_checkpoint(made[n]).state)
        for n in ("ours", "original")
    }
    out, page = tmp_path / "record.json", tmp_path / "page.html"
    assert audit(made, str(bare["ours"]), str(bare["original"]), out=str(out), report=str(page)) == 0
    record = Record.load(out)
    assert record.method == "unknown" and record.settings == {}


def test_references_carry_their_own_recipe_and_the_command(made, monkeypatch):
    seen: list[Record] = []
    monkeypatch.setattr(
        "expunge.cli.audit_run.show_outcomes", lambda them, page: seen.extend(o.record for o in them)
    )
    assert audit(made, retrained="gold") == 0
    start, gold, ours = seen
    assert start.settings["epochs"] == gold.settings["epochs"] == 2 and gold.settings["lr"] == 0.05
    assert start.command == gold.command == ours.command != ""
    assert ours.method == "salun" and ours.settings["epochs"] == 1


def test_models_that_were_only_looked_at_show_no_seconds(made, capsys):
    assert audit(made, retrained="gold") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    rows = [line for line in lines if line.split("│")[1].strip()]
    assert len(rows) == 3 and all(line.split("│")[-3].strip() == "–" for line in rows)


def test_the_mask_of_a_run_can_be_verified(made, tmp_path, capsys):
    out, mask = tmp_path / "u.safetensors", tmp_path / "mask.safetensors"
    command = [
        "unlearn",
        "salun",
        *DIGITS,
        *FORGET,
        *AS_GIVEN,
        "--checkpoint",
        made["original"],
        "--out",
        str(out),
    ]
    assert main([*command, "--epochs", "1", "--density", "0.3", "--save-mask", str(mask)]) == 0
    held = ["--model", str(out), "--original", made["original"], "--mask", str(mask)]
    assert main(["verify", str(out.with_suffix(".receipt.json")), *held]) == 0
    assert "no parameter outside the mask has changed" in capsys.readouterr().out


def test_unlearn_retrain_makes_a_reference(made, tmp_path):
    out = str(tmp_path / "again.safetensors")
    more = ["--checkpoint", made["original"], "--out", out, "--epochs", "1", "--lr-schedule", "constant"]
    assert main(["unlearn", "retrain", *DIGITS, *FORGET, *more]) == 0
    # after one epoch, models of the same recipe differ by 11 points
    assert audit(made, retrained=out, **{"reference-tolerance": "30"}) == 0


def test_the_demo_writes_the_same_heads(tmp_path, monkeypatch):
    quick = Retrain(epochs=1, lr=0.1, lr_schedule="constant", batch_size=64)
    monkeypatch.setattr("expunge.tuning.presets.recipe", lambda data: quick)
    demo(data="digits?limit=200", split=SplitFlags(), out=tmp_path, methods=("salun",))
    made = {n: str(tmp_path / f"{n}.safetensors") for n in ("original", "retrain", "salun")}
    flags = ["--data", "digits?limit=200", "--model", "cnn", *FORGET]
    judged = [*flags, "--checkpoint", made["salun"], "--original", made["original"]]
    judged += ["--reference-tolerance", "30"]
    assert main(["audit", *judged, "--retrained", made["retrain"], "--out", str(tmp_path / "a.json")]) == 0
    assert Record.load(tmp_path / "a.json").method == "salun"
    assert main(["audit", *judged, "--retrained", made["original"]]) == 2
    again = ["--checkpoint", made["retrain"], "--out", str(tmp_path / "u.pt")]
    assert main(["unlearn", "salun", *flags, *again]) == 2
    assert recipe_from_metadata(read_checkpoint(made["original"])) == quick
    kept = {n: Record.load(tmp_path / f"{n}.json").split for n in ("original", "retrain", "salun")}
    assert kept["original"] == kept["retrain"] == kept["salun"]  # judged on the same samples
    digest = kept["salun"]["hash"].encode()
    assert len(digest) == 64 and digest in (tmp_path / "salun.json").read_bytes()
    assert all(digest not in Path(file).read_bytes() for file in made.values())


def test_a_head_of_another_version_gives_no_settings(tmp_path):
    state = build("mlp", num_classes=10, shape=(1, 8, 8)).state_dict()
    for said in ({"epochs": 2, "was_there_once": 1}, {"epochs": None}, [1]):
        about = {"kind": "unlearn", "method": "salun", "settings": json.dumps(said), "recipe": "{broken"}
        read = read_checkpoint(write_checkpoint(tmp_path / "m.safetensors", state, metadata=about))
        assert method_from_metadata(read) is None and recipe_from_metadata(read) is None
    assert all(torch.equal(v, read.state[k]) for k, v in state.items())


def test_generators_have_the_same_heads(tmp_path):
    source = load("digits?limit=200")
    split = Split.by_class(source.train, source.test, forget=3)
    run, recipe = Run(torch.nn.Linear(2, 2), split, Diffusion(10)), find("retrain_ema")(epochs=2)
    made: tuple[tuple[checkpoint_metadata.Role, Method], ...] = (
        ("original", recipe),
        ("retrain", recipe),
        ("unlearn", find("esd")()),
    )
    for kind, method in made:
        write_run(tmp_path, kind, Outcome(run, Record(kind, method.name(), {}), method=method))
    read = {kind: read_checkpoint(tmp_path / f"{kind}.safetensors") for kind, _ in made}
    assert recipe_from_metadata(read["original"]) == recipe_from_metadata(read["retrain"]) == recipe
    assert (
        checkpoint_metadata.check_original(read["original"], split)
        is checkpoint_metadata.check_retrained(read["retrain"], split)
        is None
    )
    with pytest.raises(CheckpointError, match="no original"):
        checkpoint_metadata.check_original(read["retrain"], split)
    for kind in ("original", "unlearn"):
        with pytest.raises(CheckpointError, match="--without-forget"):
            checkpoint_metadata.check_retrained(read[kind], split)


def test_a_run_that_changed_nothing_ends_with_1(made, tmp_path, capsys):
    out = tmp_path / "same.safetensors"
    command = [
        "unlearn",
        "finetune",
        *DIGITS,
        *FORGET,
        *AS_GIVEN,
        "--checkpoint",
        made["original"],
        "--out",
        str(out),
    ]
    assert main([*command, "--epochs", "1", "--lr", "0", "--weight-decay", "0", "--keep-failed"]) == 3
    printed = capsys.readouterr()
    assert "finetune (unchanged)" in printed.out and "Nothing was unlearned" in printed.err
    assert Record.load(f"{out}.failed.json").ended == "unchanged" and not out.exists()
    assert main([*command[:-1], str(tmp_path / "moved.safetensors"), "--epochs", "1"]) == 0
