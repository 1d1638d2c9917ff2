"""Read predictions in the format of EasyDUB, name every problem, and compare the populations on the command line."""

import json

import numpy as np
import pytest

from expunge.audit.easydub import read_easydub
from expunge.audit.klom import bench_klom
from expunge.audit.predictions import audit_predictions
from expunge.cli.app import main
from expunge.errors import ExpungeError

TRAIN, VAL, MODELS, CLASSES = 60, 20, 8, 3
FORGET = np.array([7, 3, 40, 21, 22])


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(values, dtype=np.float32))


def predictions(model, seen):
    """Logits on training and validation samples. A model that saw the forget samples is surer of them."""
    draw = np.random.default_rng(100 * seen + model)
    train, val = draw.normal(0, 1, (TRAIN, CLASSES)), draw.normal(0, 1, (VAL, CLASSES))
    train[range(TRAIN), LABELS] += 2
    if seen:
        train[FORGET, LABELS[FORGET]] += 4
    return train, val


LABELS = np.arange(TRAIN) % CLASSES


def margins(logits, labels):
    own = np.array([row[k] for row, k in zip(logits, labels, strict=True)])
    others = np.stack([np.delete(row, k) for row, k in zip(logits, labels, strict=True)])
    return own - np.log(np.exp(others).sum(-1))


@pytest.fixture(params=["margins", "logits"])
def folder(tmp_path, request):
    """A folder in the published layout, with unlearned models beside the retrained ones, and labels."""
    rest, val_labels = np.delete(LABELS, FORGET), LABELS[:VAL]
    what = (lambda v, _: v) if request.param == "logits" else margins
    base = tmp_path / "dub" / request.param / "cifar10"
    for k in range(MODELS):
        file = f"resnet9/id_{k}_epoch_23.npy"
        for population, seen in (("oracle", False), ("half", True)):
            train, val = predictions(k + (50 if seen else 0), seen)
            for name, values, y in (
                ("forget", train[FORGET], LABELS[FORGET]),
                ("retain", np.delete(train, FORGET, 0), rest),
                ("val", val, val_labels),
            ):
                write(base / population / "forget_1" / name / file, what(values, y))
        train, val = predictions(k, True)
        write(base / "pretrain/forget_1" / file, what(train[FORGET], LABELS[FORGET]))
        write(base / "pretrain/retain" / file, what(train, LABELS))
        write(base / "pretrain/val" / file, what(val, val_labels))
    sets = tmp_path / "dub/forget_sets/cifar10"
    sets.mkdir(parents=True)
    np.save(sets / "forget_set_1.npy", FORGET)
    np.savez(tmp_path / "labels.npz", train=LABELS, val=val_labels)
    return tmp_path / "dub"


def test_margins_are_read_without_the_forget_samples_of_the_originals(folder):
    values = read_easydub(folder, 1, unlearned="half", labels=folder.parent / "labels.npz")
    shapes = {"forget": (MODELS, 5), "retain": (MODELS, TRAIN - 5), "test": (MODELS, VAL)}
    assert set(values) == {"retrained", "original", "unlearned"}
    assert all({s: v.shape for s, v in row.items()} == shapes for row in values.values())
    train, val = predictions(2, True)
    assert values["original"]["forget"][2] == pytest.approx(margins(train[FORGET], LABELS[FORGET]), abs=1e-4)
    assert values["original"]["retain"][2] == pytest.approx(
        margins(np.delete(train, FORGET, 0), np.delete(LABELS, FORGET)), abs=1e-4
    )
    assert values["original"]["test"][2] == pytest.approx(margins(val, LABELS[:VAL]), abs=1e-4)
    untouched = read_easydub(folder, 1, models=4, labels=folder.parent / "labels.npz")
    assert np.array_equal(untouched["unlearned"]["forget"], values["original"]["forget"][:4])


def test_klom_and_attacks_see_the_forget_set_only(folder):
    values = read_easydub(folder, 1, unlearned="half", labels=folder.parent / "labels.npz")
    attacks = audit_predictions(values)
    easydub = bench_klom(values["retrained"]["forget"], values["unlearned"]["forget"], "easydub")
    assert attacks["KLOM, easydub"]["forget_p95"] == pytest.approx(np.quantile(easydub, 0.95))
    assert attacks["KLOM"]["forget"] > 2 * attacks["KLOM"]["test"]
    assert attacks["U-LiRA"]["auc"] > 0.9 and attacks["RULI efficacy"]["auc"] > 0.9
    assert attacks["IAM"]["completeness"] < attacks["IAM"]["completeness_null"]


def test_an_archive_holds_the_unlearned_models(folder):
    values = read_easydub(folder, 1, unlearned="half", labels=folder.parent / "labels.npz")
    names = {"forget": "forget", "retain": "retain", "test": "val"}
    archive = folder.parent / "mine.npz"
    np.savez(archive, **{names[s]: v[:6] for s, v in values["unlearned"].items()})
    read = read_easydub(folder, 1, unlearned=str(archive), labels=folder.parent / "labels.npz")
    assert {len(v) for row in read.values() for v in row.values()} == {6}
    assert np.array_equal(read["unlearned"]["test"], values["unlearned"]["test"][:6])


def test_all_problems_are_named_at_once(folder):
    base = next(p for q in ("margins", "logits") if (p := folder / q / "cifar10").is_dir())
    labels = folder.parent / "labels.npz"
    (base / "oracle/forget_1/val/resnet9/id_3_epoch_23.npy").write_bytes(b"no array")
    write(base / "oracle/forget_1/forget/resnet9/id_2_epoch_23.npy", np.zeros((4, 4, 4)))
    write(base / "pretrain/val/resnet9/id_1_epoch_23.npy", np.zeros(3))
    with pytest.raises(ExpungeError) as error:
        read_easydub(folder, 1, labels=labels)
    texts = "\n".join(error.value.problems)
    assert "id_3_epoch_23.npy cannot be read" in texts and "id_2_epoch_23.npy has shape (4, 4, 4)" in texts
    assert "id_1_epoch_23.npy has shape (3,)" in texts and len(error.value.problems) >= 3


def test_missing_parts_and_wrong_numbers_are_named(folder):
    base = next(p for q in ("margins", "logits") if (p := folder / q / "cifar10").is_dir())
    labels = folder.parent / "labels.npz"
    with pytest.raises(
        ExpungeError, match=r"(?s)forget_set_2.npy.*oracle/forget_2/forget must have one folder"
    ):
        read_easydub(folder, 2, labels=labels)
    with pytest.raises(ExpungeError, match="models is 3; give 4 or more"):
        read_easydub(folder, 1, models=3, labels=labels)
    with pytest.raises(ExpungeError, match=r"there are 8 \w+ models for all sets; at least 9"):
        read_easydub(folder, 1, models=9, labels=labels)
    with pytest.raises(ExpungeError, match="neither a folder 'margins' nor 'logits'"):
        read_easydub(folder / "forget_sets", 1)
    values = np.load(base / "oracle/forget_1/val/resnet9/id_0_epoch_23.npy")
    write(base / "oracle/forget_1/val/resnet9/id_0_epoch_23.npy", values * np.nan)
    with pytest.raises(ExpungeError, match="oracle, val: 1 models have NaN"):
        read_easydub(folder, 1, labels=labels)
    np.save(folder / "forget_sets/cifar10/forget_set_1.npy", np.array([1, 1]))
    with pytest.raises(ExpungeError, match="must hold different whole numbers"):
        read_easydub(folder, 1, labels=labels)
    np.save(folder / "forget_sets/cifar10/forget_set_1.npy", np.array([1, 999]))
    with pytest.raises(ExpungeError, match="position 999, but pretrain, retain has 60 samples"):
        read_easydub(folder, 1, labels=labels)


def test_folders_without_one_file_of_each_model_are_named(folder):
    base = next(p for q in ("margins", "logits") if (p := folder / q / "cifar10").is_dir())
    labels = folder.parent / "labels.npz"
    values = np.load(base / "oracle/forget_1/val/resnet9/id_3_epoch_23.npy")
    write(base / "oracle/forget_1/val/resnet9/id_3_epoch_7.npy", values)
    for path in (base / "pretrain/val/resnet9").glob("*.npy"):
        path.rename(path.with_name(f"model_{path.name}"))
    with pytest.raises(ExpungeError) as error:
        read_easydub(folder, 1, labels=labels)
    texts = "\n".join(error.value.problems)
    assert "has two files of model 3; leave one epoch of each" in texts
    assert "pretrain/val/resnet9 has no files id_X_epoch_Y.npy" in texts


def test_an_archive_without_all_sets_or_of_whole_numbers_is_named(folder, tmp_path):
    labels = folder.parent / "labels.npz"
    np.savez(tmp_path / "two.npz", forget=np.zeros((4, 4)), val=np.zeros((4, 4)))
    with pytest.raises(ExpungeError, match=r"lacks \['retain'\]; name them forget, retain and val"):
        read_easydub(folder, 1, labels=labels, unlearned=str(tmp_path / "two.npz"))
    np.savez(tmp_path / "whole.npz", **{n: np.zeros((8, 9), int) for n in ("forget", "retain", "val")})
    with pytest.raises(ExpungeError, match=r"int64 of shape \(8, 9\); give margins"):
        read_easydub(folder, 1, labels=labels, unlearned=str(tmp_path / "whole.npz"))


def test_predictions_that_are_no_numbers_are_named(folder):
    base = next(p for q in ("margins", "logits") if (p := folder / q / "cifar10").is_dir())
    file = base / "oracle/forget_1/val/resnet9/id_1_epoch_23.npy"
    np.save(file, np.load(file).view("V4"))
    with pytest.raises(ExpungeError, match=r"id_1_epoch_23.npy cannot be read: it holds \|V4, no numbers"):
        read_easydub(folder, 1, labels=folder.parent / "labels.npz")


def test_logits_need_labels(folder):
    if (folder / "logits").is_dir():
        with pytest.raises(ExpungeError, match="so the labels are needed"):
            read_easydub(folder, 1)
        np.savez(folder.parent / "short.npz", train=np.zeros(9, int))
        with pytest.raises(ExpungeError, match="no array `val`"):
            read_easydub(folder, 1, labels=folder.parent / "short.npz")


def test_the_command_prints_the_tables_and_writes_a_record(folder, capsys):
    out, html = folder.parent / "record.json", folder.parent / "page.html"
    words = [
        "audit-predictions",
        str(folder),
        "--unlearned",
        "half",
        "--labels",
        str(folder.parent / "labels.npz"),
    ]
    assert main([*words, "--out", str(out), "--report", str(html)]) == 0
    text = capsys.readouterr().out
    assert "KLOM, easydub" in text and "RULI efficacy" in text and "8 models of each population" in text
    record = json.loads(out.read_text())
    assert record["scores"] == {} and record["details"]["attacks"]["KLOM, repaired"]["shadows"] == 8
    assert "KLOM, easydub" in html.read_text()
    assert main(["audit-predictions", str(folder), "--forget-set", "5"]) == 2
    assert "forget_set_5.npy" in capsys.readouterr().err
