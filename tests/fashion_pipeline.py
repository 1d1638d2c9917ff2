"""A text-to-image pipeline of the real classes, trained here on captioned Fashion-MNIST until a judge knows its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import tiny_pipelines as tiny
from expunge.audit.image_judge import Judge, train_judge
from expunge.data.split import Split
from expunge.generation.pipelines import load, save
from expunge.generation.prompted import Prompted
from expunge.generation.text_to_image import Loaded
from expunge.methods.retrain import Retrain
from expunge.methods.retrain_ema import RetrainEMA
from expunge.models import build
from expunge.pipeline.experiment import train
from expunge.sources import load as load_data
from expunge.sources import locate

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CAPTION = "a photo of a {}"


@dataclass(eq=False)
class Fashion:
    """The folder of the trained pipeline, the judge of its images, and what it was trained on."""

    folder: Path
    judge: Judge
    images: Tensor  # (N, 3, 16, 16) in [0, 1]
    labels: Tensor


def images(data: Any, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 16, 16) in [0, 1] and labels (N,): 28 x 28 padded to 32, then averaged in fours."""
    few = data.samples(torch.arange(len(data) if count is None else count))
    batch = next(few.batches(len(few)))
    return F.avg_pool2d(F.pad(batch.x, (2, 2, 2, 2)), 2).expand(-1, 3, -1, -1).contiguous(), batch.y


def train_autoencoder(vae: Any, x: Tensor, steps: int, seed: int = 0) -> None:
    """Squared error and a little KL; then the latents' scale is set so that their variance is 1."""
    optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
    draw = torch.Generator().manual_seed(seed)
    vae.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        batch = x[torch.randint(0, len(x), (64,), generator=draw)] * 2 - 1
        found = vae.encode(batch).latent_dist
        loss = F.mse_loss(vae.decode(found.sample()).sample, batch) + 1e-6 * found.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vae.eval()
    with torch.no_grad():
        spread = vae.encode(x[:512] * 2 - 1).latent_dist.mean.std().item()
    vae.register_to_config(scaling_factor=1 / spread)


def train_the_judge(count: int = 12000, seed: int = 0) -> tuple[Judge, Tensor, Tensor]:
    """A classifier of the real images at the size that the pipeline draws, and the images and labels it learned from."""
    source = load_data(locate("fashion-mnist"))
    x, y = images(source.train, count)
    real = Split.by_class((x, y), images(source.test, 2000), 1, seed=seed)
    make = lambda: build("cnn", num_classes=10, shape=(3, 16, 16))  # noqa: E731
    recipe = Retrain(epochs=4, lr=0.1, lr_schedule="one_cycle", batch_size=128)
    return train_judge(real, make, recipe, seed=seed), x, y


def build_pipeline(
    folder: Path, *, count: int = 12000, steps: int = 400, epochs: int = 6, seed: int = 0
) -> Fashion:
    """Train the judge, the autoencoder and the UNet, and write the pipeline to `folder / "pipeline"`."""
    judge, x, y = train_the_judge(count, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = tiny.stable_diffusion(folder, width=32)
        train_autoencoder(pipeline.vae, x, steps, seed)
    first = load(tiny.save(pipeline, folder / "untrained"))
    model = first.prompted([CAPTION.format(c) for c in CLASSES])
    latents = first.data(x, y, "fashion-mnist")
    split = Split.by_class(latents, (latents.x[:100].clone(), y[:100]), 1, validation=0.0, seed=seed)  # type: ignore[index]
    recipe = RetrainEMA(epochs=epochs, lr=2e-3, lr_schedule="one_cycle", batch_size=64, ema=0.995)
    run = train(model, split, recipe, first.task(len(CLASSES)), seed=seed)
    assert isinstance(run.model, Prompted)
    return Fashion(save(first, run.model, folder / "pipeline"), judge, x, y)


def draw(loaded: Loaded, prompts: list[str], count: int, *, seed: int = 0, steps: int = 20) -> Tensor:
    """Images that the pipeline draws when it is called as any user would call it."""
    found = []
    for prompt in prompts:
        out = loaded.pipeline(
            prompt,
            num_images_per_prompt=count,
            num_inference_steps=steps,
            guidance_scale=3.0,
            height=16,
            width=16,
            output_type="pt",
            generator=torch.Generator().manual_seed(seed),
        )
        found.append(out.images.float().cpu())
    return torch.cat(found)
