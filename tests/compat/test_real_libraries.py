"""The integrations with the real libraries: trackers read back with the library's own reader, callbacks, hub folders, examples."""

import importlib
import re
import runpy
import sqlite3
import struct
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from expunge import Classification, SalUn, Split, experiment, saliency_mask
from expunge.models import build
from expunge.tracking import MLflow, TensorBoard, WandB

EXAMPLES = Path(__file__).parents[2] / "examples" / "integrations"
TASK = Classification(3)
# an id and a group that no tracker may see
SECRET = "anna-smith"


def require(*modules):
    for module in modules:
        try:
            importlib.import_module(module)
        # a torchvision for another torch raises RuntimeError
        except (ImportError, RuntimeError):
            pytest.skip(f"{module} is not installed; run make test-compat")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    if "accelerate.state" in sys.modules:
        # one setting of precision for a process
        sys.modules["accelerate.state"].AcceleratorState._reset_state(True)
    # what a tracker would find on the command line
    monkeypatch.setattr(sys, "argv", ["expunge", "unlearn", "--forget-group", f"person={SECRET}"])


def outcome(tracker):
    """A run of salun on 60 points, watched by a tracker."""
    from expunge import TensorData

    torch.manual_seed(0)
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    train = TensorData(x[:48], y[:48], ids=[f"{SECRET}-{k}" for k in range(48)])
    split = Split.by_ids(train, (x[48:], y[48:]), [f"{SECRET}-{k}" for k in range(6)], validation=0)
    model = build("mlp", num_classes=3, shape=(5,))
    names = {"model": "mlp", "data": "points"}
    return experiment(model, split, SalUn(epochs=3, batch_size=8), TASK, tracker=tracker, names=names)


def holds_secret(folder):
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_tensorboard_reads_what_a_run_wrote(tmp_path):
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoard(tmp_path / "runs")
    record = outcome(tracker).record
    events = EventAccumulator(str(tracker.run_folder))
    events.Reload()
    curve = [(event.step, pytest.approx(event.value, abs=1e-4)) for event in events.Scalars("forget")]
    assert [(row["step"], row["forget"]) for row in record.curves] == curve
    assert events.Scalars("score/UA")[0].value == pytest.approx(record.scores["UA"], abs=1e-4)
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]
    }
    assert "| settings.epochs | 3 |" in texts["settings/text_summary"]
    assert "| ended |" in texts["result/text_summary"]
    again = TensorBoard(tmp_path / "runs")
    outcome(again)
    assert again.run_folder != tracker.run_folder and not holds_secret(tmp_path)


@pytest.mark.slow
def test_mlflow_reads_what_a_run_wrote(tmp_path):
    require("mlflow", "sqlalchemy")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/runs.db"
    tracker = MLflow(uri, "unlearning")
    record = outcome(tracker).record
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["ended"] == record.ended
    assert run.data.params["settings.epochs"] == "3" and run.data.params["samples.forget"] == "6"
    assert run.data.metrics["score.UA"] == pytest.approx(record.scores["UA"])
    curve = [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "forget")]
    assert curve == [(row["step"], pytest.approx(row["forget"])) for row in record.curves]
    assert client.get_experiment_by_name("unlearning").experiment_id == run.info.experiment_id
    with sqlite3.connect(tmp_path / "runs.db") as database:
        text = "\n".join(database.iterdump())
    assert SECRET not in text and "--forget-group" not in text


def entries(content):
    """The entries of an offline file of W&B: blocks of 32,768 bytes as in LevelDB's log, after a head of 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        # 1: a whole entry, 4: the last piece of one
        if kind in (1, 4):
            yield whole
            whole = b""
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768


@pytest.mark.slow
def test_wandb_reads_what_a_run_wrote_and_collects_nothing_else(tmp_path):
    require("wandb")
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    tracker = WandB("unlearning")
    record = outcome(tracker).record
    # its service writes the file after the run has ended
    wandb.teardown()
    (file,) = tmp_path.rglob("*.wandb")
    steps, summary, config = [], {}, {}
    for data in entries(file.read_bytes()):
        entry = Record.FromString(data)
        if entry.WhichOneof("record_type") == "history":
            steps.append({item.key or item.nested_key[0]: item.value_json for item in entry.history.item})
        if entry.WhichOneof("record_type") == "summary":
            summary |= {
                item.key or ".".join(item.nested_key): item.value_json for item in entry.summary.update
            }
        if entry.WhichOneof("record_type") == "run":
            config |= {item.key: item.value_json for item in entry.run.config.update}
    assert [int(step["step"]) for step in steps] == [row["step"] for row in record.curves]
    assert float(summary["score.UA"]) == pytest.approx(record.scores["UA"])
    assert config["settings.epochs"] == "3"
    assert not holds_secret(tmp_path) and not list(tmp_path.rglob("wandb-metadata.json"))


@pytest.mark.slow
def test_a_broken_place_costs_a_warning(tmp_path):
    require("tensorboard", "mlflow", "sqlalchemy")
    (tmp_path / "file").write_text("")
    trackers = [TensorBoard(tmp_path / "file"), MLflow(f"sqlite:///{tmp_path}/file/runs.db")]
    with pytest.warns(RuntimeWarning, match="The run goes on") as caught:
        assert outcome(trackers).run.ended == "finished"
    assert len([w for w in caught if "The run goes on" in str(w.message)]) == 2


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_callback_of_lightning_holds_a_mask(optimizer):
    require("lightning")
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    from expunge.integrations.lightning import MaskCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def on_train_batch_end(self, *_):
            for name, parameter in self.model.named_parameters():
                assert torch.equal(parameter[~mask[name]], before[name][~mask[name]]), name

        def configure_optimizers(self):
            if optimizer == "sgd":
                return torch.optim.SGD(self.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
            return torch.optim.AdamW(self.parameters(), 0.1, weight_decay=0.1)

    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.arange(64) % 3
    split = Split.by_class((x[:48], y[:48]), (x[48:], y[48:]), [1], validation=0)
    module = Module()
    mask = saliency_mask(module.model, split.forget, TASK, 0.2)
    before = {n: p.detach().clone() for n, p in module.model.named_parameters()}
    callback = MaskCallback(mask, split, TASK)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[callback], gradient_clip_val=0.5, **quiet
    )
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=16))
    moved = sum(int((p.detach() != before[n]).sum()) for n, p in module.model.named_parameters())
    assert moved == mask.count and all(p.requires_grad for p in module.parameters())
    assert [row["step"] for row in callback.history] == [0, 4, 8]
    assert [row["epoch"] for row in callback.history] == [0, 1, 2]
    assert float(trainer.callback_metrics["forget"]) == pytest.approx(callback.history[-1]["forget"])


@pytest.mark.slow
def test_timm_reads_a_hub_folder(tmp_path, capsys):
    require("timm")
    runpy.run_path(str(EXAMPLES / "hub_folder.py"))["main"](tmp_path / "out", "timm")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert "library_name: timm" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


SCRIPTS = {
    "trainer_callback": ("transformers", "accelerate"),
    "lightning_callback": ("lightning",),
    "accelerate_model": ("accelerate",),
    "hub_folder": ("transformers",),
    "track tensorboard:runs": ("tensorboard",),
    "track mlflow:sqlite:///runs.db": ("mlflow", "sqlalchemy"),
    "track wandb:unlearning": ("wandb",),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_examples_run_with_the_real_library(script, monkeypatch, capsys):
    require(*SCRIPTS[script])
    name, *arguments = script.split(" ")
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    before, after = (
        {k: float(v) for k, v in re.findall(r"(\w+) (-?\d+\.\d+)", line)}
        for line in capsys.readouterr().out.splitlines()[-2:]
    )
    assert before["RA"] > 85 and after["RA"] > 80 and after["UA"] > before["UA"] + 40


def test_every_example_of_an_integration_is_run():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {script.split(" ")[0] for script in SCRIPTS}
