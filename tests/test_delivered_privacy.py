"""A person who has the data and a delivered file finds no forgotten id in it: the tests act as this person."""

import copy
import json
import pickle
import re
import shutil

import pytest
import torch

from expunge import Project, Split, TensorData, unlearn
from expunge.cli.app import main
from expunge.data.past_requests import remember_requests, requests_of
from expunge.data.split_sets import hash_parts
from expunge.errors import SplitError
from expunge.methods.finetune import FineTune
from expunge.methods.salun import SalUn
from expunge.projects.export import export_model
from expunge.projects.settings import checked
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_metadata import metadata_for
from expunge.records.keyed import with_key
from expunge.records.request_file import read_requests, write_requests
from expunge.sources import load
from small_problem import vectors

COUNT, MEMBERS = 96, 8
FACTORY = f"""
from expunge import TensorData
from expunge.sources import load
from expunge.sources.source import Source

def data():
    digits = load("digits?limit={COUNT}&test_limit=40")
    n = len(digits.train)
    train = TensorData(digits.train.x, digits.train.labels, ids=[f"p{{k}}" for k in range(n)],
                       groups={{"user": [f"Zdoe{{k // {MEMBERS}}}" for k in range(n)]}})
    return Source(train, digits.test, digits.classes, digits.shape, "private")
"""
MODEL = ["--data", "private_data:data", "--model", "mlp"]
METHOD = ["--trials", "0", "--epochs", "2", "--lr", "0.05", "--batch-size", "32"]
# the file of ids is named after the person, as people do it
PERSON, OTHER = "zdoe_jane", "qroe_john"
# where no hash and no name may be: what is handed over
PUBLIC = (".safetensors", ".pt", ".ckpt", ".receipt.json", ".html", ".md", ".proof.json")


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """Models of the command line: an id, then a person's group, each also as a torch file, and the reference of both."""
    folder = tmp_path_factory.mktemp("delivered privacy")
    (folder / "private_data.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        (folder / f"{PERSON}.txt").write_text("p17\n")
        (folder / f"{OTHER}.txt").write_text("\n".join(f"p{k}" for k in range(40, 48)))
        at = lambda name: str(folder / name)  # noqa: E731
        recipe = ["--epochs", "6", "--lr", "0.1", "--batch-size", "32"]
        run(["train", *MODEL, "--out", at("m0.safetensors"), *recipe])
        state = read_checkpoint(folder / "m0.safetensors").state
        torch.save({"state_dict": state, "hyper_parameters": {"lr": 0.1}}, at("mine.ckpt"))
        torch.save(dict(state), at("mine.pt"))
        ids, group = ["--forget-ids", at(f"{PERSON}.txt")], ["--forget-group", "user=Zdoe3"]
        unlearn = ["unlearn", "salun", *MODEL, *METHOD, "--validation", "0"]
        for name, source in (
            ("m1.safetensors", "m0.safetensors"),
            ("l1.ckpt", "mine.ckpt"),
            ("p1.pt", "mine.pt"),
        ):
            more = (
                ["--save-mask", at("mask.safetensors"), "--density", "0.5"]
                if name == "m1.safetensors"
                else []
            )
            source = "mine.pt" if source == "m0.safetensors" else source
            run(
                [
                    *unlearn,
                    *ids,
                    "--checkpoint",
                    at(source),
                    "--out",
                    at(name),
                    *more,
                    "--report",
                    at(f"{name}.html"),
                ]
            )
        more = [
            "--checkpoint",
            at("m1.safetensors"),
            "--out",
            at("m2.safetensors"),
            "--report",
            at("m2.html"),
        ]
        run([*unlearn, *group, *more])
        history = ["--history", at("m1.requests.json"), "--out", at("gold.safetensors"), "--epochs", "1"]
        run(["train", *MODEL, "--without-forget", "--validation", "0", *group, *history])
        alone = ["--out", at("alone.safetensors"), "--epochs", "1"]
        run(["train", *MODEL, "--without-forget", "--validation", "0", *ids, *alone])
        card = ["hub-folder", at("m1.safetensors"), *MODEL, "--out", at("hub")]
        run(card)
        yield folder


@pytest.fixture(scope="module")
def project(office):
    """A project that has answered one id, from a file named after the person, and a CSV with two persons."""
    path = office / "project"
    values = {"data": MODEL[1], "model": "mlp", "validation": 0.0, "trials": 0,
              "settings": {"epochs": 2, "lr": 0.01, "batch_size": 32}}  # fmt: skip
    Project.create(path, checked(values), office / "mine.ckpt")
    run(["forget", "--project", str(path), "--ids", str(office / f"{PERSON}.txt"), "--subject", PERSON])
    (office / f"{OTHER}.csv").write_text("id,subject\np50,qroe\np51,qroe_john\n")
    run(["forget", "--project", str(path), "--csv", str(office / f"{OTHER}.csv"), "--id-column", "id"])
    run(["forget", "--project", str(path), "--group", "user=Zdoe7", "--subject", OTHER])
    return Project(path)


def run(words):
    assert main(words) in (0, 1), words


def candidates():
    """{name: ids} of every person whom the attacker can think of: each id, and each group."""
    ids = {f"p{k}": [f"p{k}"] for k in range(COUNT)}
    groups = {f"Zdoe{k}": [f"p{k * MEMBERS + i}" for i in range(MEMBERS)] for k in range(COUNT // MEMBERS)}
    return ids | groups


@pytest.fixture(scope="module")
def guesses(office):
    """{hash: who is meant} of all hash functions of `data/split_sets.py`, for every candidate, and every pair of known settings."""
    source = load(MODEL[1])
    train, test, found = source.train, source.test, {}
    first = Split.by_ids(train, test, ["p17"], validation=0).as_request("")
    for name, ids in candidates().items():
        rest = torch.tensor([k for k in range(COUNT) if f"p{k}" not in ids])
        less = TensorData(train.x[rest], train.labels[rest], ids=[f"p{k}" for k in rest.tolist()])
        hashes = {
            hash_parts(*sorted(ids)),
            hash_parts(*ids),
            hash_parts(less.fingerprint(), torch.arange(len(rest))),
        }
        for goal in ("untrain", "unlearn"):
            split = Split.by_ids(train, test, ids, validation=0, goal=goal)
            hashes.add(hash_parts(train.fingerprint(), split.forget.index))
            # also of one who knows an earlier request
            for drawn in (split, split.after([first])):
                hashes |= {drawn.hash, drawn.request, drawn.retain_hash, drawn.for_method.hash}
        found |= dict.fromkeys(hashes - {Split.by_ids(train, test, ["p0"], validation=0).train_hash}, name)
    return found


def named(path, guesses):
    """Everyone whom the hashes in a file name: each string of 64 hex digits, in the bytes and in packed text."""
    text = path.read_bytes().decode("latin-1")
    return {guesses[digest] for digest in re.findall(r"(?=([0-9a-f]{64}))", text) if digest in guesses}


def handed_over(folder):
    return [f for f in sorted(folder.rglob("*")) if f.is_file() and f.name.endswith(PUBLIC)]


def test_no_hash_in_a_delivered_file_names_anyone(office, guesses):
    files = handed_over(office)
    names = {f.name for f in files}
    assert {
        "m1.safetensors",
        "m2.safetensors",
        "gold.safetensors",
        "alone.safetensors",
        "l1.ckpt",
        "p1.pt",
    } <= names
    assert {"mask.safetensors", "m2.html", "m1.receipt.json", "README.md", "model.safetensors"} <= names
    assert {f.name: named(f, guesses) for f in files if named(f, guesses)} == {}
    # the files have hashes to try
    for name in (
        "m1.safetensors",
        "m2.safetensors",
        "gold.safetensors",
        "l1.ckpt",
        "p1.pt",
        "mask.safetensors",
    ):
        assert b"hmac-sha256:" in (office / name).read_bytes(), name


def test_the_attack_finds_the_person_in_private_files_and_in_the_old_form(office, guesses, tmp_path):
    """The control."""
    assert named(office / "m1.json", guesses) == {"p17"} and named(office / "m2.json", guesses) >= {"Zdoe3"}
    assert named(office / "m1.requests.json", guesses) == {"p17"}
    source = load(MODEL[1])
    first = Split.by_ids(source.train, source.test, ["p17"], validation=0)
    later = Split.by_group(source.train, source.test, "user", ["Zdoe3"], validation=0).after(
        [first.as_request("salun")]
    )
    for role, split, who in (
        ("unlearn", first, {"p17"}),
        ("retrain", first, {"p17"}),
        ("unlearn", later, {"p17", "Zdoe3"}),
    ):
        metadata = metadata_for(role, split, SalUn(), 0, key=None)
        for file in ("old.safetensors", "old.pt"):
            write_checkpoint(tmp_path / file, {"w": torch.zeros(2)}, metadata=metadata)
            assert named(tmp_path / file, guesses) == who, (role, file)
        # the same with a key
        write_checkpoint(tmp_path / "new.pt", {"w": torch.zeros(2)}, metadata=with_key(metadata, b"k" * 32))
        assert named(tmp_path / "new.pt", guesses) == set()


def test_a_folder_of_transformers_names_nobody(office, guesses, tmp_path):
    (tmp_path / "bert").mkdir()
    write_checkpoint(tmp_path / "bert" / "model.safetensors", {"w": torch.zeros(2)})
    (tmp_path / "bert" / "config.json").write_text("{}")
    like = read_checkpoint(tmp_path / "bert")
    for checkpoint, who in (("m2.safetensors", set()), ("old", {"p17"})):
        source = load(MODEL[1])
        split = Split.by_ids(source.train, source.test, ["p17"], validation=0)
        metadata = metadata_for("unlearn", split, SalUn(), 0, key=None)
        if checkpoint != "old":
            metadata = read_checkpoint(office / checkpoint).metadata
        out = write_checkpoint(
            tmp_path / f"out-{checkpoint.partition('.')[0]}", like.state, like=like, metadata=metadata
        )
        assert out.is_dir() and set().union(*(named(f, guesses) for f in out.iterdir())) == who


def test_an_output_inherits_no_hash_of_its_input(office, guesses, tmp_path):
    """The metadata of an input of an earlier version has plain hashes."""
    source = load(MODEL[1])
    split = Split.by_ids(source.train, source.test, ["p17"], validation=0)
    old = metadata_for("retrain", split, SalUn(), 0, key=None)
    write_checkpoint(tmp_path / "old.safetensors", {"w": torch.zeros(2)}, metadata=old)
    like = read_checkpoint(tmp_path / "old.safetensors")
    write_checkpoint(tmp_path / "new.safetensors", like.state, like=like, metadata={"kind": "original"})
    assert named(tmp_path / "old.safetensors", guesses) == {"p17"}
    assert named(tmp_path / "new.safetensors", guesses) == set()


def test_a_project_and_its_exported_models_name_nobody(project, office, guesses, tmp_path):
    for name in ("given.ckpt", "given.safetensors", "given.pt"):
        export_model(project.path, tmp_path / name)
        metadata = read_checkpoint(tmp_path / name).metadata
        assert len(json.loads(metadata["requests"])) == 4 and not (tmp_path / "given.requests.json").exists()
    files = [*handed_over(tmp_path), *handed_over(project.path)]
    assert len(files) > 10 and {f.name: named(f, guesses) for f in files if named(f, guesses)} == {}
    latest = sorted(project.path.glob("models/*.requests.json"))[-1]
    assert named(latest, guesses) >= {"p17", "Zdoe7"}


def test_a_model_of_an_earlier_version_is_exported_with_a_key(project, guesses, tmp_path):
    shutil.copytree(project.path, tmp_path / "old")
    old, said = Project(tmp_path / "old"), []
    file = sorted(old.path.glob("models/*.safetensors"))[-1]
    requests = file.with_name(file.name.replace(".safetensors", ".requests.json"))
    answered, state = read_requests(requests), old.folder.state()
    split = Split.by_ids(load(MODEL[1]).train, load(MODEL[1]).test, ["p17"], validation=0)
    metadata = metadata_for("unlearn", split, SalUn(), 0, key=None)
    metadata["requests"] = json.dumps([past.public() for past in answered])
    write_checkpoint(file, read_checkpoint(file).state, metadata=metadata)
    requests.write_text(requests.read_text().replace("requests/v2", "requests/v1"))
    assert "p17" in named(file, guesses)
    from expunge.projects.folder import sha256

    state["models"][-1] |= {"sha256": sha256(file), "requests": sha256(requests)}
    from project_office import edit

    edit(old, lambda s: s["models"][-1].update(state["models"][-1]), sealed=True)
    # the receipt still names the file of before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expunge.projects.export.check_files", lambda folder, say: None)
        out, _ = export_model(old.path, tmp_path / "out" / "given.pt", said.append)
    assert named(out, guesses) == set() and read_requests(out.with_name("given.requests.json")) == answered
    assert any("do not hand it over" in text for text in said)


# ---- names of people


def test_no_name_is_in_what_is_handed_over(office, project):
    """The file of ids is named after the person. So may be its CSV, a group and a subject."""
    words = re.compile(rb"zdoe|qroe|jane|john|p17\b|p5[01]\b", re.IGNORECASE)
    for file in handed_over(office):
        assert not words.search(file.read_bytes()), (file, words.search(file.read_bytes()))
    records = [
        f for f in office.rglob("*.json") if f.name in ("m1.json", "m2.json", "0001.json", "0002.json")
    ]
    assert len(records) == 4
    for file in records:
        assert not words.search(file.read_bytes()), (file, words.search(file.read_bytes()))
    # the control: the private file has them
    assert words.search((office / "m1.requests.json").read_bytes())


def test_a_model_that_is_saved_whole_names_no_sample(tmp_path):
    """`torch.save(model)` and pickle write the requests of the model, which has them as an attribute."""
    problem = vectors(random=True)
    x, y = problem.split.train.data.x, problem.split.train.data.labels
    data = TensorData(
        x, y, ids=[f"person-{k}" for k in range(60)], groups={"user": [f"jane-{k // 6}" for k in range(60)]}
    )
    test = problem.split.test.data
    first = Split.by_group(data, test, "user", "jane-3", validation=0.1)
    model = unlearn(problem.model, first, FineTune(epochs=1, batch_size=16, lr=0.01), problem.task)
    (past,) = requests_of(model)
    torch.save(model, tmp_path / "whole.pt")
    raw = (tmp_path / "whole.pt").read_bytes() + pickle.dumps(model)
    for secret in (*past.ids, "jane-3", past.request, *past.contents):
        assert secret.encode() not in raw
    # the control: the model in memory has them, and copies of it too
    assert (
        past.ids[0] in str(vars(past))
        and requests_of(copy.deepcopy(model)) == (past,)
        and copy.copy(past) is past
    )
    loaded = torch.load(tmp_path / "whole.pt", weights_only=False)
    (kept,) = requests_of(loaded)
    assert (kept.scenario, kept.ids, kept.withheld, past.withheld) == ("group", (), 6, 0)
    again = pickle.loads(pickle.dumps(kept))
    assert again.withheld == 6
    # a later run is refused until it knows the samples
    second = Split.by_ids(data, test, ["person-1"], validation=0.1)
    method = FineTune(epochs=1, batch_size=16, lr=0.01)
    with pytest.raises(SplitError, match=r"earlier request \(group, 6 samples\) and was pickled since"):
        unlearn(loaded, second, method, problem.task)
    write_requests(tmp_path / "model.requests.json", requests_of(model))
    remember_requests(loaded, read_requests(tmp_path / "model.requests.json"))
    after = unlearn(loaded, second, method, problem.task)
    assert [len(r.ids) for r in requests_of(after)] == [6, 1]


def test_a_class_request_of_a_pickled_model_needs_no_ids():
    problem = vectors()
    method = FineTune(epochs=1, batch_size=16, lr=0.01)
    model = unlearn(problem.model, problem.split, method, problem.task)
    loaded = pickle.loads(pickle.dumps(model))
    data, test = problem.split.train.data, problem.split.test.data
    after = unlearn(loaded, Split.by_class(data, test, 2, validation=0.1), method, problem.task)
    assert [r.classes for r in requests_of(after)] == [(1,), (2,)]
