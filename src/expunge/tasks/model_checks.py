"""Check that a model has parameters that can be evaluated and trained, before anything is done with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError
from ..torch_utils.finite import all_finite
from ..torch_utils.shared_memory import shared_memory

# names that a message shows
SHOWN = 3
# packages of modules whose parameters are stored as whole numbers, outside of `parameters()`
QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def no_parameters(model: nn.Module) -> str:
    """Return the sentence on a model without parameters."""
    if quantized := _quantized(model):
        return _quantized_text(quantized)
    return "the model has no parameters; give a trained nn.Module."


def parameter_problems(model: nn.Module) -> list[str]:
    """Return what is wrong with the values of a model's parameters, one sentence each.

    Raises:
        ModelError: The model has no parameters.
    """
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ModelError(no_parameters(model))
    problems = _named(parameters, is_lazy, "have no shape yet", "run a batch through the model first")
    # a lazy parameter has no other property
    known = {n: p for n, p in parameters.items() if not is_lazy(p)}
    tensors = {**known, **{n: b for n, b in model.named_buffers() if not is_lazy(b)}}
    problems += _named(
        tensors,
        lambda t: t.device.type == "meta",
        "are on the meta device and have no values",
        "load a checkpoint into the model (load_state_dict with assign=True)",
        "parameters and buffers",
    )
    problems += _shared_problems(model)
    if not any(p.requires_grad for p in parameters.values()):
        problems.append(
            "no parameter requires a gradient, so nothing can be unlearned; call model.requires_grad_(True)."
        )
    broken = [
        n
        for n, p in known.items()
        if p.is_floating_point()
        and p.layout == torch.strided
        and p.device.type != "meta"
        and not all_finite(p)
    ]
    if broken:
        problems.append(
            f"{len(broken)} parameters hold NaN or infinity (first: {broken[:SHOWN]}); load a sound checkpoint."
        )
    return problems


def _shared_problems(model: nn.Module) -> list[str]:
    """A copy of the model unties such tensors, so that the trained copy and its file are another model."""
    repeated = [
        n
        for n, p in model.named_parameters()
        if not is_lazy(p)
        and p.layout == torch.strided
        and any(size > 1 and not step for size, step in zip(p.shape, p.stride(), strict=True))
    ]
    problems = (
        [
            f"{len(repeated)} parameters repeat values in one memory, as expand makes them (first: {repeated[:SHOWN]}); store one "
            "value as the parameter and expand it in the forward pass, or give each its own (clone)."
        ]
        if repeated
        else []
    )
    if pairs := shared_memory(model):
        listed = ", ".join(f"'{one}' with '{other}'" for one, other in pairs[:SHOWN])
        problems.append(
            f"{len(pairs)} pairs of tensors share memory without being one Parameter (first: {listed}). A copy of the model and its "
            "checkpoint have them as two tensors, so that the result would be another model. Tie them by the Parameter itself "
            "(decoder.weight = encoder.weight, a transposed one in the forward pass), or give each its own memory "
            "(decoder.weight.data = decoder.weight.data.clone())."
        )
    return problems


def warn_of_several_labels(model: nn.Module) -> None:
    """Warn that the configuration of a model of transformers says that a sample may have several labels."""
    if getattr(getattr(model, "config", None), "problem_type", None) == "multi_label_classification":
        warnings.warn(
            "config.json has problem_type 'multi_label_classification', so each output was trained by itself, and this task applies one "
            "softmax over all classes; use a task of your own (examples/multi_label.py), unless each sample has one class.",
            RuntimeWarning,
            stacklevel=3,
        )


def lacks_values(model: nn.Module) -> bool:
    """Whether a parameter or buffer has no values, so that no forward pass is possible."""
    return any(is_lazy(t) or t.device.type == "meta" for t in [*model.parameters(), *model.buffers()])


def trainability_problems(model: nn.Module) -> list[str]:
    """Return why a model can be evaluated at most, but not trained, one sentence each."""
    problems = []
    if scripts := _outermost(model, lambda m: isinstance(m, torch.jit.ScriptModule)):
        problems.append(
            f"{len(scripts)} modules are compiled by torch.jit (first: {scripts[:SHOWN]}), and no copy of them can be trained; "
            "give the model that they were made from."
        )
    if quantized := _quantized(model):
        problems.append(_quantized_text(quantized))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and not is_lazy(p)}
    problems += _named(
        dict(model.named_parameters()),
        lambda p: not is_lazy(p) and p.is_inference(),
        "were made in torch.inference_mode and take no gradient",
        "make the model outside of it, or pass copy.deepcopy(model)",
    )
    problems += _named(
        trained, Tensor.is_complex, "are complex", "store them as real numbers (torch.view_as_real)"
    )
    problems += _named(
        trained,
        lambda p: p.layout != torch.strided,
        "are sparse",
        "make them dense (to_dense), or freeze them",
    )
    problems += _named(
        trained,
        lambda p: p.is_floating_point() and p.itemsize == 1,
        "have a type of 8 bits, in which steps are lost",
        "call model.float(), or freeze them",
    )
    return problems + _extra_state_problems(model)


def _named(
    tensors: Mapping[str, Tensor],
    wrong: Callable[[Tensor], bool],
    what: str,
    advice: str,
    kind: str = "parameters",
) -> list[str]:
    names = [n for n, t in tensors.items() if wrong(t)]
    return [f"{len(names)} {kind} {what} (first: {names[:SHOWN]}); {advice}."] if names else []


def _quantized(model: nn.Module) -> list[str]:
    return _outermost(model, lambda m: type(m).__module__.startswith(QUANTIZED))


def _outermost(model: nn.Module, is_kind: Callable[[nn.Module], bool]) -> list[str]:
    """The names of the modules of a kind, without those inside another one."""
    if is_kind(model):
        return ["the model"]
    return [
        n if inner == ["the model"] else f"{n}.{k}"
        for n, m in model.named_children()
        for inner in [_outermost(m, is_kind)]
        for k in inner
    ]


def _quantized_text(names: list[str]) -> str:
    return (
        f"{len(names)} modules are quantized (first: {names[:SHOWN]}), and no gradient changes their parameters; unlearn the model "
        "before its quantization, and quantize the result."
    )


def _extra_state_problems(model: nn.Module) -> list[str]:
    """A state that is no tensor can be neither kept for a rollback nor hashed."""
    problems = []
    for name, module in model.named_modules():
        if type(module).get_extra_state is nn.Module.get_extra_state:
            continue
        state = module.get_extra_state()
        if not isinstance(state, Tensor):
            problems.append(
                f"get_extra_state of {f'the module {name!r}' if name else 'the model'} returns a {type(state).__name__}; return a "
                "tensor, or use buffers."
            )
    return problems
