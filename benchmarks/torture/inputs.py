"""Every kind of file that Expunge reads: valid inputs, and how each is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import valid_data as data
import valid_files as files
from valid_files import called, first_file

from expunge.audit.easydub import read_easydub
from expunge.bench.grid import read_grid
from expunge.generation.latents_file import LatentsFile
from expunge.masks.mask import Mask
from expunge.projects.fingerprints import Fingerprints
from expunge.projects.request_csv import read_csv
from expunge.projects.settings import read_settings
from expunge.projects.state import read_state
from expunge.records.checkpoint import read_checkpoint
from expunge.sources.loading import load


@dataclass(frozen=True)
class Reader:
    """One kind of input.

    Args:
        name: Its name.
        make: Writes valid files into a folder. Each subfolder is one input.
        read: Reads the input in a folder.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]


READERS: tuple[Reader, ...] = (
    Reader("torch files", files.torch_files, lambda f: read_checkpoint(first_file(f))),
    Reader("converted torch files", files.torch_files, lambda f: called("convert", first_file(f), "--out", "converted.safetensors")),
    Reader("safetensors", files.safetensors, lambda f: read_checkpoint(first_file(f))),
    Reader("shards and adapters", files.shards_of_weights, read_checkpoint),
    Reader("masks", files.masks, lambda f: Mask.load(first_file(f))),
    Reader("records", files.records, files.read_record),
    Reader("receipts, secrets, proofs", files.receipts, files.read_receipt),
    Reader("keys", files.keys, files.read_keys),
    Reader("ledgers and exports", files.ledgers, files.read_ledger),
    Reader("expunge.toml", files.settings, lambda f: read_settings(f / "expunge.toml")),
    Reader("grids", files.grids, lambda f: read_grid(f / "grid.toml")),
    Reader("state.json", files.states, lambda f: read_state(f / "state.json")),
    Reader("samples.npz", files.fingerprints, lambda f: Fingerprints.load(f / "samples.npz")),
    Reader("request files", files.request_files, files.read_request_file),
    Reader("request csv", files.request_csv, lambda f: read_csv(f / "r.csv")),
    Reader("npz", data.npz, lambda f: load(f"npz:{f / 'd.npz'}")),
    Reader("csv, tsv, jsonl, parquet", data.tables, lambda f: load(f"text:{first_file(f)}")),
    Reader("image folders", data.folders, lambda f: load(f"folder:{f}?size=4&check=1")),
    Reader("image tables", data.image_tables, lambda f: load(f"images:{f / 't.csv'}?size=4&check=1")),
    Reader("IDX", data.idx, lambda f: load(f"fashion-mnist:{f}")),
    Reader("CIFAR-10", data.cifar, lambda f: load(f"cifar10:{f / 'cifar-10-batches-bin' if (f / 'cifar-10-batches-bin').exists() else f / 'cifar-10-batches-py'}")),
    Reader("webdataset", data.shards, lambda f: load(f"webdataset:{f}?size=4&check=1")),
    Reader("latents", data.latents, lambda f: LatentsFile(f / "l", "one").latents),
    Reader("predictions", data.predictions, lambda f: read_easydub(f, 1)),
    Reader("pipelines", files.pipelines, files.read_pipeline),
)  # fmt: skip
