"""Commands to kill and to fill the disk under, each with the folder that it starts from and what its result is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.cli import main

TESTS = Path(__file__).parents[2] / "tests"
DATA = ["--data", "digits?limit=400&test_limit=200", "--model", "mlp"]
TRAIN = ["train", *DATA, "--epochs", "8", "--lr", "0.1", "--out"]
UNLEARN = [
    "unlearn",
    "salun",
    *DATA,
    "--checkpoint",
    "original.safetensors",
    "--forget-class",
    "3",
    "--out",
    "new.safetensors",
]
FORGET = ["forget", "--project", "office", "--ids", "ids.txt", "--subject", "case 2"]
GRID = """title = "torture"
data = ["digits?limit=400&test_limit=200"]
models = ["mlp"]
seeds = [0]
[recipe]
epochs = 4
lr = 0.1
[[split]]
forget_class = ["seed"]
[defaults]
epochs = 1
[[method]]
name = "finetune"
[[method]]
name = "gradient_ascent"
"""
PROJECT = "office"
LEDGER = "requests.db"


def command(*words: str) -> Callable[[], int]:
    """Return a call of the command line."""
    return lambda: main(list(words))


def settle() -> int:
    """Do what the next command does first: finish or remove what a killed one left in a project or a ledger."""
    from expunge.projects.folder import Folder
    from expunge.receipts.ledger import Ledger
    from expunge.records.together import finish_or_remove

    finish_or_remove(Path("."))
    if (Path(PROJECT) / "state.json").exists():
        with Folder(PROJECT).locked():
            pass
    failed = []
    for ledger in (Path(LEDGER), Path(PROJECT) / "ledger.db"):
        if ledger.exists():
            failed += [check.message for check in Ledger(ledger).check(full=True) if check.ok is False]
    print("\n".join(failed), file=sys.stderr)
    return int(bool(failed))


@dataclass(frozen=True)
class Scenario:
    """A command with the folder that it starts from.

    Args:
        name: Its name.
        words: The command.
        before: Commands that make the folder.
        make: Makes further files in the folder.
        repeats: Whether a second run of the finished command gives the same result. Otherwise it is not given again if the
            killed one had done its work.
        share: How often it is chosen, relative to 1.
        slow: Whether it takes so long that the disk is filled at only some of its writes.
    """

    name: str
    words: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    make: Callable[[Path], None] = lambda folder: None
    repeats: bool = True
    share: float = 1.0
    slow: bool = False

    def call(self) -> Callable[[], int]:
        """Return the command as a function."""
        return command(*self.words)


def extra_files(folder: Path) -> None:
    (folder / "ids.txt").write_text("1\n2\n")
    (folder / "two.csv").write_text("id,subject\n11,case 3\n12,case 4\n")
    (folder / "grid.toml").write_text(GRID)


def _hurt(folder: Path) -> None:
    """Leave what killed commands leave: a part folder with parameters, and the state of a run."""
    part = folder / f".lost.safetensors.0123456789ab{'.expunge-part'}"
    part.mkdir()
    shutil.copy(folder / "original.safetensors", part / "content")
    shutil.copy(folder / "original.safetensors", folder / ".lost.safetensors.state")


def _pipeline(folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    import tiny_pipelines

    words = folder / "words"
    tiny_pipelines.save(tiny_pipelines.stable_diffusion(words), folder / "pipeline")
    shutil.rmtree(words)


ORIGINAL = [[*TRAIN, "original.safetensors"]]
OLD = [*ORIGINAL, [*UNLEARN, "--trials", "0", "--epochs", "1"]]
INIT = ["init", PROJECT, *DATA, "--checkpoint", "original.safetensors", "--trials", "0",
        "--settings", "epochs=4", "batch_size=64", "lr=0.005"]  # fmt: skip
OFFICE = [*ORIGINAL, INIT, ["forget", "--project", PROJECT, "--class", "3", "--subject", "case 1"]]
WAITING = [*OFFICE, [*FORGET, "--wait"]]
AUDIT = [
    "audit",
    *DATA,
    "--checkpoint",
    "new.safetensors",
    "--original",
    "original.safetensors",
    "--forget-class",
    "3",
    "--out",
]
ENTERED = [
    *OLD,
    [*AUDIT, "audit.json"],
    ["keygen", "key"],
    ["ledger", "add", LEDGER, "case 1", "--class", "3"],
]
RECEIPT = "new.receipt.json"
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("train", [*TRAIN, "original.safetensors"], share=2),
    Scenario("train over an old file", [*TRAIN, "original.safetensors", "--seed", "1"], ORIGINAL),
    Scenario("unlearn over old files", [*UNLEARN, "--trials", "0", "--epochs", "5"], OLD, share=3),
    Scenario("unlearn with trials", [*UNLEARN, "--trials", "3"], ORIGINAL, share=3),
    Scenario("bench --jobs 1", ["bench", "grid.toml", "--out", "cache", "--results", "results", "--jobs", "1"], make=extra_files),
    Scenario("bench --jobs 2", ["bench", "grid.toml", "--out", "cache", "--results", "results", "--jobs", "2"], make=extra_files,
             share=0.5, slow=True),
    Scenario("erase", ["erase", "salun", "pipeline", "--concept", "dress", "--anchor", "coat", "--per-prompt", "2", "--steps", "4",
                       "--sample-steps", "1", "--batch-size", "4", "--out", "erased"], make=_pipeline, repeats=False, slow=True),
    Scenario("init", INIT, ORIGINAL, repeats=False),
    Scenario("forget", FORGET, OFFICE, extra_files, repeats=False, share=3),
    Scenario("forget --csv", ["forget", "--project", PROJECT, "--csv", "two.csv"], OFFICE, extra_files, repeats=False),
    Scenario("forget --wait", [*FORGET, "--wait"], OFFICE, extra_files, repeats=False),
    Scenario("forget --pending", ["forget", "--project", PROJECT, "--pending"], WAITING, extra_files, repeats=False, share=2),
    Scenario("status --accept", ["status", "--project", PROJECT, "--accept"], OFFICE),
    Scenario("clean --states", ["clean", ".", "--states"], ORIGINAL, _hurt),
    Scenario("audit", [*AUDIT, "audit.json"], OLD),
    Scenario("keygen", ["keygen", "key"], repeats=False),
    Scenario("sign", ["sign", RECEIPT, "--key", "key"], ENTERED),
    Scenario("ledger add", ["ledger", "add", LEDGER, "case 2", "--ids", "ids.txt"], ENTERED, extra_files, repeats=False),
    Scenario("ledger add, new file", ["ledger", "add", LEDGER, "case 2", "--ids", "ids.txt"], (), extra_files, repeats=False),
    Scenario("ledger attach", ["ledger", "attach", LEDGER, "1", "--record", "new.json", "--audit", "audit.json", "--receipt", RECEIPT],
             ENTERED, repeats=False),
    Scenario("ledger limits", ["ledger", "limits", LEDGER, "--key", "key.pub", "--max-gap", "3"], ENTERED, repeats=False),
    Scenario("ledger export", ["ledger", "export", LEDGER, "export.json"], ENTERED, repeats=False),
    Scenario("report", ["report", "new.json", "--out", "report.html"], OLD),
)  # fmt: skip


def warm() -> int:
    """Run one command of each kind."""
    folder = Path(".")
    extra_files(folder)
    codes = [
        main(list(words)) for words in (*ENTERED, INIT, FORGET, ["report", "new.json", "--out", "r.html"])
    ]
    return int(any(code not in (0, 1) for code in codes))
