"""Write a folder with an unlearned model and its card, ready for the Hugging Face hub. Nothing is uploaded.

Run: python examples/integrations/hub_folder.py FOLDER [transformers or timm]
Then, if you want to publish it: hf upload NAME FOLDER
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from expunge import Classification, Retrain, SalUn, Split, audit, experiment, train
from expunge.audit import evaluate
from expunge.integrations.hub_folder import write_hub_folder
from expunge.sources import load


def fresh(library: str) -> nn.Module:
    """A small vision transformer of a library, for images of 8x8 pixels."""
    if library == "timm":
        import timm

        return timm.create_model("test_vit", num_classes=10, in_chans=1, img_size=8, patch_size=2)
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, hidden_size=48, num_hidden_layers=2,
                       num_attention_heads=4, intermediate_size=96, num_labels=10)  # fmt: skip
    return ViTForImageClassification(config)


def loaded(library: str, folder: Path) -> nn.Module:
    """What the library itself reads from the folder."""
    if library == "timm":
        import timm

        return timm.create_model(f"local-dir:{folder}", pretrained=True)
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(folder)


def main(folder: Path, library: str) -> None:
    torch.manual_seed(0)
    digits, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(digits.train, digits.test, forget=3)
    recipe = Retrain(epochs=20, lr=3e-3, optimizer="adamw", lr_schedule="cosine", batch_size=32)
    original = train(fresh(library), split, recipe, task).model
    outcome = experiment(
        original,
        split,
        SalUn(epochs=5, lr=1e-3, optimizer="adamw", batch_size=32),
        task,
        original=evaluate(original, split, task),
        names={"model": library, "data": "digits", "classes": list("0123456789")},
    )
    write_hub_folder(folder, outcome.model, record=outcome.record, title="A vision transformer without the 3")
    x = next(split.test.batches(64)).x
    ours, theirs = (task.logits(m.eval(), x) for m in (outcome.model, loaded(library, folder)))
    assert torch.equal(ours, theirs), "the library reads another model"
    print(sorted(file.name for file in folder.iterdir()))
    print("before:", audit(original, split, task))
    print("after: ", outcome.audit)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "unlearned"
    main(place, sys.argv[2] if len(sys.argv) > 2 else "transformers")
