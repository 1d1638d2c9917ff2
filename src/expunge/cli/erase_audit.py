"""Judge the images of an erased pipeline for `expunge erase`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..audit.image_judge import Judge
from ..audit.recovery_attacks import RecoveryAttack
from ..generation.erased import Erased
from ..generation.erasure_audit import audit_erasure
from ..records.record import plain
from ..tasks.sampling import Sampler
from .erase_flags import JudgeFlags
from .terminal import print_attack


def judge_images(
    erased: Erased,
    judge: tuple[Judge, dict[str, int]],
    flags: JudgeFlags,
    sampler: Sampler,
    seed: int,
    network: tuple[nn.Module, str] | None,
) -> None:
    """Judge the images; write the scores into the record and beside the weights, and print them."""
    count = flags.judge_count
    named: dict[str, Any] = {} if network is None else {"network": network[0], "name": network[1]}
    attack = None
    if flags.attacks:
        attack = RecoveryAttack(
            batch_size=sampler.batch_size, count=count, sampler=sampler, on_progress=print_attack
        )
    result = audit_erasure(erased, *judge, sampler=sampler, count=count, attack=attack, seed=seed, **named)
    erased.record.scores = plain(result.scores)
    erased.record.details.update(plain(result.details))
    erased.save_record()
    for name, value in result.scores.items():
        if value is not None:
            print(f"{name}: {result.details['before'][name]:.3g} before, {value:.3g} after")
    for name, values in result.details.get("attacks", {}).items():
        print(attack_line(name, values))


def attack_line(name: str, values: Mapping[str, Any]) -> str:
    """Return the result of a recovery attack on the original and on the erased pipeline, as one line.

    Args:
        name: Name of the attack, such as "relearning".
        values: What `RecoveryAttack.both` returns for it.
    """

    def result(model: str) -> str:
        if (steps := values[f"{model}_steps"]) is not None:
            return f"back after {steps} steps"
        return f"not back within {values['within']} steps (at most {values[f'{model}_highest']:.0f} % recognised)"

    return f"{name.replace('_', ' ')}: original {result('original')}, unlearned {result('unlearned')}"
