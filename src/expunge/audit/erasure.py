"""How well a concept was erased from a text-to-image pipeline, as a judge sees it, and what went with it.

UA and RA as for class-conditional models, over prompts; `FID_judge` and `KID_judge` of what kept prompts draw, in the judge's
features, from the kept images that the run was trained beside; `composition` = share of images of "concept and kept" prompts
in which, the concept apart, the judge finds the kept one: erasers that break it erode more than they erase (the benchmark
"Erasure or Erosion" finds losses from 10 to 84 % behind equal UAs). All beside the same figures before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import raise_all
from ..generation.concepts import Erasure
from ..generation.sampling import Sampler
from ..tasks.classification import Predictions
from ..tasks.diffusion import Diffusion
from .accuracy import AuditResult
from .generation_attacks import Aim, Attack
from .image_judge import Judge, named_distances, network_features

if TYPE_CHECKING:
    from ..generation.erased import Erased

TOGETHER = "a photo of a {} and a {}"
REFERENCE = 512  # kept images that distances are taken from, at most


@dataclass(frozen=True, eq=False)
class Seen:
    """What the judge says of some images, and their features by whoever gives some: the judge, and a network of the user's."""

    said: Predictions
    features: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Eyes:
    """The judge, and the network whose features distances are taken in besides its own, if there is one."""

    judge: Judge
    network: nn.Module | None = None
    name: str = "network"

    def see(self, images: Tensor, labels: Tensor) -> Seen:
        """Images (N, C, H, W) in [0, 1], asked for as the judge's classes `labels`."""
        said = self.judge.predict(images, labels)
        assert said.features is not None
        features = {"judge": said.features}
        if self.network is not None:
            features[self.name] = network_features(self.network, images)
        return Seen(said, features)


def audit_erasure(
    erased: Erased,
    judge: Judge,
    classes: Mapping[str, int],
    *,
    sampler: Sampler | None = None,
    count: int = 20,
    together: str | None = TOGETHER,
    attack: Attack | None = None,
    network: nn.Module | None = None,
    name: str = "network",
    seed: int = 0,
) -> AuditResult:
    """Scores after and before ("before" in the details), percent; `classes` gives the judge's class of each concept's words.

    `together` is the prompt with two places that tests composition; None leaves it out, and a DiT has none. `attack` has the
    settings of the attempts to bring the concept back, which are not made without it. `network`, if given, gives features
    (B, D) of images for further distances, `FID_name` and `KID_name`. Raises `ExpungeError` as `check_judging` does.
    """
    words = erased.erasure
    check_judging(words, judge, classes, count, None if network is None else name)
    kept = [w for w in dict.fromkeys((words.anchor, *words.keep)) if w]
    draw = sampler or Sampler(steps=20, guidance=2.0, batch_size=8)
    plain = erased.loaded.kind == "dit"
    forms = ("{}",) if plain else words.templates
    eyes = Eyes(judge, network, name)
    seen = {
        word: _seen(erased, eyes, [f.format(word) for f in forms], classes[word], draw, count, seed)
        for word in (words.concept, *kept)
    }
    per = {word: {when: _share(one.said) for when, one in found.items()} for word, found in seen.items()}
    scores: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    real = _reference(erased, eyes, draw.batch_size)
    pictured = len(real["judge"]) if real else 0
    for when, found in scores.items():
        found["UA"] = 100 - per[words.concept][when]
        found["RA"] = sum(per[w][when] for w in kept) / len(kept) if kept else None
        for title, features in real.items() if kept and pictured > 1 else ():
            found |= named_distances(
                features, torch.cat([seen[w][when].features[title] for w in kept]), title
            )
    if together is not None and kept and not plain:
        for word in kept:
            asked = [together.format(words.concept, word)]
            for when, one in _seen(erased, Eyes(judge), asked, classes[word], draw, count, seed).items():
                others = one.said.logits.clone()
                others[:, classes[words.concept]] = -torch.inf
                share = _share(Predictions(others, one.said.labels)) / len(kept)
                scores[when]["composition"] = scores[when].get("composition", 0.0) + share
    source = erased.record.data["name"]
    limits = [
        f"The judge recognises {judge.accuracy:.1f} % of real test images; {count} images a prompt.",
        f"FID_judge and KID_judge are taken in the judge's features, from {pictured} kept images ({source}).",
    ]
    details: dict[str, Any] = {"before": scores["before"], "prompts": per, "limits": limits}
    if attack is not None:
        details["attacks"] = come_back(erased, judge, classes[words.concept], attack, seed)
    return AuditResult(scores["after"], details, limits)


def check_judging(
    words: Erasure, judge: Judge, classes: Mapping[str, int], count: int, name: str | None = None
) -> None:
    """Raise `ExpungeError` with every reason why an erasure can't be judged so; `name` is that of a network, if there is one."""
    problems = []
    if missing := [
        w for w in dict.fromkeys((words.concept, words.anchor, *words.keep)) if w and w not in classes
    ]:
        problems.append(
            f"the judge's classes of {missing} are not given; name one for the concept, the anchor and everything kept "
            "(--judge-class WORDS=NUMBER)."
        )
    problems += [
        f"the judge's class of '{word}' is {number}; it has {judge.task.num_classes}, numbered from 0."
        for word, number in classes.items()
        if not 0 <= number < judge.task.num_classes
    ]
    if count < 2:
        problems.append(
            f"{count} images a prompt are asked for the judge; distances of distributions need at least 2."
        )
    if name == "judge":
        problems.append(
            "the network's name is 'judge', and FID_judge is a distance in the judge's own features; give it another name."
        )
    raise_all(problems)


def come_back(erased: Erased, judge: Judge, shown: int, attack: Attack, seed: int = 0) -> dict[str, Any]:
    """Steps of a learned prompt, and of relearning, until the judge sees the concept, its class `shown`, again.

    Of the erased model beside the original, from which nothing was erased: the attack's best case.
    """
    loaded, task = erased.loaded, erased.run.task
    tool = replace(attack, decode=lambda z: loaded.decode(z, attack.sampler.batch_size))
    models = {"original": erased.original, "unlearned": erased.model}
    aim = Aim(task=task, samples=erased.run.split.forget, judge=judge, target=0, shown=shown, seed=seed)  # type: ignore[arg-type]
    return tool.both(models, aim)


def _share(said: Predictions) -> float:
    """Percent of images that show what was asked for."""
    return 100 * said.correct.double().mean().item()


def _reference(erased: Erased, eyes: Eyes, batch_size: int) -> dict[str, Tensor]:
    """Features (N, D) of images of kept concepts that the run was trained beside, decoded, at most `REFERENCE`."""
    retain = erased.run.split.retain
    worded = torch.tensor([k for k, p in enumerate(erased.prompts) if p])
    some = retain.take(torch.isin(retain.labels, worded))
    some = some.take(torch.linspace(0, len(some) - 1, min(REFERENCE, len(some))).round().long())
    found = [
        eyes.see(erased.loaded.decode(Diffusion.images(b), batch_size), b.y).features
        for b in some.batches(batch_size)
    ]
    return {title: torch.cat([f[title] for f in found]) for title in (found[0] if found else ())}


def _seen(
    erased: Erased, eyes: Eyes, prompts: list[str], shown: int, sampler: Sampler, count: int, seed: int
) -> dict[str, Seen]:
    """What is seen in what original ("before") and erased model ("after") draw, from the same noise, for the judge's class."""
    original = erased.loaded.prompted(prompts)
    erased.loaded.offload()  # the text encoders have done their part
    task: Diffusion = erased.loaded.task(len(prompts))
    latents = task.images(next(erased.run.split.retain.take(torch.arange(1)).batches(1)))
    y = torch.arange(len(prompts)).repeat_interleave(count)
    found = {}
    for when, model in (("before", original), ("after", original.with_denoiser(erased.model.denoiser))):
        drawn = sampler(model, task, y, tuple(latents.shape[1:]), seed=seed)
        images = erased.loaded.decode(drawn, sampler.batch_size)
        found[when] = eyes.see(images, torch.full_like(y, shown))
    return found
