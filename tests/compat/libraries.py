"""Models of timm, torchvision and peft, each as its own library makes, saves and loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from cases import CLASSES, Case, images, tokens
from torch import nn

# ---- timm and torchvision


def timm_model(name: str, side: int, suffix: str, folder: Path) -> Case:
    import timm

    from expunge.models import build

    spec = f"timm:{name}"
    model = build(spec, num_classes=CLASSES, shape=(3, side, side))
    # the options that timm needs for images of another size
    size = {"img_size": (side, side)} if timm.models.get_pretrained_cfg(name).fixed_input_size else {}
    file = folder / f"model{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), file)
    else:
        torch.save(model.state_dict(), file)

    def load(path: Path) -> nn.Module:
        return timm.create_model(name, num_classes=CLASSES, checkpoint_path=str(path), **size)

    return Case(load(file), spec, file, folder / f"out{suffix}", load, images(side))


TIMM = {
    "vit_tiny_patch16_224": 32, "deit_tiny_distilled_patch16_224": 32, "resnet10t": 32, "mobilenetv3_small_050": 32,
    "test_efficientnet": 32, "convnext_atto": 32, "regnetx_002": 32, "tinynet_e": 32, "test_byobnet": 32, "test_vit": 32,
    "test_nfnet": 64, "levit_128s": 224,
}  # fmt: skip


def torchvision_model(name: str, side: int, folder: Path) -> Case:
    import torchvision

    from expunge.models import build

    spec = f"torchvision:{name}"
    model = build(spec, num_classes=CLASSES, shape=(3, side, side))
    file = folder / "model.pth"
    torch.save(model.state_dict(), file)

    def load(path: Path) -> nn.Module:
        options: dict[str, Any] = (
            {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
        )
        fresh = torchvision.models.get_model(name, num_classes=CLASSES, **options)
        fresh.load_state_dict(torch.load(path, weights_only=True))
        return fresh

    return Case(load(file), spec, file, folder / "out.pth", load, images(side))


TORCHVISION = {"resnet18": 32, "mobilenet_v3_small": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 64, "mnasnet0_5": 32,
               "regnet_y_400mf": 32, "efficientnet_b0": 32, "densenet121": 32, "googlenet": 64}  # fmt: skip


# ---- peft


def adapter(family: str, kind: str, folder: Path) -> Case:
    import peft

    from tiny_families import IMAGES, auto, tiny

    tiny(family).save_pretrained(folder / "base")

    def base() -> Any:
        return auto(family).from_pretrained(folder / "base")

    targets = [
        n for n, m in base().named_modules() if isinstance(m, nn.Linear) and ("query" in n or "q_proj" in n)
    ]
    options: dict[str, Any] = {"target_modules": targets, "modules_to_save": ["classifier"]}
    if kind == "IA3":
        config: Any = peft.IA3Config(feedforward_modules=[], **options)
    else:
        config = peft.LoraConfig(r=2, use_dora=kind == "DoRA", **options)
    model = peft.get_peft_model(base(), config)
    # a fresh adapter changes nothing
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    saved, out = folder / "adapter", folder / "out"
    model.save_pretrained(saved)

    def load(path: Path) -> nn.Module:
        return peft.PeftModel.from_pretrained(base(), path)

    return Case(model, f"peft:{saved}", saved, out, load, images(32) if family in IMAGES else tokens())


ADAPTERS = (("bert", "LoRA"), ("vit", "LoRA"), ("vit", "DoRA"), ("bert", "IA3"))
