"""Audit the erasure of a concept from a text-to-image pipeline, with a judge, before and after.

UA and RA are as for class-conditional generators, over prompts. `FID_judge` and `KID_judge` compare the images of kept
prompts with the kept images of the run, in the judge's features. `composition` is the share of images of "concept and
kept" prompts in which the judge finds the kept one, if it may not answer with the concept. An eraser that breaks
composition damages more than it erases: the benchmark "Erasure or Erosion" finds losses from 10 to 84 % behind equal UAs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..audit.image_distances import named_distances
from ..audit.image_judge import Judge
from ..audit.recovery_attacks import RecoveryAttack, RecoveryGoal
from ..audit.result import AuditResult
from ..data.samples import Samples
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from ..tasks.sampling import Sampler
from .concepts import Erasure, template_is_wrong
from .judged_prompts import ErasureJudge, JudgedPrompts

if TYPE_CHECKING:
    from .erased import Erased

TOGETHER = "a photo of a {} and a {}"


def audit_erasure(
    erased: Erased,
    judge: Judge,
    classes: Mapping[str, int],
    *,
    sampler: Sampler | None = None,
    count: int = 20,
    together: str | None = TOGETHER,
    attack: RecoveryAttack | None = None,
    network: nn.Module | None = None,
    name: str = "network",
    seed: int = 0,
) -> AuditResult:
    """Audit the erasure of a concept.

    Args:
        erased: The result of `erase`.
        judge: The judge.
        classes: The judge's class of each concept: of the erased one, the anchor and everything kept.
        sampler: The sampler. The default has 20 steps, guidance 2 and batches of 8.
        count: Number of images of each prompt, at least 2.
        together: Prompt with two places for `composition`. None leaves composition out. A DiT never has it.
        attack: Settings of the recovery attacks. None leaves them out.
        network: A network that gives features (B, D) of images, for `FID_<name>` and `KID_<name>`.
        name: Name of the network.
        seed: Seed of the starting noise.

    Returns:
        Scores after the erasure in percent. The details hold the scores before it as "before".

    Raises:
        ExpungeError: As `check_judging` does.

    Example:
        >>> audit_erasure(erased, judge, {"garbage truck": 5, "bicycle": 2, "church": 4}).scores["UA"]
        95.0
    """
    erasure = erased.erasure
    check_judging(erasure, judge, classes, count, None if network is None else name)
    if together is not None and template_is_wrong(together, 2):
        raise ExpungeError(f"together is '{together}'; write {{}} twice in it, and no other brace.")
    kept = list(erasure.kept)
    sampler = sampler or Sampler(steps=20, guidance=2.0, batch_size=8)
    by_class = erased.loaded.kind == "dit"
    templates = ("{}",) if by_class else erasure.templates
    judging = ErasureJudge(
        erased=erased, judge=judge, sampler=sampler, count=count, seed=seed, network=network, name=name
    )
    judged = {
        word: judging.judge_prompts([t.replace("{}", word) for t in templates], classes[word])
        for word in (*erasure.words, *kept)
    }
    shares = {
        word: {when: one.percent_correct for when, one in both.items()} for word, both in judged.items()
    }
    reference = judging.reference_features()
    scores = {
        when: _scores(when, erasure.words, kept, judged, shares, reference) for when in ("before", "after")
    }
    if together is not None and kept and not by_class:
        composition = _composition(judging, erasure.words, kept, classes, together)
        for when in scores:
            scores[when]["composition"] = composition[when]
    source, references = erased.record.data["name"], len(reference["judge"]) if reference else 0
    limits = [
        f"The judge recognises {judge.accuracy:.1f} % of real test images. There are {count} images of each prompt.",
    ]
    if references:
        limits.append(
            f"FID_judge and KID_judge use the judge's features and {references} kept images ({source})."
        )
    details: dict[str, Any] = {"before": scores["before"], "prompts": shares, "limits": limits}
    if attack is not None:
        details["attacks"] = _recover_concepts(erased, judge, classes, attack, seed)
    return AuditResult(scores["after"], details, limits)


def _scores(
    when: str,
    concepts: Sequence[str],
    kept: list[str],
    judged: dict[str, dict[str, JudgedPrompts]],
    shares: dict[str, dict[str, float]],
    reference: dict[str, Tensor],
) -> dict[str, Any]:
    """Return UA, RA and the distances, "before" or "after"."""
    scores: dict[str, Any] = {
        "UA": 100 - sum(shares[word][when] for word in concepts) / len(concepts),
        "RA": sum(shares[word][when] for word in kept) / len(kept) if kept else None,
    }
    if kept and reference and len(reference["judge"]) > 1:
        for network, features in reference.items():
            generated = torch.cat([judged[word][when].features[network] for word in kept])
            scores |= named_distances(features, generated, network)
    return scores


def _composition(
    judging: ErasureJudge, concepts: Sequence[str], kept: list[str], classes: Mapping[str, int], together: str
) -> dict[str, float]:
    """Return the mean share of images of "concept and kept" prompts that show the kept one, "before" and "after"."""
    before, between, behind = together.split("{}")
    pairs = [(concept, word) for concept in concepts for word in kept]
    judging = replace(judging, network=None)
    shares = {"before": 0.0, "after": 0.0}
    for concept, word in pairs:
        prompt = f"{before}{concept}{between}{word}{behind}"
        for when, one in judging.judge_prompts([prompt], classes[word]).items():
            shares[when] += one.percent_without(classes[concept]) / len(pairs)
    return shares


def _recover_concepts(
    erased: Erased, judge: Judge, classes: Mapping[str, int], attack: RecoveryAttack, seed: int
) -> dict[str, Any]:
    """Return the attacks on the one concept, or those on each of several with its words in their names."""
    words = erased.erasure.words
    if len(words) == 1:
        return recover_concept(erased, judge, classes[words[0]], attack, seed)
    each = {
        word: recover_concept(
            erased, judge, classes[word], replace(attack, label=f" of “{word}”"), seed, word=word
        )
        for word in words
    }
    return {f"{name} of “{word}”": value for word in words for name, value in each[word].items()}


def check_judging(
    erasure: Erasure, judge: Judge, classes: Mapping[str, int], count: int, name: str | None = None
) -> None:
    """Check whether an erasure can be judged.

    Args:
        erasure: What was erased.
        judge: The judge.
        classes: The judge's class of each concept.
        count: Number of images of each prompt.
        name: Name of a further network, or None.

    Raises:
        ExpungeError: With every problem.
    """
    problems = []
    words = dict.fromkeys((*erasure.words, *erasure.kept))
    if missing := [word for word in words if word not in classes]:
        problems.append(
            f"the judge's classes of {missing} are not given; give one for the concept, the anchor and everything kept "
            "(--judge-class WORDS=NUMBER)."
        )
    problems += [
        f"the judge's class of '{word}' is {number}; the judge has {judge.task.num_classes} classes, numbered from 0."
        for word, number in classes.items()
        if not 0 <= number < judge.task.num_classes
    ]
    if count < 2:
        problems.append(
            f"the judge gets {count} images of each prompt; distances compare distributions, so give at least 2."
        )
    if name == "judge":
        problems.append(
            "the network's name is 'judge', but FID_judge is the distance in the judge's features; choose another name."
        )
    raise_all(problems)


def recover_concept(
    erased: Erased,
    judge: Judge,
    judge_class: int,
    attack: RecoveryAttack,
    seed: int = 0,
    *,
    word: str | None = None,
) -> dict[str, Any]:
    """Run both recovery attacks on the erased model and on the original.

    Nothing was erased from the original, so its steps are the attack's best case.

    Args:
        erased: The result of `erase`.
        judge: The judge.
        judge_class: The judge's class of the concept.
        attack: Settings of the attacks.
        seed: Seed of the attacks.
        word: The concept, if several were erased. Default: the first.

    Returns:
        The result of `RecoveryAttack.both` for "original" and "unlearned".
    """
    loaded, task = erased.loaded, erased.run.task
    decoding = replace(attack, decode=lambda latents: loaded.decode(latents, attack.sampler.batch_size))
    models = {"original": erased.original, "unlearned": erased.model}
    word = word or erased.erasure.words[0]
    conditions = torch.tensor(erased.erasure.conditions(word, loaded.kind == "dit"))
    samples = erased.run.split.forget
    if not len(erased.run.split.retain):
        # the run read no images, and an attacker needs some
        y = conditions.repeat_interleave(attack.count)
        latents = attack.sampler(erased.original, task, y, loaded.shape, seed=seed + 1)  # type: ignore[arg-type]
        samples = Samples(TensorData(latents, y), torch.arange(len(y)))
    samples = samples.take(torch.isin(samples.labels, conditions))
    goal = RecoveryGoal(
        task=task,  # type: ignore[arg-type]
        samples=samples,
        judge=judge,
        target=int(conditions[0]),
        judge_class=judge_class,
        seed=seed,
    )
    return decoding.both(models, goal)
