"""Valid files of data: arrays, tables, images, shards, latents and predictions."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import torch
from valid_files import Dangerous, place_of

from expunge.generation.latents_file import LatentsFile


def npz(folder: Path) -> None:
    x, y = np.zeros((12, 2, 2), np.float32), np.arange(12) % 3
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(place_of(folder, "plain/d.npz"), **arrays)
    np.savez_compressed(
        place_of(folder, "more/d.npz"), **arrays, ids_train=np.arange(12).astype(str), group_user=y
    )
    np.savez(place_of(folder, "danger/d.npz"), **{**arrays, "y_test": np.array([Dangerous()], object)})


def tables(folder: Path) -> None:
    rows = [{"text": f"word {k} good", "label": "ab"[k % 2], "id": f"t{k}"} for k in range(12)]
    lines = ["text,label,id", *(",".join(r.values()) for r in rows)]
    place_of(folder, "csv/t.csv").write_text("\n".join(lines) + "\n")
    place_of(folder, "tsv/t.tsv").write_text("\n".join(line.replace(",", "\t") for line in lines) + "\n")
    place_of(folder, "jsonl/t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return
    pq.write_table(pa.Table.from_pylist(rows), place_of(folder, "parquet/t.parquet"))


def png(value: int = 0) -> bytes:
    """Return a small PNG image."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(out, "png")
    return out.getvalue()


def folders(folder: Path) -> None:
    for part in ("train", "test"):
        for label in "ab":
            for k in range(2):
                place_of(folder, f"images/{part}/{label}/{k}.png").write_bytes(png(k))


def image_tables(folder: Path) -> None:
    for k in range(4):
        place_of(folder, f"table/{k}.png").write_bytes(png(k))
    rows = "".join(f"{k}.png,{'ab'[k % 2]}\n" for k in range(4))
    place_of(folder, "table/t.csv").write_text("image,label\n" + rows)


def idx(folder: Path) -> None:
    for part in ("train", "t10k"):
        images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (10, 28, 28)) + bytes(7840)
        labels = b"\0\0\x08\x01" + (10).to_bytes(4, "big") + bytes(range(10))
        place_of(folder, f"idx/{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        place_of(folder, f"idx/{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))


def cifar(folder: Path) -> None:
    batches = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for name in batches:
        place_of(folder, f"binary/cifar-10-batches-bin/{name}.bin").write_bytes(bytes(3073 * 2))
        data = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
        place_of(folder, f"pickle/cifar-10-batches-py/{name}").write_bytes(pickle.dumps(data))
    evil = {b"data": np.zeros((2, 3072), np.uint8), b"labels": Dangerous()}
    place_of(folder, "danger/cifar-10-batches-py/data_batch_1").write_bytes(pickle.dumps(evil))


def shards(folder: Path) -> None:
    with tarfile.open(place_of(folder, "shards/train-0.tar"), "w") as shard:
        for k in range(6):
            for name, data in (
                (f"{k}.png", png(k)),
                (f"{k}.cls", str(k % 2).encode()),
                (f"{k}.json", b'{"user": "u1"}'),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))


def latents(folder: Path) -> None:
    kept = LatentsFile(place_of(folder, "latents/l"), "one")
    kept.add(0, torch.zeros(2, 2, 3))
    kept.add(2, torch.ones(2, 2, 3))


def predictions(folder: Path) -> None:
    parts = ("pretrain/retain", "pretrain/val", "pretrain/forget_1", "oracle/forget_1/retain", "oracle/forget_1/forget",
             "oracle/forget_1/val")  # fmt: skip
    sizes = {"pretrain/retain": 12, "forget": 3, "forget_1": 3, "retain": 9, "val": 5}
    for part in parts:
        size = sizes.get(part, sizes[Path(part).name])
        for k in range(4):
            values = np.random.default_rng(k).normal(size=size).astype(np.float32)
            np.save(place_of(folder, f"dub/margins/cifar10/{part}/resnet9/id_{k}_epoch_23.npy"), values)
    np.save(place_of(folder, "dub/forget_sets/cifar10/forget_set_1.npy"), np.arange(3))
