"""The task of classifiers of images, text or anything else with labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import Batch, Inputs, to_device
from ..data.class_labels import begins_at_one, class_label_problems
from ..data.samples import Samples
from ..errors import ExpungeError, ModelError, raise_all
from ..torch_utils.compiled import uncompiled
from ..torch_utils.memory_format import to_channels_last
from ..torch_utils.module_state import device_of, evaluating
from .class_order import class_order_problems
from .forward_check import forward_problems
from .head import candidates, check_takes_part, named_head, only_head, traced_head
from .input_checks import input_problems
from .model_checks import lacks_values, parameter_problems, warn_of_several_labels
from .outputs import logits_in
from .predictions import Predictions
from .task import Task


@dataclass(frozen=True)
class Classification(Task):
    """The task of a classifier with one class per sample.

    `model(x)`, or `model(**x)` for inputs by name, returns logits (B, K): a tensor, an object with `.logits`, or a dict or tuple with
    one tensor of this shape. The loss is cross-entropy, as in the papers of all methods.

    Args:
        num_classes: Number of classes K, at least 2.
        head_name: Name of the last linear layer, as in `model.named_modules()`. Empty: the layer whose output is the logits
            in a forward pass.

    Example:
        >>> task = Classification(num_classes=10)
    """

    num_classes: int
    head_name: str = ""
    name = "classification"
    offers = ("relabel", "other_labels", "classes", "scores", "logits", "features", "head")
    joint = True

    def logits(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the logits (B, K).

        Raises:
            ExpungeError: `x` is a whole `Batch`.
        """
        if isinstance(x, Batch):
            raise ExpungeError("logits takes inputs, and this is a whole Batch; pass its inputs, batch.x.")
        out = model(**x) if isinstance(x, dict) else model(to_channels_last(model, x))
        return out if isinstance(out, Tensor) else logits_in(out, self.num_classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy (B,) with the labels of the batch."""
        return F.cross_entropy(self.logits(model, batch.x), batch.y, reduction="none")

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Return the cross-entropy (B,) with other labels: class numbers (B,) or distributions (B, K)."""
        return F.cross_entropy(self.logits(model, batch.x), y, reduction="none")

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return classes (B,) other than `y`, uniform over the rest.

        Raises:
            ExpungeError: The task has one class, so no other label exists.
        """
        if self.num_classes < 2:
            raise ExpungeError(
                f"the task has {self.num_classes} classes, so there is no other label; use a method without random labels."
            )
        shift = torch.randint(1, self.num_classes, y.shape, generator=generator)
        return (y + to_device(shift, y.device)) % self.num_classes

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return 1 for each sample classified correctly, else 0 (B,); NaN where the logits are NaN."""
        logits = self.logits(model, batch.x)
        return (logits.argmax(1) == batch.y).float() + 0 * logits.sum(1)

    def head(self, model: nn.Module) -> tuple[str, nn.Linear]:
        """Return the name and the module of the linear layer that produces the logits.

        It is the layer `head_name`, or the one that `with_head` saw, or the only linear layer with `num_classes` outputs.

        Raises:
            ModelError: The model has no such layer, or several. Lists the candidates.
        """
        name = self.head_name or vars(self).get("_traced_head", "")
        if self.head_name or (name and isinstance(dict(model.named_modules()).get(name), nn.Linear)):
            return named_head(model, self.num_classes, name)
        return only_head(model, self.num_classes)

    def with_head(self, model: nn.Module, samples: Samples) -> Classification:
        """Return this task with the head found by a forward pass of `model` on eight of the `samples`.

        A subclass with its own `head` finds it itself.

        Raises:
            ModelError: No single linear layer produces the logits, or `head_name` takes no part in them. Lists the candidates.
        """
        if not len(samples) or type(self).head is not Classification.head:
            return self
        batch = next(samples.take(torch.arange(min(8, len(samples)))).batches(8, device=device_of(model)))

        def logits() -> Tensor:
            return self.logits(model, batch.x)

        with evaluating(model), torch.no_grad():
            if self.head_name:
                check_takes_part(*named_head(model, self.num_classes, self.head_name), logits)
                return self
            name = traced_head(model, self.num_classes, logits)
        task = copy.copy(self)
        # not a field: the layer that was found is no setting of the task
        object.__setattr__(task, "_traced_head", name)
        return task

    def open_head(self, model: nn.Module, *parts: str, frozen: bool = False) -> tuple[str, nn.Linear]:
        """Return `head` after a check that its parts can be edited.

        Args:
            model: The model.
            *parts: The parameters of the head to edit: "weight", "bias".
            frozen: Whether a part may be frozen (`requires_grad` is False).

        Raises:
            ModelError: A part is missing, is computed from other parameters, or is frozen. Lists every problem.
        """
        name, head = self.head(model)
        parameters, problems = dict(head.named_parameters(recurse=False)), []
        for part in parts:
            if getattr(head, part) is None:
                problems.append(
                    f"the head '{name}' has no {part} to edit; use a method that does not edit it."
                )
            elif part not in parameters:
                problems.append(
                    f"the {part} of the head '{name}' is computed from other parameters (weight_norm, spectral_norm), so an edit "
                    "of it would be lost; remove the parametrization first (torch.nn.utils.parametrize)."
                )
            elif not (frozen or parameters[part].requires_grad):
                problems.append(
                    f"the {part} of the head '{name}' is frozen, and the method edits it; call requires_grad_(True) on it."
                )
        raise_all(problems, ModelError)
        return name, head

    def has_head(self, model: nn.Module, samples: Samples | None = None) -> bool:
        """Whether the model has a head, and with it penultimate features.

        Args:
            model: The model.
            samples: If given, also check that one vector of each sample enters the head.
        """
        try:
            if samples is None or not len(samples):
                return bool(candidates(model, self.num_classes))
            task = self.with_head(model, samples)
            width = task.head(model)[1].in_features
            few = samples.take(torch.arange(min(2, len(samples))))
            with evaluating(model), torch.inference_mode():
                features, _ = task.with_features(model, next(few.batches(2, device=device_of(model))).x)
        except (ModelError, IndexError):
            # IndexError: the model does not call its head
            return False
        return features.shape == (len(few), width)

    def with_features(self, model: nn.Module, x: Inputs) -> tuple[Tensor, Tensor]:
        """Return the inputs of the head (B, D) and the logits (B, K) from one forward pass."""
        head_inputs: list[Tensor] = []
        head = self.head(model)[1]
        with head.register_forward_pre_hook(lambda _, inputs: head_inputs.append(inputs[0])), uncompiled():
            logits = self.logits(model, x)
        return head_inputs[-1].flatten(1), logits

    def evaluate(  # type: ignore[override]
        self, model: nn.Module, samples: Samples, *, features: bool = False, batch_size: int = 256
    ) -> Predictions:
        """Return the result of `predict`: a classifier is evaluated by its logits."""
        return self.predict(model, samples, features=features, batch_size=batch_size)

    def predict(  # type: ignore[override]
        self, model: nn.Module, samples: Samples, *, features: bool = False, batch_size: int = 256
    ) -> Predictions:
        """Compute the logits of all samples in one pass without augmentation, on the device of the model.

        Args:
            model: The model.
            samples: The samples (N).
            features: Also return the penultimate features.
            batch_size: Number of samples per batch.

        Example:
            >>> Classification(10).predict(model, split.test).accuracy  # doctest: +SKIP
        """
        logits = [torch.empty(0, self.num_classes)]
        task = self.with_head(model, samples) if features else self
        feature_parts = [torch.empty(0, task.head(model)[1].in_features)] if features else []
        device = device_of(model)
        with evaluating(model), torch.inference_mode():
            for batch in samples.batches(batch_size, device=device):
                if features:
                    feature, out = task.with_features(model, batch.x)
                    feature_parts.append(feature.float().to("cpu", non_blocking=True))
                else:
                    out = self.logits(model, batch.x)
                logits.append(out.float().to("cpu", non_blocking=True))
        if device.type != "cpu":
            # the copies run while later batches are computed; they are complete once the device is done
            torch.accelerator.synchronize(device)
        return Predictions(torch.cat(logits), samples.labels, torch.cat(feature_parts) if features else None)

    def check(self, model: nn.Module, samples: Samples) -> None:
        """Check that the model can be unlearned and audited on these samples.

        Raises:
            ModelError: Lists every problem of parameters, labels, devices and outputs.
        """
        problems = parameter_problems(model) + input_problems(samples)
        parameters = dict(model.named_parameters())
        if self.num_classes < 2:
            text = f"the task has {self.num_classes} classes; a classifier needs at least 2 (replace one output by two)."
            problems.append(text)
        warn_of_several_labels(model)
        problems += class_order_problems(model, samples.data.classes)
        # the cause of what follows comes first
        if not samples.data.has_classes:
            raise_all(class_label_problems(samples.data) + problems, ModelError)
        highest = int(samples.data.labels.max())
        if highest >= self.num_classes:
            problems.append(
                f"labels go up to {highest}, but the task has {self.num_classes} classes; set num_classes to match the model."
            )
        if other_devices := {p.device for p in parameters.values()} - {device_of(model)}:
            problems.append(
                f"parameters are on {device_of(model)} and on {sorted(map(str, other_devices))}; move the model to one device."
            )
        elif not lacks_values(model):
            problems += forward_problems(self.logits, self.num_classes, model, samples)
        cause = begins_at_one(samples.data) if problems else ""
        raise_all([cause, *problems] if cause else problems, ModelError)
