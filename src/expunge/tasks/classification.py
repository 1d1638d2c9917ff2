"""Classifiers of images, text or anything with labels: cross-entropy on hard or soft labels, and one pass for all scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import Batch, Inputs, to_device
from ..data.samples import Samples
from ..errors import ExpungeError, ModelError, raise_all
from ..torch_utils.memory_format import laid_out
from ..torch_utils.module_state import device_of, evaluating
from .task import Task, parameter_problems


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier predicts for some samples: an `SampleScores` with logits.

    Args:
        logits: Logits (N, K), float32 on the CPU.
        labels: Class numbers (N,).
        features: Penultimate features (N, D), float32 on the CPU, or None.
    """

    logits: Tensor
    labels: Tensor
    features: Tensor | None = None

    @cached_property
    def probabilities(self) -> Tensor:
        """Softmax (N, K), in float64: confidences near 1 keep their order."""
        return self.logits.double().softmax(1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the true class (N,)."""
        return self.probabilities.gather(1, self.labels[:, None])[:, 0]

    @property
    def shares(self) -> Tensor:
        """Share of the samples that the model takes for each class (K,)."""
        return torch.bincount(self.logits.argmax(1), minlength=self.logits.shape[1]).double() / len(
            self.logits
        )

    @property
    def correct(self) -> Tensor:
        """Whether the most likely class is the true one (N,), bool."""
        return self.logits.argmax(1) == self.labels

    @property
    def finite(self) -> bool:
        """Whether all logits are finite."""
        return bool(self.logits.isfinite().all())

    @property
    def accuracy(self) -> float:
        """Percent correct; NaN for no samples."""
        return 100 * self.correct.double().mean().item()


@dataclass(frozen=True)
class Classification(Task):
    """The task of a classifier of images, text or anything else with one class a sample.

    `model(x)`, or `model(**x)` for inputs by name, returns logits (B, K) as a tensor or as an object with `.logits`. The loss is
    cross-entropy, as in every method's paper.

    Args:
        num_classes: Number of classes K, at least 2.

    Example:
        >>> task = Classification(num_classes=10)
    """

    num_classes: int
    name = "classification"
    offers = ("relabel", "other_labels", "classes", "scores", "logits", "features", "head")
    joint = True

    def logits(self, model: nn.Module, x: Inputs) -> Tensor:
        """Logits (B, K)."""
        out = model(**x) if isinstance(x, dict) else model(laid_out(model, x))
        return out if isinstance(out, Tensor) else out.logits

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy with the true labels (B,)."""
        return F.cross_entropy(self.logits(model, batch.x), batch.y, reduction="none")

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Cross-entropy (B,) with other labels: class numbers (B,) or distributions (B, K)."""
        return F.cross_entropy(self.logits(model, batch.x), y, reduction="none")

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return classes (B,) other than `y`, uniform over the rest.

        Raises:
            ExpungeError: The task has one class, so no other label exists.
        """
        if self.num_classes < 2:
            raise ExpungeError(
                f"there are {self.num_classes} classes, so no label is another's; use a method without random labels."
            )
        shift = torch.randint(1, self.num_classes, y.shape, generator=generator)
        return (y + to_device(shift, y.device)) % self.num_classes

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return 1 for each sample classified right, else 0 (B,); NaN where the logits are."""
        logits = self.logits(model, batch.x)
        return (logits.argmax(1) == batch.y).float() + 0 * logits.sum(1)

    def head(self, model: nn.Module) -> tuple[str, nn.Linear]:
        """Name and module of the last linear layer with `num_classes` outputs. Raises `ModelError` if there is none."""
        found = [
            (n, m)
            for n, m in model.named_modules()
            if isinstance(m, nn.Linear) and m.out_features == self.num_classes
        ]
        if not found:
            raise ModelError(
                f"the model has no linear layer with {self.num_classes} outputs, so there is no head to mask and no "
                "features before it; use a method that needs neither, or end the model with nn.Linear."
            )
        return found[-1]

    def open_head(self, model: nn.Module, *parts: str, frozen: bool = False) -> tuple[str, nn.Linear]:
        """`head`, whose `parts` ("weight", "bias") are to be written to. Raises `ModelError` where one is missing, is computed
        from other weights, or, unless `frozen`, does not train."""
        name, head = self.head(model)
        own, problems = dict(head.named_parameters(recurse=False)), []
        for part in parts:
            if getattr(head, part) is None:
                problems.append(
                    f"the head '{name}' has no {part} to edit; use a method that does not edit it."
                )
            elif part not in own:
                problems.append(
                    f"the {part} of the head '{name}' is computed from other weights (weight_norm, spectral_norm), so an edit "
                    "of it would be lost; remove the parametrization first (torch.nn.utils.parametrize)."
                )
            elif not (frozen or own[part].requires_grad):
                problems.append(
                    f"the {part} of the head '{name}' is frozen and would be edited; call requires_grad_(True) on it."
                )
        raise_all(problems, ModelError)
        return name, head

    def has_head(self, model: nn.Module, samples: Samples | None = None) -> bool:
        """Whether `head` finds one, and with `samples` also whether it takes one vector of each; without it there are no
        penultimate features to look at."""
        try:
            width = self.head(model)[1].in_features
            if samples is None or not len(samples):
                return True
            few = samples.take(torch.arange(min(2, len(samples))))
            with evaluating(model), torch.inference_mode():
                found, _ = self.with_features(model, next(few.batches(2, device=device_of(model))).x)
        except (ModelError, IndexError):  # the latter where the head is not called
            return False
        return found.shape == (len(few), width)

    def with_features(self, model: nn.Module, x: Inputs) -> tuple[Tensor, Tensor]:
        """What enters the head (B, D), and the logits (B, K), from one forward pass."""
        caught: list[Tensor] = []
        hook = self.head(model)[1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            logits = self.logits(model, x)
        finally:
            hook.remove()
        return caught[-1].flatten(1), logits

    def evaluate(  # type: ignore[override]
        self, model: nn.Module, samples: Samples, *, features: bool = False, batch_size: int = 256
    ) -> Predictions:
        """Return `predict`: a classifier is evaluated by its logits."""
        return self.predict(model, samples, features=features, batch_size=batch_size)

    def predict(  # type: ignore[override]
        self, model: nn.Module, samples: Samples, *, features: bool = False, batch_size: int = 256
    ) -> Predictions:
        """Return logits (and features) of all samples, without augmentation, from one pass where the model is."""
        logits = [torch.empty(0, self.num_classes)]
        feats = [torch.empty(0, self.head(model)[1].in_features)] if features else []
        device = device_of(model)
        with evaluating(model), torch.inference_mode():
            for batch in samples.batches(batch_size, device=device):
                if features:
                    feature, out = self.with_features(model, batch.x)
                    feats.append(feature.float().to("cpu", non_blocking=True))
                else:
                    out = self.logits(model, batch.x)
                logits.append(out.float().to("cpu", non_blocking=True))
        if device.type != "cpu":
            # the copies went on while later batches ran: they are there once the device is done
            torch.accelerator.synchronize(device)
        return Predictions(torch.cat(logits), samples.labels, torch.cat(feats) if features else None)

    def check(self, model: nn.Module, samples: Samples) -> None:
        """Raise `ModelError` with every reason why the model cannot be unlearned, or audited, on these samples."""
        problems = parameter_problems(model)
        parameters = dict(model.named_parameters())
        if self.num_classes < 2:
            problems.append(
                f"the task has {self.num_classes} classes; a classifier needs 2 or more (of one output, give it two)."
            )
        labels = samples.data.labels
        if not samples.data.has_classes:
            problems.append(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give one whole number per sample, its class, shape (N,)."
            )
            raise_all(problems, ModelError)
        highest = int(labels.max())
        if highest >= self.num_classes:
            problems.append(
                f"labels run up to {highest}, the task has {self.num_classes} classes; set num_classes to match the model."
            )
        if where := {p.device for p in parameters.values()} - {device_of(model)}:
            problems.append(
                f"parameters are on {device_of(model)} and on {sorted(map(str, where))}; move the model to one device."
            )
        else:
            problems += self._forward_problems(model, samples)
        raise_all(problems, ModelError)

    def _forward_problems(self, model: nn.Module, samples: Samples) -> list[str]:
        few = samples.take(torch.arange(min(2, len(samples))))
        batch: Any = next(few.batches(2, device=device_of(model)))
        several = isinstance(batch.x, dict)
        shape = {k: tuple(v.shape) for k, v in batch.x.items()} if several else tuple(batch.x.shape)
        try:
            with evaluating(model), torch.inference_mode():
                logits = self.logits(model, batch.x)
        except Exception as error:  # whatever a user's model raises is the message
            problem = f"the model fails on a batch of shape {shape}: {type(error).__name__}: {error}"
            weight = next(model.parameters()).dtype
            differ = isinstance(batch.x, Tensor) and batch.x.dtype != weight
            # whole numbers may be tokens
            if differ and (batch.x.is_floating_point() or "type" in str(error)):
                problem += f"; the inputs are {batch.x.dtype}, the weights {weight}: make them alike."
            return [problem]
        expected = (len(batch), self.num_classes)
        if logits.shape != expected:
            return [
                f"the model gives outputs of shape {tuple(logits.shape)} for a batch of {len(batch)}; expected {expected}."
            ]
        if not logits.isfinite().all():
            return [
                "the model's outputs on the retain set are not finite; check the inputs' scale and the checkpoint."
            ]
        return []
