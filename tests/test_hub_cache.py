"""Snapshots in the cache of the hub, whose files are links to blobs: models and data load, and outputs hold files of their own."""

import os
import warnings

import pytest
import torch

from expunge import CheckpointError, ExpungeError, ModelError
from expunge.hub_cache import repository_name, snapshot_of
from expunge.integrations.hub_folder import write_hub_folder
from expunge.models import build
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.sources import load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no connection."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub"


def snapshot(root, commit, files, main=True):
    """A snapshot as huggingface_hub lays it out: {name: content}, with a link to a blob for each file."""
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    for part in ("blobs", "refs"):
        (root / part).mkdir(exist_ok=True)
    for name, content in files.items():
        blob = root / "blobs" / f"{commit[:2]}{name.encode().hex()}"
        blob.write_bytes(content)
        (folder / name).symlink_to(os.path.relpath(blob, folder))
    if main:
        (root / "refs" / "main").write_text(commit)
    return folder


def test_the_snapshot_is_that_of_main_or_the_only_one(cache):
    root = cache / "models--org--tiny"
    old = snapshot(root, "a" * 40, {"x": b"1"}, main=False)
    assert snapshot_of("org/tiny", "models") == old and repository_name(old) == "tiny"
    new = snapshot(root, "b" * 40, {"x": b"2"}, main=False)
    assert snapshot_of("org/tiny", "models") is None
    (root / "refs" / "main").write_text("b" * 40)
    assert snapshot_of("org/tiny", "models") == new == snapshot_of(root, "models")
    assert snapshot_of("org/tiny", "datasets") is None and snapshot_of("../x/y", "models") is None


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_the_cache_goes_in_and_comes_out(cache, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "saved")
    files = {f.name: f.read_bytes() for f in (tmp_path / "saved").iterdir()}
    files |= {"vocab.txt": b"[PAD]\n[UNK]\n", "training_args.bin": b"secret"}
    root = cache / "models--org--tiny"
    folder = snapshot(root, "c" * 40, files)
    checkpoint, spec = read_checkpoint(folder), f"hf-config:{folder}"
    model = build(spec, num_classes=2, shape=(8,))
    load_into(model, checkpoint)
    before = {f: f.read_bytes() for f in (root / "blobs").iterdir()}
    with torch.no_grad():
        model.classifier.bias.add_(1)
    for out in (
        write_checkpoint(tmp_path / "out", model.state_dict(), like=checkpoint),
        write_hub_folder(tmp_path / "hub", model, spec=spec),
    ):
        assert {"config.json", "model.safetensors", "vocab.txt"} <= {f.name for f in out.iterdir()}
        assert not any(f.is_symlink() for f in out.iterdir()) and not (out / "training_args.bin").exists()
        again = transformers.AutoModelForSequenceClassification.from_pretrained(out)
        assert torch.equal(again.classifier.bias, model.classifier.bias)
    # the cache is only read
    assert {f: f.read_bytes() for f in (root / "blobs").iterdir()} == before
    # a name and the folder of the repository are no folder of a model, and the message has the folder
    for place in ("org/tiny", root):
        with pytest.raises(ModelError, match=f"The cache of the hub has it: give {folder}"):
            build(f"hf-config:{place}", num_classes=2, shape=(8,))
        with pytest.raises(CheckpointError, match=f"give {folder}"):
            read_checkpoint(place)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint("org/other")
    assert "cache" not in str(caught.value)


def test_data_by_name_is_found_in_the_cache_without_a_connection(cache, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra `datasets`)")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "prepared")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)

    def table(word):
        rows = [{"text": f"{word} {k}", "label": k % 2} for k in range(20)]
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "t.parquet"))
        return (tmp_path / "t.parquet").read_bytes()

    root = cache / "datasets--org--texts"
    snapshot(root, "d" * 40, {"train.parquet": table("old")}, main=False)
    snapshot(root, "e" * 40, {"train.parquet": table("new")})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load("hf:org/texts?length=4")
    assert source.name == "texts" and len(source.train) + len(source.test) == 20
    assert any("hf:org/texts is read from the snapshot eeeeeeeeeeee" in str(w.message) for w in caught)
    # the folder of the repository has the rows of one snapshot, not those of both
    for place in (root, root / "snapshots" / ("e" * 40)):
        data = load(f"hf:{place}?length=4")
        texts = list(data.train.texts)
        assert texts == list(source.train.texts) and all(t.startswith("new") for t in texts)
        assert data.name == "texts"
    with pytest.raises(ExpungeError, match="hf:org/none cannot be read"):
        load("hf:org/none")
