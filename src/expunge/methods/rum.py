"""RUM: split the request by memorisation, and unlearn each part with a method of its own, the least memorised one first.

    memorisation of x = symmetric KL(original(x), copy(x)),    the copy is fine-tuned on unseen samples (proxy "held_out")

Before it runs, it prints how hard the request is: how much the model memorised it, and how entangled its features are with those
of the retain set.

Source: Zhao, Kurmanji, Barbulescu, E. Triantafillou, P. Triantafillou, "What Makes Unlearning Hard and What to Do About It", NeurIPS
2024, arXiv:2406.01257; for the proxies Zhao, P. Triantafillou, "Scalability of Memorization-Based Machine Unlearning",
arXiv:2410.16516. The settings are from the authors' code (kairanzhao/RUM, commit f593c9d).

Published:
- Three parts: nothing is done for the least memorised samples, the middle ones are unlearned by fine-tuning (learning rate 0.1), the
  most memorised ones by SalUn (0.1).
- The proxy "held_out": a copy of the original is fine-tuned on unseen samples for at most 30 epochs (learning rate 0.1, ending after 4
  epochs without a lower loss). The score is the symmetric divergence of both outputs. It stands for memorisation scores that
  take hundreds of trainings.
- The entanglement score.

Differences from the released code:
- It fine-tunes the proxy on the test set, on which it then reports. Here it is the validation set.
- While it unlearns one part, later parts are in the retain set, so it trains on them (`as_released=True`). Here they are not.
- It cuts parts of 1,000 out of all training samples by rank. Here each part is a third of the request, by rank.

Ours:
- Any methods can take the parts. Each gets at least 100 steps, as in `trials="auto"`.
- The proxy "confidence": 1 minus the confidence in the true label. It is used if the split has no validation samples.
- The printed comparison: the entanglement of a random part of the retain set, the hardest request of that size.

Cost: A fine-tuning of a copy for at most 30 epochs on the validation set (proxy "held_out"), then the methods
of the parts one after the other.

When not to use it: Whole classes must go: memorisation differs little within the request. The forget set is so
small that a third of it has only a few samples.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..data.past_requests import remember_requests
from ..data.samples import Samples
from ..errors import ExpungeError
from ..tasks.task import Capability
from ..training.execute import check_run, execute
from ..training.method import Method
from ..training.registry import make
from ..training.run import Run
from ._hardness import Score, memorisation, request_entanglement

PARTS = ("low", "middle", "high")
NOTHING = "nothing"

# hash of the request that was last printed for an original, so that trials do not print it again
_PRINTED: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class RUM(Method):
    """Split the request by memorisation and pick a method for each part (RUM).

    Args:
        low: Method for the least memorised third: a name as on the command line, or "nothing".
        middle: Method for the middle third.
        high: Method for the most memorised third.
        middle_lr: Learning rate of the method for the middle third, if it has one.
        high_lr: Learning rate of the method for the most memorised third, if it has one.
        score: Proxy of memorisation: "held_out" fine-tunes a copy on the validation set, "confidence" takes the output as it is.
        as_released: Leave later parts in the retain set of earlier ones, as the released code does.
    """

    low: str = NOTHING
    middle: str = "finetune"
    high: str = "salun"
    middle_lr: float = 0.02
    high_lr: float = 0.02
    score: Score = "held_out"
    as_released: bool = False

    published: ClassVar = {"middle_lr": 0.1, "high_lr": 0.1, "as_released": True}
    needs: ClassVar = ("logits",)
    search: ClassVar = {
        "high_lr": (1e-4, 5e-4, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
        "middle_lr": (5e-4, 2e-3, 5e-3, 2e-2, 1e-1),
    }

    def requires(self) -> tuple[Capability, ...]:
        parts = [make(name).requires() for name in self._names() if not self._wrong(name)]
        return tuple(dict.fromkeys([*self.needs, *(c for part in parts for c in part)]))

    def _names(self) -> list[str]:
        return [name for part in PARTS if (name := getattr(self, part)) != NOTHING]

    def method_of(self, part: str) -> Method | None:
        """Return the method of a part, with its learning rate; None for "nothing"."""
        name, rate = getattr(self, part), getattr(self, f"{part}_lr", None)
        if name == NOTHING:
            return None
        method: Any = make(name)
        return replace(method, lr=rate) if rate is not None and _has(method, "lr") else method

    def adapted(self, run: Run) -> dict[str, Any]:
        """Print how hard the request is. The methods of the parts adapt themselves."""
        self._print_hardness(run)
        return {}

    def apply(self, run: Run) -> None:
        """Unlearn the parts one after the other."""
        for named in filter(None, map(self.method_of, PARTS)):
            check_run(named, run.split, run.task, seed=run.seed, compute=run.compute)
        scores = self._print_hardness(run)
        if scores is None:
            scores = memorisation(run, run.split.forget, self.score)
        model, run.memo["parts"] = copy.deepcopy(run.model), {}
        for part, split in self.parts(run, scores):
            method = self.method_of(part)
            run.memo["parts"][part] = {"samples": len(split.forget), "method": getattr(self, part)}
            if method is None or not len(split.forget):
                continue
            if not self.paper:
                method = replace(method, **method.adapted(replace(run, model=model, split=split)))
            outcome = execute(
                # the request is that of the whole run
                remember_requests(model, ()),
                split,
                method,
                run.task,
                seed=run.seed,
                compute=run.compute,
                factory=run.factory,
                on_row=run.on_row,
            )
            model = outcome.model
            run.notes += [text for text in outcome.notes if text not in run.notes]
            run.memo["parts"][part]["status"] = outcome.status
            if outcome.ended == "diverged":
                run.ended, run.status = "stopped", f"stopped: the part '{part}' {outcome.status}"
        run.model.load_state_dict(model.state_dict())

    def parts(self, run: Run, scores: Tensor) -> Iterator[tuple[str, Any]]:
        """Yield the name and the split of each part, by ascending score.

        Args:
            run: The run.
            scores: Memorisation (N,) of the forget samples.
        """
        split, order = run.split, scores.argsort(stable=True)
        later = list(torch.tensor_split(order, len(PARTS)))
        for name in PARTS:
            forget = split.forget.take(later.pop(0).sort().values)
            retain = split.retain
            if self.as_released and later:
                kept = split.forget.index[torch.cat(later)]
                retain = Samples(retain.data, torch.cat([retain.index, kept]).sort().values)
            yield name, replace(split, forget=forget, retain=retain, held_out=_within(split.held_out, forget))

    def _print_hardness(self, run: Run) -> Tensor | None:
        """Print how hard the request is, once for a model and a request. Return the scores if they were computed for it."""
        original = run.model if run.source is None else run.source
        if _PRINTED.get(original) == run.split.hash:
            return None
        _PRINTED[original] = run.split.hash
        scores = memorisation(run, run.split.forget, self.score)
        text = f"rum: {len(scores):,} forget samples; memorisation ({self.score}) is {scores.mean():.3g} on average"
        if len(scores):
            text += f", {scores.double().quantile(0.9):.3g} or more for a tenth"
        if both := request_entanglement(run):
            text += f"; entanglement {both[0]:.3g}, where a random part of the retain set has {both[1]:.3g} (higher is harder)"
        print(f"{text}.", file=sys.stderr)
        return scores

    def details(self, run: Run) -> dict[str, Any]:
        """Return the method, the number of samples and the status of each part."""
        return {"rum": run.memo["parts"]}

    def problems(self) -> list[str]:
        problems = [text for part in PARTS if (text := self._wrong(getattr(self, part), part))]
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("middle_lr", "high_lr")
            if getattr(self, name) < 0
        ]
        if not self._names():
            problems.append(f"all three parts are '{NOTHING}'; give at least one of them a method.")
        return problems

    def _wrong(self, name: str, part: str = "") -> str:
        """Return what is wrong with the method of a part; empty if nothing is."""
        if name == NOTHING:
            return ""
        if name == RUM.name():
            return f"{part} is 'rum', which would split its part again; name the method of the part."
        try:
            method = make(name)
        except ExpungeError as error:
            return f"{part} is {name!r}: {error}"
        if method.exact:
            return (
                f"{part} is '{name}', which starts from fresh weights; name a method that changes the model."
            )
        return ""


def _has(method: Method, field: str) -> bool:
    return field in {f.name for f in fields(method)}


def _within(positions: Tensor, samples: Samples) -> Tensor:
    return positions[torch.isin(positions, samples.index)]
