"""Valid files of models, records, evidence, projects and pipelines, and how those are read that need more than one call."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.cli import main
from expunge.data.id_file import read_ids
from expunge.data.past_requests import PastRequest
from expunge.generation.pipeline_config import read_config
from expunge.generation.pipeline_index import read_index
from expunge.masks.mask import Mask
from expunge.projects.settings import checked
from expunge.receipts.commitment import Proof, Secret
from expunge.receipts.issue import issue
from expunge.receipts.keys import load_private, load_public
from expunge.receipts.ledger import Ledger
from expunge.receipts.ledger_check import check_export
from expunge.receipts.verify import verify
from expunge.records.checkpoint import write_checkpoint
from expunge.records.record import Record
from expunge.records.request_file import read_requests, write_requests

CANARY = "canary"


class Dangerous:
    """An object whose pickle makes the file `canary` when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (CANARY,)


def place_of(folder: Path, name: str) -> Path:
    """Return the file of an input: its folder is made."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return folder / name


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2), "n": torch.tensor(3)}


def torch_files(folder: Path) -> None:
    torch.save(tensors(), place_of(folder, "plain/m.pt"))
    torch.save({"state_dict": tensors(), "epoch": 3, "args": {"lr": 0.1}}, place_of(folder, "nested/m.pt"))
    torch.save(tensors(), place_of(folder, "old/m.pt"), _use_new_zipfile_serialization=False)
    torch.save({"state_dict": tensors(), "hook": Dangerous()}, place_of(folder, "danger/m.pt"))
    torch.save({"pytorch-lightning_version": "2.5", "state_dict": {f"model.{k}": v for k, v in tensors().items()},
                "optimizer_states": [], "hyper_parameters": {"lr": 1}}, place_of(folder, "lightning/m.ckpt"))  # fmt: skip
    place_of(folder, "pickle/m.pt").write_bytes(pickle.dumps({"a": [1, 2], "b": Dangerous()}))
    write_checkpoint(place_of(folder, "own/m.pt"), tensors(), metadata={"expunge": "model"})


def safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    write_checkpoint(place_of(folder, "own/m.safetensors"), tensors())
    save_file(tensors(), place_of(folder, "plain/m.safetensors"), {"format": "pt"})


def shards_of_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    state, names = tensors(), {}
    for k, (name, tensor) in enumerate(state.items()):
        save_file({name: tensor}, place_of(folder, f"sharded/model-{k}.safetensors"))
        names[name] = f"model-{k}.safetensors"
    index = {"metadata": {"total_size": 40}, "weight_map": names}
    place_of(folder, "sharded/model.safetensors.index.json").write_text(json.dumps(index))
    place_of(folder, "sharded/config.json").write_text('{"model_type": "bert"}')
    save_file(
        {"base_model.model.a.lora_A.weight": torch.zeros(2, 3)},
        place_of(folder, "adapter/adapter_model.safetensors"),
    )
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["a"], "base_model_name_or_path": "x"}
    place_of(folder, "adapter/adapter_config.json").write_text(json.dumps(config))


def first_file(folder: Path) -> Path:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return files[0] if files else folder / "nothing"


def masks(folder: Path) -> None:
    Mask({"a.weight": torch.ones(2, 3, dtype=torch.bool), "a.bias": torch.zeros(2, dtype=torch.bool)}).save(
        place_of(folder, "mask/m.safetensors")
    )


def record() -> Record:
    made = {"hash_before": "0" * 64, "hash_after": "1" * 64}
    return Record("unlearn", "salun", {"lr": 0.01}, model=made, scores={"UA": 80.0, "RA": 99.0}, machine={},
                  details={"verdict": {"words": ["different"]}})  # fmt: skip


def records(folder: Path) -> None:
    record().save(place_of(folder, "record/r.json"))


def read_record(folder: Path) -> None:
    Record.load(folder / "r.json")
    called("report", folder / "r.json", "--out", "report.html")


def called(*words: Any) -> None:
    """Run a command. An unexpected error is raised as `RuntimeError`."""
    if (code := main([str(word) for word in words])) not in (0, 1, 2, 3):
        raise RuntimeError(f"the command ended with {code}")


def receipts(folder: Path) -> None:
    receipt, secret = issue(record(), ["1", "2", "3"])
    receipt.save(place_of(folder, "receipt/receipt.json"))
    secret.save(place_of(folder, "receipt/secret.json"))
    secret.prove("1").save(place_of(folder, "receipt/proof.json"))


def read_receipt(folder: Path) -> None:
    verify(folder / "receipt.json", prove=Proof.load(folder / "proof.json"))
    Secret.load(folder / "secret.json").prove("2")


def keys(folder: Path) -> None:
    called("keygen", place_of(folder, "keys/key"))


def read_keys(folder: Path) -> None:
    load_private(folder / "key")
    load_public(folder / "key.pub")


def ledgers(folder: Path) -> None:
    ledger = Ledger(place_of(folder, "ledger/l.db"), create=True)
    ledger.add("case 1", ["1", "2"])
    ledger.add("case 2", classes=["3"])
    ledger.attach(1, status="refused", note="why")
    ledger.set_limits(max_gap=3.0)
    ledger.export(place_of(folder, "export/l.json"))


def read_ledger(folder: Path) -> None:
    if (folder / "l.json").exists():
        check_export(folder / "l.json")
        return
    ledger = Ledger(folder / "l.db")
    ledger.check(full=True)
    ledger.requests()
    ledger.overdue()


def settings(folder: Path) -> None:
    values = {
        "data": "digits",
        "model": "mlp",
        "settings": {"epochs": 4, "lr": 0.005},
        "recipe": {"epochs": 3},
        "trials": 0,
    }
    place_of(folder, "settings/expunge.toml").write_text(checked(values).to_toml())


def grids(folder: Path) -> None:
    here = Path(__file__).parents[1] / "grids"
    for name in ("digits", "digits_ablations", "cifar10_full"):
        place_of(folder, f"{name}/grid.toml").write_text((here / f"{name}.toml").read_text(encoding="utf-8"))


def states(folder: Path) -> None:
    model = {"file": "models/0000.safetensors", "sha256": "0" * 64, "receipt": "", "requests": None}
    state = {
        "format": "expunge-project/v1",
        "models": [model],
        "requests": [],
        "moves": [],
        "files": {},
        "stats": {},
    }
    place_of(folder, "state/state.json").write_text(json.dumps(state))


def fingerprints(folder: Path) -> None:
    table = np.arange(12, dtype=np.uint64).reshape(4, 3)
    np.savez(place_of(folder, "samples/samples.npz"), key=np.zeros(16, np.uint8), train=table, test=table,
             without_contents=np.array(["train"], "U8"))  # fmt: skip


def request_files(folder: Path) -> None:
    requests = [PastRequest("0" * 64, "ids", "untrain", ("1", "2"), method="salun")]
    write_requests(place_of(folder, "requests/m.requests.json"), requests)
    place_of(folder, "text/ids.txt").write_text("1\n2\n")


def read_request_file(folder: Path) -> None:
    file = first_file(folder)
    read_requests(file)
    read_ids(file)


def request_csv(folder: Path) -> None:
    place_of(folder, "csv/r.csv").write_text(
        "id,subject,due,received\n1,case 1,2027-01-02,2026-11-01\n2,case 2,,\n"
    )


def pipelines(folder: Path) -> None:
    """Write a real pipeline folder. Its files of parameters become short ones: only their names are read here."""
    import sys

    from safetensors.torch import save_file

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    import tiny_pipelines

    words = folder.parent / "words"
    tiny_pipelines.stable_diffusion(words).save_pretrained(folder / "pipeline")
    for file in (folder / "pipeline").rglob("*.safetensors"):
        save_file({"w": torch.zeros(2)}, file)


def read_pipeline(folder: Path) -> None:
    read_index(folder)
    read_config(folder)
