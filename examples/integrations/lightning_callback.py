"""Hold a saliency mask in a training of Lightning, and watch forget and retain accuracy.

Run: python examples/integrations/lightning_callback.py
"""

import copy

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from expunge import Classification, Retrain, Split, audit, saliency_mask, train
from expunge.integrations.lightning import MaskCallback
from expunge.models import build
from expunge.sources import load


class Relearn(lightning.LightningModule):
    """A module of the user: any model, loss and optimizer."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def relabelled(split: Split) -> TensorDataset:
    """Retained samples, and forget samples with random other labels."""
    task, generator = Classification(10), torch.Generator().manual_seed(0)
    forget = next(split.forget.batches(len(split.forget)))
    retain = next(split.retain.batches(len(split.retain)))
    labels = task.other_labels(forget.y, generator)
    return TensorDataset(torch.cat([forget.x, retain.x]), torch.cat([labels, retain.y]))


def main() -> None:
    torch.manual_seed(0)
    data, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(data.train, data.test, forget=3)
    recipe = Retrain(epochs=8, lr=0.1, lr_schedule="one_cycle", batch_size=64)
    original = train(build("mlp", num_classes=10, shape=data.shape), split, recipe, task).model

    module = Relearn(copy.deepcopy(original))
    mask = saliency_mask(original, split.forget, task, density=0.5)
    callback = MaskCallback(mask, split, task)
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[callback],
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(relabelled(split), batch_size=32, shuffle=True))

    before = original.state_dict()
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter[~mask[name]], before[name][~mask[name]]), "a masked element has moved"
    for row in callback.history:
        print(row)
    print("before:", audit(original, split, task))
    print("after: ", audit(module.model, split, task))


if __name__ == "__main__":
    main()
