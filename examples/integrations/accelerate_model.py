"""Unlearn from a model that Accelerate has prepared, and hold a mask in a loop of Accelerate.

Run: python examples/integrations/accelerate_model.py, or accelerate launch examples/integrations/accelerate_model.py
"""

import torch
from accelerate import Accelerator
from torch import nn

from expunge import Classification, Retrain, SalUn, Split, audit, masked, saliency_mask, train, unlearn
from expunge.models import build
from expunge.sources import load


def main() -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    data, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(data.train, data.test, forget=3)
    recipe = Retrain(epochs=8, lr=0.1, lr_schedule="one_cycle", batch_size=64)
    original = train(build("mlp", num_classes=10, shape=data.shape), split, recipe, task).model
    optimizer = torch.optim.AdamW(original.parameters(), lr=1e-3, weight_decay=0.1)
    model, optimizer = accelerator.prepare(original, optimizer)
    before = audit(model, split, task)

    # a prepared model is taken as it is; the result is a plain one
    unlearned = unlearn(model, split, SalUn(epochs=6, lr=0.05, batch_size=32), task)

    # a mask holds in the loop of Accelerate, with its optimizer
    mask = saliency_mask(model, split.forget, task, density=0.2)
    kept = {name: p.detach().clone() for name, p in accelerator.unwrap_model(model).named_parameters()}
    with masked(optimizer, model, mask):
        for batch in split.retain.batches(64):
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(batch.x), batch.y))
            optimizer.step()
    for name, parameter in accelerator.unwrap_model(model).named_parameters():
        assert torch.equal(parameter[~mask[name]], kept[name][~mask[name]]), "a masked element has moved"
    print("before:", before)
    print("after: ", audit(unlearned, split, task))


if __name__ == "__main__":
    main()
