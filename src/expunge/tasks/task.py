"""The contract between a model and the methods, measures and audits that work on it.

A task says how to take a model's loss, and which further capabilities the model offers. A method or measure declares what
it needs (`needs`). Compatibility follows from the two sets, never from a task's name.

Write a task of your own as a subclass of `Task`: set `name`, write `loss`, and list each further capability in `offers`
together with its methods. `examples/multi_label.py` and `examples/regression.py` are complete tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ..data.batch import Batch, Inputs
from ..data.samples import Samples
from ..errors import ModelError, raise_all
from ..own_code import remember_source
from ..torch_utils.module_state import device_of, evaluating
from .input_checks import input_problems
from .model_checks import parameter_problems
from .predictions import SampleScores
from .task_checks import confidence_of, output_problems, score_problems

Capability = Literal[
    "loss", "relabel", "other_labels", "classes", "scores", "logits", "features", "head", "noise"
]

# capability -> (members that a task which offers it must define, what they are)
CAPABILITIES: dict[str, tuple[tuple[str, ...], str]] = {
    "loss": (("loss",), "a loss for each sample"),
    "relabel": (("relabel_loss",), "the loss under labels that are given"),
    "other_labels": (("other_labels",), "wrong labels for given samples"),
    "classes": (("num_classes",), "labels that are classes or conditions, numbered from 0"),
    "scores": (("sample_scores",), "a score from 0 to 1 for each sample, whose mean is an accuracy"),
    "logits": (("logits", "predict"), "logits of classes that exclude each other"),
    "features": (("with_features",), "the features that enter the last linear layer"),
    "head": (("head", "open_head"), "a last linear layer that produces the logits"),
    "noise": (
        ("add_noise", "add_random_noise", "predict", "error", "images", "null"),
        "noise prediction of a diffusion model",
    ),
}


# members that are data, which a class may also set in its constructor
_DATA = ("num_classes",)


class Task(ABC):
    """A kind of model: its loss, its capabilities, and the scores it is judged by.

    Only `name` and `loss` are required. A subclass that lists a capability in `offers` must define the members of that
    capability (see `CAPABILITIES`); otherwise the class statement raises `TypeError` and names what is missing.

    Attributes:
        name: Short text for records and messages. Nothing compares it.
        offers: Capabilities beyond "loss", for example `("relabel", "other_labels", "scores")`.
        num_classes: Number of classes or conditions; 0 for a task without classes.
        joint: Whether `loss(model, b)` equals `relabel_loss(model, b, b.y)`, so that forget and retain samples may share
            one forward pass.

    Example:
        >>> class Regression(Task):
        ...     name = "regression"
        ...
        ...     def loss(self, model, batch):
        ...         return (model(batch.x)[:, 0] - batch.y).square()
    """

    name: str
    offers: ClassVar[tuple[Capability, ...]] = ()
    num_classes: int = 0
    joint: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        remember_source(cls)
        if unknown := sorted(set(cls.offers) - set(get_args(Capability))):
            raise TypeError(
                f"{cls.__name__}.offers names unknown capabilities {unknown}; known: {', '.join(get_args(Capability))}."
            )
        missing = [
            f"{capability} needs {member}"
            for capability in cls.offers
            for member in CAPABILITIES[capability][0]
            if member not in _DATA and getattr(cls, member, None) is getattr(Task, member, None)
        ]
        if missing:
            raise TypeError(
                f"{cls.__name__} offers capabilities that it does not define: {'; '.join(missing)}."
            )

    # ---- required

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of each sample, shape (B,)."""

    # ---- "relabel", "other_labels": random labels, relabelling methods, SalUn

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Return the loss (B,) that moves the model to behave on `batch` as if its labels were `y` (B, ...)."""
        raise NotImplementedError

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return wrong labels for samples with the labels `y` (B, ...), drawn from a CPU generator; same shape, device, dtype."""
        raise NotImplementedError

    # ---- "scores": curves, stop rules, tuning, audit and report

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return how right the model is on each sample (B,), from 0 (wrong) to 1 (right); NaN where its outputs are.

        A task that does not offer "scores" may return any score for which higher is better; it only makes curves. The default is
        minus the loss.
        """
        return -self.loss(model, batch)

    def evaluate(
        self, model: nn.Module, samples: Samples, *, features: bool = False, batch_size: int = 256
    ) -> SampleScores:
        """Evaluate the model on all samples in one pass, in eval mode and without augmentation.

        The default takes `correct` from `sample_scores` and `confidence` as exp(-loss), which is the probability of the
        true label where the loss is a negative log-likelihood. `features` asks for penultimate features where the task offers them.

        Raises:
            ModelError: The task does not offer "scores", a score is outside 0 to 1, or a loss is negative.
        """
        require(self, ["scores"], "an audit")
        correct, confidence = [torch.empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.float64)]
        with evaluating(model), torch.inference_mode():
            for batch in samples.batches(batch_size, device=device_of(model)):
                scores = self.sample_scores(model, batch)
                raise_all(score_problems(self, scores, len(batch)), ModelError)
                correct.append(scores.double().cpu())
                confidence.append(confidence_of(self, self.loss(model, batch)))
        return SampleScores(torch.cat(correct), torch.cat(confidence), samples.labels)

    # ---- "logits", "features", "head": classifiers

    def logits(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return logits (B, K) of K classes that exclude each other."""
        raise NotImplementedError

    def predict(self, model: nn.Module, *inputs: Any, **options: Any) -> Any:
        """Return the model's predictions; a classifier's on `Samples`, a diffusion model's on noisy inputs."""
        raise NotImplementedError

    def with_features(self, model: nn.Module, x: Inputs) -> tuple[Tensor, Tensor]:
        """Return the features (B, D) that enter the head, and the logits (B, K), from one forward pass."""
        raise NotImplementedError

    def head(self, model: nn.Module) -> tuple[str, nn.Linear]:
        """Return name and module of the last linear layer, which produces the logits. Raises `ModelError` without one."""
        raise NotImplementedError

    def with_head(self, model: nn.Module, samples: Samples) -> Task:
        """Return the task with the head that a forward pass on `samples` shows. The default is the task itself."""
        return self

    def open_head(self, model: nn.Module, *parts: str, frozen: bool = False) -> tuple[str, nn.Linear]:
        """Return `head` after checking that its `parts` ("weight", "bias") can be edited. Raises `ModelError` otherwise."""
        raise NotImplementedError

    def has_head(self, model: nn.Module, samples: Samples | None = None) -> bool:
        """Return whether `model` has a head with one feature vector a sample; False for tasks without "head"."""
        return False

    # ---- checks

    def check(self, model: nn.Module, samples: Samples) -> None:
        """Raise `ModelError` with every reason why `model` cannot serve these samples (a split's retain set).

        The default checks the parameters and takes loss and scores of two samples. Extend it in a subclass, or replace it.
        """
        problems = parameter_problems(model) + input_problems(samples)
        if not problems:
            few = samples.take(torch.arange(min(2, len(samples))))
            batch = next(few.batches(2, device=device_of(model)))
            with evaluating(model), torch.no_grad():
                own_confidence = type(self).evaluate is not Task.evaluate
                problems = output_problems(self, model, batch, own_confidence=own_confidence)
        raise_all(problems, ModelError)


def missing_capabilities(task: Task | type[Task], needs: Iterable[str]) -> list[str]:
    """Return the capabilities in `needs` that the task (or its class) does not offer, in the order given."""
    return [n for n in needs if n != "loss" and n not in task.offers]


def missing_text(user: str, task_name: str, task_class: str, missing: Iterable[str]) -> str:
    """Return the sentence for something called `user` that needs capabilities which a task does not offer."""
    pieces = "; ".join(f"{n} ({CAPABILITIES[n][1]}, {', '.join(CAPABILITIES[n][0])})" for n in missing)
    return (
        f"{user} needs what the task '{task_name}' does not offer: {pieces}. Choose another method, or define this in "
        f"{task_class} and list it in `offers`."
    )


def require(task: Task, needs: Iterable[str], user: str) -> None:
    """Raise `ModelError` that names every capability in `needs` which the task does not offer."""
    if missing := missing_capabilities(task, needs):
        raise ModelError(missing_text(user, task.name, type(task).__name__, missing))
