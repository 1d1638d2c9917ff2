"""NHLE with class weight masking: teach a few samples an anti-label, then take the class's row out of the head.

"Negative-Hot Label Encoding" and class weight masking (CWM), Scientific Reports, 2026, doi:10.1038/s41598-026-40379-9.

Published (abstract and summaries; the body could not be read): whole classes are forgotten from a few of their own
samples, without retain data, by an iterative fine-tuning with a label that makes the class an anti-class, and a mask on
the class's weights; forgotten accuracy near 0, retained accuracy down by at most 0.035.

Ours, all of it: the label vector is -1 on every forgotten class and 0 elsewhere; the losses (`loss_kind`): `bounded_ce`,
-log(1 - P_F) with P_F the probability of all forgotten classes, is the direction of the literal cross-entropy, rescaled
by the odds so that it is alive while the class is remembered and still once it is not; `mse_logits` pulls the logits to
the label vector, the same for every forgotten sample; `ce` is the literal form, plain ascent, unbounded (it warns and
needs clip); `submax` (Scrub-and-Learn, the same authors, AI 2025, 6(6):108) and `uniform` are baselines. 20 samples a
class, full-batch steps, head frozen (a change of the logits then is one of the features), batch-norm statistics frozen
and dropout off (there is no retain data to repair them); `batch_size` and `batch_norm` therefore have no effect.
Masking (`masking`): `neg_inf` sets the row to 0 and its bias to -1e4, `zero` both to 0 (the class still wins where all
other logits are negative). It is written into the weights.
Masking alone brings forgotten accuracy to 0, so the run also reports the four cells NHLE x masking.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..masks.mask_file import Mask
from ..records.statistics import TABLE_2X2
from ..tasks.classification import Classification
from ..training.run import Row, Run
from ._few import FewSamples

Masking = Literal["neg_inf", "zero", "none"]
NEVER = -1e4  # a logit that never wins and that half precision can hold


def negative_hot(classes: Sequence[int], num_classes: int) -> Tensor:
    """The anti-label (K,): -1 on the forgotten classes, 0 elsewhere."""
    label = torch.zeros(num_classes)
    label[list(classes)] = -1.0
    return label


def bounded_loss(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """-log(1 - P_F) of each sample (B,), stably: softplus of the log odds of the forgotten classes."""
    kept = [k for k in range(logits.shape[1]) if k not in set(classes)]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # of half precision under autocast
    return F.softplus(logits[:, list(classes)].logsumexp(1) - logits[:, kept].logsumexp(1))


def _check_bias(named: tuple[str, nn.Linear], how: Masking) -> None:
    name, head = named
    if how == "neg_inf" and head.bias is None:
        raise ModelError(
            f"the head '{name}' has no bias to lower; use masking='zero', which may still let the class win."
        )


def _parts(task: Classification, model: nn.Module) -> list[str]:
    """What masking writes to."""
    return ["weight"] if task.head(model)[1].bias is None else ["weight", "bias"]


@torch.no_grad()
def mask_class_weights(
    model: nn.Module, task: Classification, classes: Sequence[int], how: Masking = "neg_inf"
) -> nn.Module:
    """Take `classes` out of the model's head, in place and for good; other logits stay bit-identical. Idempotent.

    Raises `ModelError` where no class would be left, or where `neg_inf` needs a bias that the head has not.
    """
    if how == "none":
        return model
    name, head = task.open_head(model, *_parts(task, model), frozen=True)
    rows = sorted(set(classes))
    if len(rows) >= head.out_features:
        raise ModelError(
            f"masking {len(rows)} of {head.out_features} classes leaves none; keep at least one."
        )
    _check_bias((name, head), how)
    head.weight[rows] = 0
    if head.bias is not None:
        head.bias[rows] = NEVER if how == "neg_inf" else 0.0
    return model


def with_rows(mask: Mask, head: str, classes: Sequence[int]) -> Mask:
    """`mask` with these rows of the head free: what class weight masking writes to lies in the mask that is recorded."""
    changed = {k: m.clone() for k, m in mask.items()}
    for part in ("weight", "bias"):
        if (name := f"{head}.{part}" if head else part) in changed:
            changed[name][sorted(set(classes))] = True
    return Mask(changed)


@dataclass(frozen=True, kw_only=True)
class NHLE(FewSamples):
    """NHLE + class weight masking: negative-hot labels from a few forget samples, no retain data."""

    # what is descended on; `expunge methods --verbose` tells them apart
    loss_kind: Literal["bounded_ce", "mse_logits", "ce", "submax", "uniform"] = "bounded_ce"
    # what may move: all but the head, all, or the last block
    trainable: Literal["features", "all", "last_block"] = "features"
    # the class's row of the head: 0 and never chosen, 0 altogether, or left as it is
    masking: Masking = "neg_inf"
    anchor: float = 0.0  # lambda: weight of the squared distance to the original weights

    needs: ClassVar = ("logits", "head")
    search: ClassVar = {"lr": (3e-4, 1e-3, 3e-3, 1e-2)}

    def prepare(self, run: Run) -> None:
        super().prepare(run)
        task: Any = run.task
        if self.masking != "none":
            _check_bias(task.open_head(run.model, *_parts(task, run.model)), self.masking)
        if self.loss_kind == "ce":
            warnings.warn(
                "loss_kind='ce' is plain gradient ascent: unbounded, and without force on memorised samples.",
                stacklevel=2,
            )

    def frozen(self, run: Run) -> set[str]:
        names = [n for n, _ in run.model.named_parameters()]
        head, _ = run.task.head(run.model)  # type: ignore[attr-defined]
        of_head = {n for n in names if n.startswith(f"{head}." if head else "")}
        if self.trainable == "last_block":
            owners = list(
                dict.fromkeys(n.rpartition(".")[0].rpartition(".")[0] for n in names if n not in of_head)
            )
            return {n for n in names if n in of_head or n.rpartition(".")[0].rpartition(".")[0] != owners[-1]}
        return of_head if self.trainable == "features" else set()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        logits = run.task.logits(run.model, forget.x)  # type: ignore[attr-defined]
        value = self.objective(logits, run.split.forget_classes)
        self._note(run, logits.detach(), value.detach())
        if self.anchor:
            pull = sum(
                ((p - q) ** 2).sum()
                for p, q in zip(run.model.parameters(), run.original.parameters(), strict=True)
            )
            value = value + self.anchor * pull
        return value

    def _note(self, run: Run, logits: Tensor, value: Tensor) -> None:
        """Sums over the step's samples, for the stop rule: P_F, the loss, and how many they are."""
        if run.memo.get("noted") != run.step:
            run.memo.update(noted=run.step, seen=torch.zeros(3, device=run.device))
        sure = logits.softmax(1)[:, list(run.split.forget_classes)].sum()
        count = torch.tensor(float(len(logits)), device=run.device)
        run.memo["seen"] += torch.stack([sure.float(), value.float() * count, count])

    def objective(self, logits: Tensor, classes: Sequence[int]) -> Tensor:
        """The mean loss of logits (B, K) of forgotten samples."""
        gone = list(classes)
        if self.loss_kind == "bounded_ce":
            return bounded_loss(logits, gone).mean()
        if self.loss_kind == "mse_logits":
            return ((logits - negative_hot(gone, logits.shape[1]).to(logits)) ** 2).mean()
        if self.loss_kind == "ce":
            return -(negative_hot(gone, logits.shape[1]).to(logits) * F.log_softmax(logits, 1)).sum(1).mean()
        others = logits.detach().clone()
        others[:, gone] = -torch.inf
        if self.loss_kind == "submax":
            return F.cross_entropy(logits, others.argmax(1))
        share = others.isfinite().to(logits) / (logits.shape[1] - len(gone))
        return F.cross_entropy(logits, share)

    def stop(self, run: Run, row: Row) -> str | None:
        nothing = torch.zeros(3, device=run.device)
        sure, value, count = run.team.sum(run.memo.get("seen", nothing).clone()).tolist()
        if not count:
            return None
        sure, value = sure / count, value / count
        if self.loss_kind == "mse_logits":
            return f"the loss is {value:.3f}, under 0.05" if value < 0.05 else None
        if sure < 1 / run.task.num_classes:
            return f"the forgotten classes' probability is {sure:.3f}, under chance"
        return None

    def finish(self, run: Run) -> None:
        task: Any = run.task
        _, head = task.head(run.model)
        run.memo["row"] = (
            head.weight.detach().clone(),
            None if head.bias is None else head.bias.detach().clone(),
        )
        mask_class_weights(run.model, task, run.split.forget_classes, self.masking)
        if run.mask is not None and self.masking != "none":
            run.mask = with_rows(run.mask, task.head(run.model)[0], run.split.forget_classes)

    def details(self, run: Run) -> dict[str, Any]:
        """The table NHLE x masking: accuracies (percent) of four models on forget, retain and test samples."""
        if "row" not in run.memo:  # judged from a file: the head before masking is gone for good
            return {}
        task: Any = run.task
        unmasked = copy.deepcopy(run.model)
        _, head = task.head(unmasked)
        with torch.no_grad():
            head.weight.copy_(run.memo["row"][0])
            if head.bias is not None:
                head.bias.copy_(run.memo["row"][1])
        most: Masking = "neg_inf" if head.bias is not None else "zero"
        how: Masking = most if self.masking == "none" else self.masking
        rows = []
        for nhle, model in ((False, run.original), (True, unmasked)):
            for masking in (False, True):
                judged = (
                    mask_class_weights(copy.deepcopy(model), task, run.split.forget_classes, how)
                    if masking
                    else model
                )
                score = {
                    name: task.predict(judged, getattr(run.split, which)).accuracy
                    for name, (which, _) in TABLE_2X2.items()
                }
                rows.append({"nhle": nhle, "masking": masking, **score})
        return {"table2x2": rows}

    def problems(self) -> list[str]:
        found = super().problems()
        if self.loss_kind == "ce" and self.clip is None:
            found.append(
                "loss_kind='ce' is unbounded and needs clip; set one, such as 1.0, or use bounded_ce."
            )
        return found
