"""Selective Amnesia: teach the forgotten condition noise, replay generated images of the others and anchor the weights.

    loss = loss(x ~ U[-1, 1], c_f) + gamma * loss(images of the other conditions, drawn by the original)
           + lambda * sum_i F_i * (theta_i - theta0_i)^2

F is the diagonal Fisher information at the original parameters.

Source: Heng and Soh, "Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models",
NeurIPS 2023, arXiv:2305.10120.

Published: the loss with gamma 1 and, for DDPM, lambda 10. Training takes 20,000 steps of Adam with learning rate 1e-4 and
batch size 128, which are 500 epochs on the 5,000 images of a CIFAR-10 class. The original draws 500 images of each
condition in 1,000 steps. All of them give F, and those of the kept conditions are replayed.

Differences from the released code (`paper=True` follows it; clear-nus/selective-amnesia, commit b736571):
- Its F is the mean over samples of (sum over all T time steps of the gradient of one sample's loss)^2. Ours is the mean
  of the squared gradient at one random time step. On the same images theirs is T times as large if the gradients of
  different steps are independent, and T^2 times if they are equal.
- So `elastic` is their lambda only with `paper=True`. Without it, the same value pulls about 1e5 times less (T = 1,000;
  `benchmarks/fisher_scale.py`).
- It computes F with noise on images in [0, 1], which the model otherwise sees in [-1, 1], and drops some conditions.
- F uses the images of all conditions. Ours uses some of the replayed images.
- Its replay keeps every condition. Ours makes some of them null, as in training, for the sake of guidance.
- Noise and replayed images of a step have the same time steps.
- The loss is a sum over the D = C * H * W elements of an image. Ours is a mean, so that the elastic term is
  multiplied by D: their objective over D has lambda * D * F, with F of mean losses.

Ours in both forms:
- The model learns noise under the forgotten condition alone. It never does so under the null condition, which guidance
  depends on.
- Replayed images are drawn with replacement and not flipped. The sampled images keep their own range of values.
- `replay="data"` uses retain samples instead of generated images.
- Latents use noise of variance 1, U[-3^0.5, 3^0.5].

Cost: Images of each kept condition drawn by the original, the Fisher information on them, then one pass over
the forget set for each epoch with as many replayed images. The published number of epochs is 500.

When not to use it: Image quality matters: on digits its FID_judge was more than four times that of Retrain
(docs/generation_results.md). There is no time to draw the replayed images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.samples import Samples
from ..masks.per_sample_gradients import to_full_precision
from ..tasks.noise_schedule import Noisy
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import evaluating
from ..training.method import GradientMethod
from ..training.run import Run
from .ssd import training_set

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
        elastic: lambda, the weight of the elastic term. It is on the published scale only under `paper`.
        replay: Where images of the kept conditions come from: sampled from the original ("model") or the retain set ("data").
        pool: Number of replayed images, drawn before the first step.
        fisher_samples: Images for the Fisher information: some of the pool, or under `paper` images of all conditions.
        sample_steps: Steps of the sampler that draws the replayed images.
        guidance: Guidance weight w of this sampler.
        paper: Follow the released code. F then takes a pass of all T time steps for each of its images.
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
    paper: bool = False

    published: ClassVar = {
        "epochs": 500,
        "batch_size": 128,
        "pool": 4500,
        "fisher_samples": 5000,
        "sample_steps": 1000,
    }
    needs: ClassVar = ("noise",)
    schedule: ClassVar = "forget"
    search: ClassVar = {"lr": (5e-5, 1e-4, 3e-4, 1e-3), "elastic": (1.0, 10.0, 100.0)}

    def prepare(self, run: Run) -> None:
        """Make the pool of images to replay, and compute the Fisher information on some of them."""
        # the state of an interrupted run holds all of it
        if run.state_file is not None and run.state_file.exists():
            return
        task: Diffusion = run.task  # type: ignore[assignment]
        x, y = self._pool(run, task, run.split.retain, self.pool)
        run.memo.update(pool=x, conditions=y)
        if self.paper:
            x, y = self._pool(run, task, training_set(run), self.fisher_samples)
        fisher = self._fisher(run, task, x[: self.fisher_samples], y[: self.fisher_samples])
        for name, values in fisher.items():
            run.memo[f"fisher/{name}"] = values

    def _pool(self, run: Run, task: Diffusion, samples: Samples, count: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) in the range of the task's inputs, and their conditions (N,), drawn from `samples`."""
        draw = run.generator("replay")
        drawn = samples.take(torch.randint(0, len(samples), (count,), generator=draw))
        if self.replay == "data":
            batch = Batch.join(*drawn.batches(count, device=run.device))
            return task.images(batch), batch.y
        shape = task.images(next(samples.take(torch.arange(1)).batches(1))).shape[1:]
        # batches of a training step, so sampling fits in memory wherever training does
        sampler = Sampler(
            kind="ddim",
            steps=self.sample_steps,
            guidance=self.guidance,
            eta=1.0 if self.paper else 0.0,
            batch_size=self.batch_size,
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
                total = {n: torch.zeros_like(f) for n, f in fisher.items()}
                for loss in self._sample_losses(
                    run, task, Batch(x[k : k + 1], y[k : k + 1], torch.tensor([k]))
                ):
                    gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
                    for name, gradient in zip(trainable, gradients, strict=True):
                        if gradient is not None:
                            total[name] += to_full_precision(gradient.detach())
                for name in fisher:
                    fisher[name] += total[name].square() / len(x)
        return fisher

    def _sample_losses(self, run: Run, task: Diffusion, one: Batch) -> Iterator[Tensor]:
        """Yield losses whose gradients add up to what one sample contributes to the Fisher information."""
        if not self.paper:
            yield task.loss(run.model, one).sum()
            return
        x = task.images(one)
        # the released code leaves these images in [0, 1], which `add_noise` would move to [-1, 1]
        x = (x + 1) / 2 if task.pixels else x
        for t in torch.arange(len(task.signal), device=x.device).split(self.batch_size):
            images = x.expand(len(t), *x.shape[1:])
            noisy = task.add_noise(images, t, torch.randn_like(images))
            y = torch.where(torch.rand(len(t), device=x.device) < task.condition_drop, task.null, one.y)
            yield task.error(task.predict(run.model, noisy.x, t, y), noisy.target).sum() * x[0].numel()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss on noise, plus the weighted replay and elastic terms. Under `paper` it is C * H * W times as large."""
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
        loss = self._error(run, task, noisy, forget.y).mean()
        if self.paper:
            images = task.images(replay)
            noisy = task.add_noise(images, noisy.t, torch.randn_like(images))
            replay_loss = self._error(run, task, noisy, replay.y).mean()
        else:
            replay_loss = task.loss(run.model, replay).mean()
        loss = loss + self.replay_weight * replay_loss
        size = images[0].numel()
        if self.paper:
            return size * loss + self.elastic * self._elastic_term(run)
        return loss + self.elastic * size * self._elastic_term(run)

    @staticmethod
    def _error(run: Run, task: Diffusion, noisy: Noisy, y: Tensor) -> Tensor:
        """Return the mean squared error (B,) of the predictions under the conditions `y`."""
        return task.error(task.predict(run.model, noisy.x, noisy.t, y), noisy.target)

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
