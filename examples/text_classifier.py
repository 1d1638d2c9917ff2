"""Unlearn a class of texts from a small transformer: real English, the documentation inside Python's standard library.

Any model that takes a dict of tensors works the same way, those of transformers too.
Run: python examples/text_classifier.py
"""

import importlib
import inspect
import re
import zlib

import torch

from expunge import Classification, Retrain, SalUn, Split, TensorData, audit, train, unlearn
from expunge.models import build

MODULES = (
    "argparse",
    "asyncio",
    "decimal",
    "email.message",
    "logging",
    "pathlib",
    "tarfile",
    "unittest.case",
)
LENGTH, VOCABULARY = 32, 2048  # words of a text, and numbers they are hashed to


def texts() -> list[tuple[str, int, str]]:
    """(docstring, number of its module, name of what it documents), each docstring once."""
    found: dict[str, tuple[str, int, str]] = {}
    for number, module in enumerate(MODULES):
        things = list(vars(importlib.import_module(module)).items())
        things += [
            (f"{name}.{part}", value)
            for name, kind in things
            if inspect.isclass(kind)
            for part, value in vars(kind).items()
        ]
        for name, thing in things:
            text = getattr(thing, "__doc__", None) if callable(thing) else None
            if text and len(text.split()) >= 6:
                found.setdefault(text, (text, number, f"{module}.{name}"))
    return list(found.values())


def encoded(rows: list[tuple[str, int, str]]) -> TensorData:
    """Words as hashed numbers 1 to VOCABULARY - 1, zero for padding: a dict of inputs, as a tokenizer makes them."""
    tokens = torch.zeros(len(rows), LENGTH, dtype=torch.long)
    for n, (text, _, _) in enumerate(rows):
        words = re.findall(r"[a-z]+", text.lower())[:LENGTH]
        tokens[n, : len(words)] = torch.tensor([zlib.crc32(w.encode()) % (VOCABULARY - 1) + 1 for w in words])
    return TensorData(
        {"input_ids": tokens, "attention_mask": (tokens != 0).long()},
        torch.tensor([label for _, label, _ in rows]),
        ids=[name for _, _, name in rows],
        classes=MODULES,
    )


def main() -> None:
    torch.manual_seed(0)
    rows = texts()
    train_set, test_set = encoded([r for i, r in enumerate(rows) if i % 5]), encoded(rows[::5])
    split = Split.by_class(train_set, test_set, forget="decimal")
    task = Classification(num_classes=len(MODULES))
    recipe = Retrain(epochs=20, lr=2e-3, optimizer="adamw", lr_schedule="cosine", batch_size=64)

    def fresh() -> torch.nn.Module:
        return build(
            "text_transformer",
            num_classes=len(MODULES),
            shape=(LENGTH,),
            vocabulary=VOCABULARY,
            dim=64,
            depth=1,
        )

    model = train(fresh(), split, recipe, task).model
    reference = unlearn(model, split, recipe, task, factory=fresh)
    method = SalUn(epochs=3, lr=1e-3, optimizer="adamw", batch_size=64)
    unlearned = unlearn(model, split, method, task)

    print(f"{len(split.forget)} texts forgotten, {len(split.retain)} retained")
    print("original: ", audit(model, split, task, retrained=reference))
    print("unlearned:", audit(unlearned, split, task, original=model, retrained=reference))


if __name__ == "__main__":
    main()
