"""Selective Amnesia: teach the forgotten condition noise, replay generated images of the others and anchor the weights.

    loss = loss(x ~ U[-1, 1], c_f) + gamma * loss(images of the other conditions, drawn by the original)
           + lambda * sum_i F_i * (theta_i - theta0_i)^2

F is the diagonal Fisher information at the original parameters.

Source: Heng and Soh, "Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models",
NeurIPS 2023, arXiv:2305.10120.

Published: the loss with gamma 1 and, for DDPM, lambda 10. Training runs 20,000 steps of Adam with learning rate 1e-4.

The scale of lambda: the authors sum losses over the D = C * H * W elements of an image, and we take means. Dividing their
objective by D leaves lambda * D * F. So `elastic` is their lambda and is multiplied by D here.

Ours:
- F is the mean over samples of the squared gradient of one sample's loss at one random step. The public code adds a
  sample's gradients over all steps before it squares them.
- F uses the replayed images.
- The model learns noise under the forgotten condition alone. It never does so under the null condition, which guidance
  depends on.
- `replay="data"` uses retain samples instead of generated images.
- Latents use noise of variance 1, U[-3^0.5, 3^0.5].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..masks.per_sample_gradients import to_full_precision
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import evaluating
from ..training.method import GradientMethod
from ..training.run import Run

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class SelectiveAmnesia(GradientMethod):
    """Teach the forgotten condition noise, with replay and elastic weights for the others (Selective Amnesia).

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        optimizer: Optimizer that takes the steps.
        weight_decay: Weight decay of the optimizer.
        batch_size: Images per step.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        replay_weight: gamma, the weight of the loss on replayed images.
        elastic: lambda, the weight of the elastic term, on the published scale of summed losses.
        replay: Where images of the kept conditions come from: sampled from the original ("model") or the retain set ("data").
        pool: Number of replayed images, drawn before the first step.
        fisher_samples: Images of the pool that are used for the Fisher information.
        sample_steps: Steps of the sampler that draws the replayed images.
        guidance: Guidance weight w of this sampler.
    """

    epochs: int = 20
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    replay_weight: float = 1.0
    elastic: float = 10.0
    replay: Literal["model", "data"] = "model"
    pool: int = 512
    fisher_samples: int = 128
    sample_steps: int = 20
    guidance: float = 2.0

    published: ClassVar = {}
    needs: ClassVar = ("noise",)
    schedule: ClassVar = "forget"
    search: ClassVar = {"lr": (5e-5, 1e-4, 3e-4, 1e-3), "elastic": (1.0, 10.0, 100.0)}

    def prepare(self, run: Run) -> None:
        """Make the pool of images to replay, and compute the Fisher information on some of them."""
        # the state of an interrupted run holds all of it
        if run.state_file is not None and run.state_file.exists():
            return
        task: Diffusion = run.task  # type: ignore[assignment]
        x, y = self._pool(run, task)
        run.memo.update(pool=x, conditions=y)
        fisher = self._fisher(run, task, x[: self.fisher_samples], y[: self.fisher_samples])
        for name, values in fisher.items():
            run.memo[f"fisher/{name}"] = values

    def _pool(self, run: Run, task: Diffusion) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) of kept conditions, in the range of the task's inputs, and their conditions (N,)."""
        draw = run.generator("replay")
        kept = run.split.retain
        drawn = kept.take(torch.randint(0, len(kept), (self.pool,), generator=draw))
        if self.replay == "data":
            batch = Batch.join(*drawn.batches(self.pool, device=run.device))
            return task.images(batch), batch.y
        shape = task.images(next(kept.take(torch.arange(1)).batches(1))).shape[1:]
        # batches of a training step, so sampling fits in memory wherever training does
        sampler = Sampler(
            kind="ddim", steps=self.sample_steps, guidance=self.guidance, batch_size=self.batch_size
        )
        seed = int(torch.randint(0, 2**31, (), generator=draw))
        images = sampler(run.original, task, drawn.labels, tuple(shape), seed=seed)
        return images.to(run.device), drawn.labels.to(run.device)

    def _fisher(self, run: Run, task: Diffusion, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the diagonal Fisher information of each trainable parameter on images `x` of conditions `y`."""
        trainable = {n: p for n, p in run.model.named_parameters() if p.requires_grad}
        fisher = {n: to_full_precision(torch.zeros_like(p)) for n, p in trainable.items()}
        with evaluating(run.model):
            # one sample at a time, since the square of a summed gradient is not the sum of squares
            for k in range(len(x)):
                loss = task.loss(run.model, Batch(x[k : k + 1], y[k : k + 1], torch.tensor([k]))).sum()
                gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
                for name, gradient in zip(trainable, gradients, strict=True):
                    if gradient is not None:
                        fisher[name] += to_full_precision(gradient.detach()).square() / len(x)
        return fisher

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss on noise, plus the weighted replay and elastic terms."""
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        images = task.images(forget)
        uniform = torch.rand_like(images)
        surrogate = uniform if task.pixels else (2 * uniform - 1) * 3**0.5
        draw = run.process_generator("replay")
        chosen = torch.randint(0, len(run.memo["pool"]), (len(forget),), generator=draw).to(images.device)
        replay = Batch(run.memo["pool"][chosen], run.memo["conditions"][chosen], chosen.cpu())
        noisy = task.add_random_noise(surrogate)
        # not task.loss, which replaces some conditions by the null condition
        loss = task.error(task.predict(run.model, noisy.x, noisy.t, forget.y), noisy.target).mean()
        loss = loss + self.replay_weight * task.loss(run.model, replay).mean()
        return loss + self.elastic * images[0].numel() * self._elastic_term(run)

    def _elastic_term(self, run: Run) -> Tensor:
        """Return sum_i F_i (theta_i - theta0_i)^2, a scalar."""
        original = dict(run.original.named_parameters())
        terms = [
            (run.memo[f"fisher/{n}"] * (p - original[n]).square()).sum()
            for n, p in run.model.named_parameters()
            if f"fisher/{n}" in run.memo
        ]
        return torch.stack(terms).sum()

    def problems(self) -> list[str]:
        return super().problems() + [
            f"{name} is {getattr(self, name)}; it must be at least 1."
            for name in ("pool", "fisher_samples", "sample_steps")
            if getattr(self, name) < 1
        ]
