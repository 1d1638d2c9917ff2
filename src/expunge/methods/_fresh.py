"""Check that a factory makes models with fresh parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExpungeError, ModelError
from ..torch_utils.module_state import equal_names, seeded, varies
from ..training.run import Run

RETURN_NEW = "return a newly made model at each call, whose parameters have not seen the forget set."
# a user's factory that loads a checkpoint, and folders with parameters
NOT_LOADED = (
    "make the parameters from torch's random state and load no checkpoint in the factory; for hf-weights:DIR and peft:DIR, name a "
    "folder whose parameters have not seen the forget set, or use hf-config:DIR (docs/data.md, Models of your own)."
)
SAME_FOR_EACH_SEED = (
    "returns the same parameters for each seed. If they were trained on the forget set, the reference is no model that never saw it. "
    "Make fresh parameters from torch's random state."
)


def from_factory(run: Run) -> nn.Module:
    """Return a model from `run.factory`, which must fit the run's model and must not be a trained one.

    For a run that answers a request, the factory is called again with other seeds. Random states stay as after one call.

    Raises:
        ModelError: The factory fails, returns another architecture, the model that was passed in, its parameters or those of its
            head whatever the seed, or the same model twice.
    """
    model = _made(run.factory)
    expected, given = _shapes(run.model), _shapes(model)
    if given != expected:
        different = sorted(k for k in {*expected, *given} if expected.get(k) != given.get(k))
        raise ModelError(
            f"factory returned a model of another architecture: {len(different)} tensors differ (first: {different[:3]}); return "
            "the architecture of the model that is passed in."
        )
    if run.split.answers_request and not isinstance(run.factory, GoOnFrom):
        _check_fresh(model, run)
    return model


@dataclass(frozen=True, eq=False)
class GoOnFrom:
    """A factory by which training goes on from the parameters of a model: an original, or a shard of an ensemble."""

    model: nn.Module

    def __call__(self) -> nn.Module:
        return self.model


def same_for_each_seed(factory: Any, model: nn.Module, seed: int) -> str:
    """Return a sentence if a factory makes the parameters of `model` with another seed too. Empty if it does not.

    Args:
        factory: The factory.
        model: A model that it made.
        seed: The seed of that model.

    Raises:
        ModelError: The factory returns the same model twice.
    """
    return _note_of_seed(model, _other_model(factory, model, seed, 1), _movable_names(model))


def _check_fresh(model: nn.Module, run: Run) -> None:
    """Refuse parameters that are those of a trained model whatever the seed. Frozen ones and constants say nothing."""
    trainable = _movable_names(run.model)
    second = _other_model(run.factory, model, run.seed, 1)
    if run.source is None:
        return
    if _share_memory(model, run.source):
        raise ModelError(f"factory returned the model that was passed in; {RETURN_NEW}")
    for whose, trained in _trained_models(run):
        loaded = _loaded_names(model, second, trained, trainable)
        if loaded:
            # an untrained model may have been made with one of the two seeds
            third = _named(_other_model(run.factory, model, run.seed, 2))
            loaded = equal_names({n: third[n] for n in loaded}, trained)
        if loaded:
            _refuse_loaded(loaded, _varying(model, trainable), whose, run)
            return
    if note := _note_of_seed(model, second, trainable):
        run.note(note)


def _refuse_loaded(loaded: list[str], all_names: list[str], whose: str, run: Run) -> None:
    """Refuse if all parameters or the head are those of the trained model. A body alone may be a pretrained one: warn of it."""
    equal = f"{len(loaded)} of {len(all_names)} trainable tensors are equal whatever the seed (first: {loaded[:3]})"
    whole = len(loaded) == len(all_names)
    if whole or _head_names(run) & set(loaded):
        raise ModelError(
            f"factory returned a model with {'exactly the parameters' if whole else 'the head'} of {whose}: {equal}, so they were "
            f"trained on the forget set; {NOT_LOADED}"
        )
    run.note(
        f"factory returned a model with parameters of {whose}: {equal}. A pretrained body that the training left as it was may be "
        "equal. If the tensors were trained on the forget set, the result is no model that never saw it: load no checkpoint in the "
        "factory."
    )


def _trained_models(run: Run) -> Iterable[tuple[str, Mapping[str, Tensor]]]:
    """Parameters that were trained on the forget set: of the model passed in, and of the original that the factory knows."""
    assert run.source is not None
    yield "the model that was passed in", _named(run.source)
    known: Callable[[], Mapping[str, Tensor] | None] | None = getattr(run.factory, "trained", None)
    if known is None:
        return
    with seeded(run.seed, run.device):
        original = known()
    if original is not None:
        yield "the original", original


def _loaded_names(
    model: nn.Module, second: nn.Module, trained: Mapping[str, Tensor], trainable: set[str]
) -> list[str]:
    same = set(equal_names(_named(model), trained)) & set(equal_names(_named(model), _named(second)))
    return [n for n in _varying(model, trainable) if n in same]


def _note_of_seed(model: nn.Module, second: nn.Module, trainable: set[str]) -> str:
    names = _varying(model, trainable)
    same = set(equal_names(_named(model), _named(second)))
    return f"the factory {SAME_FOR_EACH_SEED}" if names and same.issuperset(names) else ""


def _head_names(run: Run) -> set[str]:
    """The parameters of the head. Empty if the model has none that is known."""
    if "head" not in run.task.offers:
        return set()
    try:
        name, head = run.task.with_head(run.model, run.split.forget).head(run.model)
    except ExpungeError:
        return set()
    return {f"{name}.{own}" for own, _ in head.named_parameters()}


def _other_model(factory: Any, model: nn.Module, seed: int, step: int) -> nn.Module:
    """Make a model with another seed, without moving random states. Raises `ModelError` if it is `model` again."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    seed = (getattr(factory, "seed", seed) + step) % 2**63
    with seeded(seed, device):
        other = _made(factory.with_seed(seed) if hasattr(factory, "with_seed") else factory)
    if _share_memory(model, other):
        raise ModelError(f"factory returned the same model twice, which may be trained already; {RETURN_NEW}")
    return other


def _made(factory: Any) -> nn.Module:
    try:
        model = factory()
    except Exception as error:
        raise ModelError(
            f"factory failed: {type(error).__name__}: {error}; pass a function without arguments that returns an nn.Module."
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"factory returned {type(model).__name__}; pass a function without arguments that returns an nn.Module."
        )
    return model


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _share_memory(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models share a parameter that training moves."""
    places = {p.data_ptr() for p in _movable(one)} - {0}
    return any(p.data_ptr() in places for p in _movable(other))


def _movable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _movable_names(model: nn.Module) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def _named(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def _varying(model: nn.Module, trainable: set[str]) -> list[str]:
    """The trainable parameters that are no constants such as the 0 of a bias or the 1 of a norm."""
    return [n for n, p in model.named_parameters() if n in trainable and varies(p)]
