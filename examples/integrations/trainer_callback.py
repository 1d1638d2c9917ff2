"""Hold a saliency mask in a training of transformers.Trainer, and watch forget and retain accuracy.

Run: python examples/integrations/trainer_callback.py
"""

import copy
import tempfile

import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from expunge import Classification, Retrain, Split, audit, saliency_mask, train
from expunge.integrations.transformers import MaskCallback
from expunge.sources import load


def tiny_vit() -> ViTForImageClassification:
    """A vision transformer for images of 8x8 pixels."""
    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, hidden_size=48, num_hidden_layers=2,
                       num_attention_heads=4, intermediate_size=96, num_labels=10)  # fmt: skip
    return ViTForImageClassification(config)


def rows(split: Split) -> list[dict]:
    """The training data of the user: retained samples, and forget samples with random other labels."""
    task, generator = Classification(10), torch.Generator().manual_seed(0)
    found = []
    for samples, relabel in ((split.forget, True), (split.retain, False)):
        for batch in samples.batches(256):
            labels = task.other_labels(batch.y, generator) if relabel else batch.y
            found += [{"pixel_values": x, "labels": y} for x, y in zip(batch.x, labels, strict=True)]
    return found


def main() -> None:
    torch.manual_seed(0)
    data, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(data.train, data.test, forget=3)
    recipe = Retrain(epochs=20, lr=3e-3, optimizer="adamw", lr_schedule="cosine", batch_size=32)
    original = train(tiny_vit(), split, recipe, task).model

    model = copy.deepcopy(original)
    mask = saliency_mask(model, split.forget, task, density=0.5)
    callback = MaskCallback(mask, split, task)
    settings = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=4,
        learning_rate=1e-3,
        weight_decay=0.1,
        per_device_train_batch_size=32,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, settings, train_dataset=rows(split))
    callback.attach(trainer)
    trainer.train()

    before = original.state_dict()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter[~mask[name]], before[name][~mask[name]]), "a masked element has moved"
    for row in callback.history:
        print(row)
    print("before:", audit(original, split, task))
    print("after: ", audit(model, split, task))


if __name__ == "__main__":
    main()
