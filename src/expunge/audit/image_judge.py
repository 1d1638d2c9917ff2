"""The judge: a classifier of real images that tells what a generated image shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..tasks.predictions import Predictions
from ..torch_utils.random_state import torch_seeded
from ..training.execute import execute


@dataclass(frozen=True, eq=False)
class Judge:
    """Hold a classifier of real images.

    Args:
        model: The classifier.
        task: Its task, with the number of classes.
        accuracy: Accuracy on real test images, in percent. It tells how far the judge can be trusted.
        name: Name of the judge.

    Example:
        >>> judge = Judge(my_classifier, Classification(num_classes=10), accuracy=93.1)
    """

    model: nn.Module
    task: Classification
    accuracy: float
    name: str = "judge"

    def predict(self, images: Tensor, labels: Tensor, batch_size: int = 512) -> Predictions:
        """Classify images.

        Args:
            images: Images (N, C, H, W) in [0, 1].
            labels: The class (N,) that each image should show.
            batch_size: Number of images in one forward pass.

        Returns:
            Logits and features of the images, with the labels.
        """
        samples = TensorData(images, labels).samples()
        return self.task.predict(self.model, samples, features=True, batch_size=batch_size)


def train_judge(
    split: Split,
    factory: Callable[[], nn.Module],
    recipe: Retrain,
    *,
    seed: int = 0,
    least: float = 80.0,
    **options: Any,
) -> Judge:
    """Train a judge on forget and retain set together, and test it on all test samples.

    Args:
        split: A split of real images.
        factory: Makes the classifier.
        recipe: The training recipe.
        seed: Seed of the parameters and of training.
        least: Lowest accuracy on real test images that is accepted, in percent.
        **options: Options of `execute`, such as `compute` and `state_file`.

    Returns:
        The judge.

    Raises:
        ExpungeError: If the judge's accuracy is below `least`.

    Example:
        >>> judge = train_judge(split, lambda: build("cnn", num_classes=10, shape=(1, 8, 8)), recipe)
    """
    task = Classification(split.num_classes)
    with torch_seeded(seed):
        model = factory()
    run = execute(model, split.for_original, recipe, task, seed=seed, factory=lambda: model, **options)
    tests = [s for s in (split.test, split.test_forgotten) if len(s)]
    correct = torch.cat([task.predict(run.model, s).correct for s in tests])
    accuracy = 100 * correct.double().mean().item()
    if accuracy < least:
        raise ExpungeError(
            f"the judge recognises {accuracy:.1f} % of real test images; below {least:g} % it cannot tell whether a class "
            "was forgotten: train it longer, or give a better judge."
        )
    return Judge(run.model.requires_grad_(False), task, accuracy)
