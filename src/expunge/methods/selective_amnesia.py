"""Selective Amnesia: noise as the forgotten condition's new content, generated replay for the rest, and elastic weights.

Heng and Soh, "Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models", NeurIPS 2023,
arXiv:2305.10120.

Published: loss(x ~ U[-1, 1], c_f) + gamma * loss(images of the other conditions drawn by the original) + lambda * sum_i F_i
(theta_i - theta0_i)^2, F the diagonal Fisher information at the original weights; gamma 1, lambda 10 for DDPM; Adam 1e-4,
20,000 steps. Their losses are sums over the D = C * H * W elements of an image, ours means; dividing their objective by D
leaves lambda * D * F, so `elastic` is their lambda and is multiplied by D here.

Ours: F is the mean over samples of the squared gradient of one sample's loss at one random step (the public code adds a
sample's gradients over all steps before squaring); the samples are the replayed images; noise is learned under the
forgotten condition alone, never under null, which guidance rests on. `replay="data"` uses retain samples
instead of drawn ones. Latents take surrogates of variance 1, U[-3^0.5, 3^0.5].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..generation.sampling import Sampler
from ..masks.per_sample_gradients import wide
from ..torch_utils.module_state import evaluating
from ..training.method import GradientMethod
from ..training.run import Run

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class SelectiveAmnesia(GradientMethod):
    """Selective Amnesia: noise for the forgotten condition, replay and elastic weights for the others."""

    epochs: int = 20
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    replay_weight: float = 1.0  # gamma
    elastic: float = 10.0  # lambda, in the published scale of summed losses
    replay: Literal["model", "data"] = "model"  # where images of the kept conditions come from
    pool: int = 512  # replayed images drawn beforehand
    fisher_samples: int = 128  # of the pool, for the Fisher information
    sample_steps: int = 20  # of the sampler that draws the replay
    guidance: float = 2.0  # w of that sampler

    tasks: ClassVar = ("diffusion",)
    schedule: ClassVar = "forget"
    search: ClassVar = {"lr": (5e-5, 1e-4, 3e-4, 1e-3), "elastic": (1.0, 10.0, 100.0)}

    def prepare(self, run: Run) -> None:
        """Draw the images to replay, and take the Fisher information on some of them."""
        if run.state_file is not None and run.state_file.exists():
            return  # an interrupted run's state holds all of it
        task: Diffusion = run.task  # type: ignore[assignment]
        x, y = self._pool(run, task)
        run.memo.update(pool=x, conditions=y)
        for name, value in self._fisher(
            run, task, x[: self.fisher_samples], y[: self.fisher_samples]
        ).items():
            run.memo[f"fisher/{name}"] = value

    def _pool(self, run: Run, task: Diffusion) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) of kept conditions, in the range the task is given, and their conditions (N,)."""
        draw = run.generator("replay")
        kept = run.split.retain
        some = kept.take(torch.randint(0, len(kept), (self.pool,), generator=draw))
        if self.replay == "data":
            batch = Batch.join(*some.batches(self.pool, device=run.device))
            return task.images(batch), batch.y
        shape = task.images(next(kept.take(torch.arange(1)).batches(1))).shape[1:]
        # as many at once as a step has, so that what trains in memory is also drawn there
        sampler = Sampler(
            kind="ddim", steps=self.sample_steps, guidance=self.guidance, batch_size=self.batch_size
        )
        seed = int(torch.randint(0, 2**31, (), generator=draw))
        return sampler(run.original, task, some.labels, tuple(shape), seed=seed).to(
            run.device
        ), some.labels.to(run.device)

    def _fisher(self, run: Run, task: Diffusion, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        named = [(n, p) for n, p in run.model.named_parameters() if p.requires_grad]
        fisher = {n: wide(torch.zeros_like(p)) for n, p in named}
        with evaluating(run.model):
            for k in range(
                len(x)
            ):  # one sample at a time: squares of summed gradients are not sums of squares
                loss = task.loss(run.model, Batch(x[k : k + 1], y[k : k + 1], torch.tensor([k]))).sum()
                for (name, _), g in zip(
                    named, torch.autograd.grad(loss, [p for _, p in named], allow_unused=True), strict=True
                ):
                    if g is not None:
                        fisher[name] += wide(g.detach()).square() / len(x)
        return fisher

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        images = task.images(forget)
        noise = torch.rand_like(images)
        surrogate = noise if task.pixels else (2 * noise - 1) * 3**0.5
        own = run.own_generator("replay")
        at = torch.randint(0, len(run.memo["pool"]), (len(forget),), generator=own).to(images.device)
        replay = Batch(run.memo["pool"][at], run.memo["conditions"][at], at.cpu())
        noisy = task.add_random_noise(surrogate)
        # by hand, since `task.loss` drops some conditions
        loss = task.error(task.predict(run.model, noisy.x, noisy.t, forget.y), noisy.target).mean()
        loss = loss + self.replay_weight * task.loss(run.model, replay).mean()
        return loss + self.elastic * images[0].numel() * self._pull(run)

    def _pull(self, run: Run) -> Tensor:
        """sum_i F_i (theta_i - theta0_i)^2, a scalar."""
        start = dict(run.original.named_parameters())
        terms = [
            (run.memo[f"fisher/{n}"] * (p - start[n]).square()).sum()
            for n, p in run.model.named_parameters()
            if f"fisher/{n}" in run.memo
        ]
        return torch.stack(terms).sum()

    def problems(self) -> list[str]:
        return super().problems() + [
            f"{n} is {getattr(self, n)}; it must be at least 1."
            for n in ("pool", "fisher_samples", "sample_steps")
            if getattr(self, n) < 1
        ]
