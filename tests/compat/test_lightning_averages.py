"""Checkpoints that Lightning's callbacks for averages wrote: which parameters are used, what is said, and the way back."""

import importlib

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into


def callback(name):
    """The callback, or a skip where this Lightning has none."""
    try:
        return getattr(importlib.import_module("lightning.pytorch.callbacks"), name)
    except (ImportError, AttributeError):
        pytest.skip(f"this Lightning has no {name}; run make test-compat")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options"),
    [("EMAWeightAveraging", {"decay": 0.5}), ("WeightAveraging", {})],
    ids=["ema", "mean"],
)
def test_the_average_is_used_and_the_last_parameters_can_be_chosen(tmp_path, name, options):
    averaging = callback(name)(**options)
    import lightning
    from lightning_module import Module

    last = {}

    class Kept(lightning.Callback):
        """The parameters of the last step, by the training loop itself."""

        def on_train_batch_end(self, trainer, module, *_):
            last.update({k: v.clone() for k, v in module.state_dict().items()})

    torch.manual_seed(0)
    x, y = torch.rand(24, 3, 8, 8), torch.arange(24) % 3
    saving = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="run")
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=[averaging, saving, Kept()],
    )  # fmt: skip
    module = Module(width=16)
    trainer.fit(module, DataLoader(TensorDataset(x, y), 8))
    file = tmp_path / "run.ckpt"
    # Lightning puts the average into the module when the training ends
    average = {k: v.clone() for k, v in module.state_dict().items()}
    assert any(not torch.equal(average[k], last[k]) for k in last)

    for ema, wanted in ((None, average), ("current_model_state", last)):
        checkpoint, model = read_checkpoint(file, ema), Module(width=16).model
        load_into(model, checkpoint)
        assert all(torch.equal(v, wanted[f"model.{k}"]) for k, v in model.state_dict().items())
        # a choice of the user's own needs no note
        notices = " ".join(checkpoint.notices)
        assert (
            "`state_dict` is used, not current_model_state; choose another with --ema KEY" in notices
        ) == (ema is None)
        assert ("`state_dict` is the average that its validation used" in notices) == (ema is None)
        with torch.no_grad():
            model[3].bias.add_(1)
        out = write_checkpoint(tmp_path / f"out_{ema}.ckpt", model.state_dict(), like=checkpoint)
        # the model that was not chosen knows the training data, and leaves
        kept = tensors(torch.load(out, weights_only=True))
        other = last if wanted is average else average
        assert not any(torch.equal(v, t) for v in other.values() for t in kept)
        if ema is None:
            again = Module.load_from_checkpoint(out, map_location="cpu").state_dict()
            assert all(torch.equal(again[f"model.{k}"], v) for k, v in model.state_dict().items())


def tensors(content):
    if isinstance(content, torch.Tensor):
        return [content]
    values = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list | tuple)
        else ()
    )
    return [t for v in values for t in tensors(v)]
