"""Tiny text-to-image pipelines of the real classes, with random weights: for the tests, made in a second, no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CLASSES = {3: "dress", 4: "coat", 5: "sandal"}  # of the DiT
WORDS = (
    "a",
    "photo",
    "of",
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)


def tokenizer(folder: Path) -> Any:
    """A real CLIPTokenizer whose vocabulary is the words above and single characters."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(33, 127)]
    pieces = [*letters, *(c + "</w>" for c in letters)]
    merges = []
    for word in WORDS:
        built = [*word[:-1], word[-1] + "</w>"]
        while len(built) > 1:
            merge = (built[0], built[1])
            if " ".join(merge) not in merges:
                merges.append(" ".join(merge))
                pieces.append("".join(merge))
            built = ["".join(merge), *built[2:]]
    vocabulary = {p: k for k, p in enumerate(dict.fromkeys([*pieces, "<|startoftext|>", "<|endoftext|>"]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def text_encoder(vocabulary: int, width: int = 32, *, projection: bool = False) -> Any:
    """A small CLIP text encoder with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def autoencoder(channels: int = 4, width: int = 16) -> Any:
    """A small VAE that halves the side once."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=8,
        scaling_factor=1.0,
        sample_size=16,
    ).eval()


def scheduler(**changes: Any) -> Any:
    """The noise levels of Stable Diffusion."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        **{
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            **changes,
        }
    )


def stable_diffusion(folder: Path, *, width: int = 16, seed: int = 0, prediction: str = "epsilon") -> Any:
    """StableDiffusionPipeline: 16 x 16 images, latents of 4 x 8 x 8."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = tokenizer(folder / "words")
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(width, 2 * width),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        return StableDiffusionPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(len(words)),
            tokenizer=words,
            unet=unet,
            scheduler=scheduler(prediction_type=prediction),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def stable_diffusion_xl(folder: Path, *, seed: int = 0) -> Any:
    """StableDiffusionXLPipeline: two text encoders, pooled embeddings and sizes as further conditions."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = tokenizer(folder / "words")
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(16, 32),
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
        )
        return StableDiffusionXLPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(len(words)),
            text_encoder_2=text_encoder(len(words), projection=True),
            tokenizer=words,
            tokenizer_2=words,
            unet=unet,
            scheduler=scheduler(),
            add_watermarker=False,
        )


def dit(*, seed: int = 0) -> Any:
    """DiTPipeline: a transformer that is told a class, and predicts a variance beside the noise."""
    from diffusers import DiTPipeline, DiTTransformer2DModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=1000,
        )  # DiTPipeline takes class 1000 for null
        return DiTPipeline(
            transformer,
            autoencoder(),
            scheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
            id2label=CLASSES,
        )


def judge() -> Any:
    """A judge of 16 x 16 images that knows nothing: three classes, random weights."""
    from torch import nn

    from expunge.audit.image_judge import Judge
    from expunge.tasks.classification import Classification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))
    return Judge(model, Classification(3), 90.0)


def features() -> Any:
    """A network that gives four features of an image."""
    from torch import nn

    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 4))


def save(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline; a DiT's class names as the published folders have them."""
    pipeline.save_pretrained(str(folder))
    if type(pipeline).__name__ == "DiTPipeline":
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**index, "id2label": CLASSES}))
    return folder
