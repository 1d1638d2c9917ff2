"""A saliency mask in a training loop of your own: any loss, any torch optimizer, and the rest of the weights stays put.

Run: python examples/your_own_loop.py
"""

import copy

import torch

from expunge import Classification, Retrain, Split, audit, masked, saliency_mask, train
from expunge.models import build
from expunge.sources import load


def main() -> None:
    torch.manual_seed(0)
    data, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(data.train, data.test, forget=3)
    recipe = Retrain(epochs=8, lr=0.1, lr_schedule="one_cycle", batch_size=64)
    original = train(build("mlp", num_classes=10, shape=data.shape), split, recipe, task).model

    # the fifth of the weights that matters most for the forget set; a dict {name: bool tensor}
    mask = saliency_mask(original, split.forget, task, density=0.2)

    model = copy.deepcopy(original)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    shuffle = torch.Generator().manual_seed(0)
    with masked(
        optimizer, model, mask
    ):  # weight decay and Adam's memory cannot move the other weights either
        for _ in range(5):
            for batch in split.forget.batches(64, shuffle=shuffle):
                optimizer.zero_grad()
                logits = model(batch.x)
                (-logits.log_softmax(1).mean()).backward()  # towards no opinion on what is to be forgotten
                optimizer.step()
            for batch in split.retain.batches(64, shuffle=shuffle):
                optimizer.zero_grad()
                task.loss(model, batch).mean().backward()
                optimizer.step()

    before = original.state_dict()
    for name, weight in model.named_parameters():
        assert torch.equal(weight[~mask[name]], before[name][~mask[name]]), (
            "a weight outside the mask has moved"
        )
    moved = sum(int(m.sum()) for m in mask.values())
    print(f"{moved} weights were free to move, all others are bit-identical")
    print("before:", audit(original, split, task))
    print("after: ", audit(model, split, task))


if __name__ == "__main__":
    main()
