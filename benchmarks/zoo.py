"""Train the reference models of a grid, and publish each under `benchmarks/zoo/` as soon as it is finished.

    python benchmarks/zoo.py benchmarks/grids/cifar10_full.toml --minutes 60
    python benchmarks/zoo.py benchmarks/grids/cifar10_full.toml --verify
    python benchmarks/zoo.py benchmarks/grids/cifar10_full.toml --restore

The first command trains originals and retrained models, one after the other, in the order original, random forget set,
class, seed by seed. It is resumable: the cache keeps a state after each epoch. `--verify` checks the published files
against their manifest; it needs neither the data nor the cache. `--restore` copies them into the cache of
`expunge bench`, which then trains no model again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from expunge.bench.grid import Grid, Job, read_grid
from expunge.bench.model_store import ModelStore
from expunge.bench.results import revision
from expunge.bench.scheduler import OutOfTime
from expunge.errors import ExpungeError
from expunge.methods.retrain import Retrain
from expunge.records.atomic_files import write_json
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_metadata import metadata_for
from expunge.records.hashing import model_hash
from expunge.records.record import Record, machine, plain
from expunge.records.torch_files import load_state
from expunge.torch_utils.allocator import keep_freed_memory

HERE = Path(__file__).parent
MANIFEST = "manifest.json"
# Largest size of the whole zoo in bytes.
LIMIT = 60 * 10**6


class RecordingStore(ModelStore):
    """Keep models as `expunge bench` does, and beside each a file that says how it was trained.

    Args:
        note: Remark on the machine for those files.
        command: Command for those files.
    """

    def __init__(self, folder: Path, deadline: float, note: str, command: str):
        super().__init__(folder, "cpu", deadline)
        self.note, self.command = note, command
        # read before the training: the code may change while it runs
        self.revision = revision()

    def save_model(self, path: Path, model: torch.nn.Module) -> None:
        """Write a model, and beside it its training time, machine, date, command and revision."""
        facts = {
            "seconds": training_seconds(path),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine(), "processor": processor(), "niceness": os.nice(0), "note": self.note},
            "command": self.command,
            "revision": self.revision,
        }
        write_json(training_file(path), plain(facts))
        super().save_model(path, model)


def training_seconds(path: Path) -> float:
    """Return the duration of a training that has just finished, without its evaluations, over all calls."""
    record = path.with_suffix(".json")
    # A retrained model has a record by now, and its state is gone. An original still has its state.
    seconds = (
        Record.load(record).seconds if record.exists() else load_state(path.with_suffix(".state"))["seconds"]
    )
    return round(seconds, 3)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def training_file(path: Path) -> Path:
    """Return the path of the file that says how the model at `path` was trained."""
    return path.with_suffix(".training.json")


def training_facts(path: Path, note: str) -> dict[str, Any]:
    """Return how the model at `path` was trained. Facts that nobody recorded are None."""
    if training_file(path).exists():
        return json.loads(training_file(path).read_text(encoding="utf-8"))
    # `expunge bench` trained the model. It records seconds and machine of retrained models only.
    file, finished = path.with_suffix(".json"), datetime.fromtimestamp(path.stat().st_mtime, UTC)
    record = Record.load(file) if file.exists() else None
    return {
        "seconds": round(record.seconds, 3) if record else None,
        "finished": finished.isoformat(timespec="seconds"),
        "machine": {**(record.machine if record else {}), "note": note},
        "command": None,
        "revision": None,
    }


def references(grid: Grid) -> dict[str, tuple[str, Job]]:
    """Return {name: (role, job)} of all models, in the order of training. A role is "original" or "retrain"."""
    models: dict[str, tuple[str, Job]] = {}
    for seed in dict.fromkeys(job.seed for job in grid.jobs):
        for job in (j for j in grid.jobs if j.seed == seed):
            models.setdefault(f"original-seed{seed}", ("original", job))
            models.setdefault(f"retrain-{split_name(job)}-seed{seed}", ("retrain", job))
    keys = {job.origin if role == "original" else job.place for role, job in models.values()}
    if len(keys) < len(models) or len({(j.data, j.model) for j in grid.jobs}) > 1:
        raise SystemExit("the zoo takes grids with one data set and one model; make one grid for each.")
    return models


def split_name(job: Job) -> str:
    """Return the name of a job's split in file names: "random10" for 10 %, "class" for a class that the seed chooses."""
    if "forget_share" in job.split:
        return f"random{100 * job.split['forget_share']:g}"
    classes = job.split.get("forget_class")
    return (
        "class" if classes == ["seed"] else "-".join(["class", *map(str, classes)]) if classes else job.place
    )


def publish(store: RecordingStore, name: str, role: str, job: Job, folder: Path) -> dict[str, Any]:
    """Write a finished model with its metadata to `folder`, and return its entry of the manifest."""
    path = store.make_original(job) if role == "original" else store.make_retrained(job)
    source, split, _ = store.setting(job)
    _, evaluation = store.evaluated(path, job)
    recipe = Retrain(**job.recipe)
    metadata = metadata_for(
        "original" if role == "original" else "retrain", split, recipe, job.seed, key=None
    )
    file = write_checkpoint(folder / f"{name}.safetensors", read_checkpoint(path).state, metadata=metadata)
    entry: dict[str, Any] = {
        "role": role,
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": file_hash(file),
        "state_hash": model_hash(file),
        "cache_file": path.name,
        "model": job.model,
        "data": source.name,
        "data_spec": job.data,
        "seed": job.seed,
        "split": job.split,
        "drawn": split.to_dict(),
        "recipe": job.recipe,
        "compute": job.compute,
        "accuracy": accuracies(evaluation),
        "training": training_facts(path, store.note),
    }
    if role == "retrain":
        # `expunge bench` needs the record of a retrained model beside it.
        record = shutil.copyfile(path.with_suffix(".json"), folder / f"{name}.record.json")
        entry |= {"record": record.name, "record_sha256": file_hash(record)}
    return plain(entry)


def accuracies(evaluation: Any) -> dict[str, float | None]:
    """Return the accuracies of an evaluation in percent. A set without samples has None."""
    sets = ("test", "test_forgotten", "forget", "retain")
    predictions = {name: getattr(evaluation, name) for name in sets}
    return {name: round(p.accuracy, 4) if len(p.labels) else None for name, p in predictions.items()}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the models of a manifest, {name: entry}. A folder without a manifest has none."""
    file = folder / MANIFEST
    return json.loads(file.read_text(encoding="utf-8"))["models"] if file.exists() else {}


def train_all(grid: Grid, store: RecordingStore, folder: Path) -> list[str]:
    """Train and publish every model that the manifest does not have, and return the names of those still missing."""
    models, entries = references(grid), read_manifest(folder)
    for name, (role, job) in models.items():
        if name in entries:
            continue
        try:
            entries[name] = publish(store, name, role, job, folder)
        except OutOfTime:
            break
        done = {n: entries[n] for n in models if n in entries}
        write_json(folder / MANIFEST, {"grid": grid.name, "title": grid.title, "models": done})
        print(f"{name}: test accuracy {entries[name]['accuracy']['test']:.2f} %", flush=True)
    return [name for name in models if name not in entries]


def verify(grid: Grid, folder: Path) -> list[str]:
    """Return every problem of a published folder: one sentence each."""
    entries, models = read_manifest(folder), references(grid)
    problems = [] if entries else [f"{folder} has no {MANIFEST} with models; train some first."]
    for name, entry in entries.items():
        if name not in models:
            problems.append(f"{name}: the grid has no such model; remove it from the manifest.")
            continue
        role, job = models[name]
        key = f"original-{job.origin}-" if role == "original" else f"retrain-{job.place}."
        if not entry["cache_file"].startswith(key):
            problems.append(f"{name}: the grid now has another recipe, split or data; train the model again.")
        problems += [f"{name}: {problem}" for problem in file_problems(folder, entry)]
    listed = {MANIFEST, *(e.get(k) for e in entries.values() for k in ("file", "record"))}
    problems += [
        f"{p.name} is not in the manifest; remove it." for p in folder.glob("*") if p.name not in listed
    ]
    size = sum(p.stat().st_size for p in folder.parent.rglob("*") if p.is_file())
    if size > LIMIT:
        problems.append(f"{folder.parent} has {size:,} bytes; at most {LIMIT:,} are allowed. Remove models.")
    return problems


def file_problems(folder: Path, entry: dict[str, Any]) -> list[str]:
    """Return what is wrong with the files of a manifest entry."""
    files = [(entry["file"], entry["sha256"])]
    if "record" in entry:
        files.append((entry["record"], entry["record_sha256"]))
    if missing := [name for name, _ in files if not (folder / name).is_file()]:
        return [f"{', '.join(missing)} does not exist; restore it from git."]
    problems = [
        f"{name} does not have the SHA-256 of the manifest; restore it from git."
        for name, expected in files
        if file_hash(folder / name) != expected
    ]
    if problems:
        return problems
    file, drawn = folder / entry["file"], entry["drawn"]
    if model_hash(file) != entry["state_hash"]:
        problems.append(f"{file.name} does not have the state hash of the manifest; restore it from git.")
    original, metadata = entry["role"] == "original", read_checkpoint(file).metadata
    expected = {
        "kind": entry["role"],
        "seed": str(entry["seed"]),
        "train_hash": drawn["train_hash"] if original else "",
        "split_hash": "" if original else drawn["hash"],
    }
    wrong = [key for key, value in expected.items() if metadata.get(key) != value]
    return problems + [f"{key} in {file.name} differs from the manifest; publish it again." for key in wrong]


def restore(grid: Grid, folder: Path, cache: Path) -> None:
    """Copy the published models into the cache of `expunge bench`, under the names that it looks for."""
    if problems := verify(grid, folder):
        raise SystemExit("\n".join(problems))
    copy_models(folder, cache)


def copy_models(folder: Path, cache: Path) -> None:
    """Copy the models of a manifest into a cache, except those that it has."""
    for name, entry in read_manifest(folder).items():
        target = cache / "models" / entry["cache_file"]
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if "record" in entry:
            shutil.copyfile(folder / entry["record"], target.with_suffix(".json"))
        shutil.copyfile(folder / entry["file"], target)
        write_json(training_file(target), entry["training"])
        print(f"{name}: {target}")


def main(arguments: list[str] | None = None) -> None:
    """Read the flags, and train, verify or restore."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="the grid file")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this time (default 60)")
    parser.add_argument("--cache", type=Path, default=HERE / "cache", help="folder of `expunge bench --out`")
    parser.add_argument("--out", type=Path, default=HERE / "zoo", help="folder of the zoo")
    parser.add_argument("--note", default="", help="remark on this machine for the manifest")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--verify", action="store_true", help="check hashes and manifest; exit code 1 if wrong"
    )
    action.add_argument("--restore", action="store_true", help="copy the models into the cache")
    options = parser.parse_args(arguments)
    try:
        grid = read_grid(options.grid)
        run(grid, options)
    except ExpungeError as error:
        raise SystemExit("\n".join(error.problems)) from error


def run(grid: Grid, options: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    folder = options.out / grid.name
    if options.verify:
        if problems := verify(grid, folder):
            raise SystemExit("\n".join(problems))
        print(f"{len(read_manifest(folder))} models: files, hashes and metadata agree with the manifest")
    elif options.restore:
        restore(grid, folder, options.cache)
    else:
        torch.set_num_threads(grid.threads)
        keep_freed_memory()
        # a retrained model needs its original in the cache
        copy_models(folder, options.cache)
        command = f"python benchmarks/zoo.py benchmarks/grids/{options.grid.name}"
        store = RecordingStore(options.cache, time.time() + 60 * options.minutes, options.note, command)
        missing = train_all(grid, store, folder)
        print(
            f"still missing: {', '.join(missing)}; give the same command again"
            if missing
            else "all models are done"
        )


if __name__ == "__main__":
    main()
