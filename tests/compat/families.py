"""The families of models that the compatibility test covers: the rows of the table in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import CLASSES, Case, Family, images, tokens
from libraries import ADAPTERS, TIMM, TORCHVISION, adapter, timm_model, torchvision_model
from torch import Tensor, nn

# ---- plain torch


def plain(
    folder: Path, save: Callable[[nn.Module, Path], Any], load: Callable[[Path], Any], suffix: str
) -> Case:
    from expunge.models import build

    model = build("cnn", num_classes=CLASSES, shape=(3, 8, 8))
    file = folder / f"model{suffix}"
    save(model, file)

    def loaded(path: Path) -> nn.Module:
        fresh = build("cnn", num_classes=CLASSES, shape=(3, 8, 8))
        fresh.load_state_dict(load(path))
        return fresh

    return Case(model, "cnn", file, folder / f"out{suffix}", loaded, images(8))


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def without(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    assert all(k.startswith(prefix) for k in state)
    return {k.removeprefix(prefix): v for k, v in state.items()}


def _safetensors(folder: Path) -> Case:
    from safetensors.torch import load_file, save_file

    return plain(folder, lambda m, f: save_file(m.state_dict(), f), load_file, ".safetensors")


PLAIN = {
    ("state dict", "model.pt"): lambda d: plain(d, lambda m, f: torch.save(m.state_dict(), f), read, ".pt"),
    ("safetensors", "model.safetensors"): _safetensors,
    ("training checkpoint", "checkpoint.pth, a dict with `model`, `epoch` and an optimizer"): lambda d: plain(
        d,
        lambda m, f: torch.save({"model": m.state_dict(), "epoch": 3, "optimizer": {"lr": 0.1}}, f),
        lambda p: read(p)["model"],
        ".pth",
    ),
    ("DataParallel", "model.pt with `module.` before all names"): lambda d: plain(
        d,
        lambda m, f: torch.save(nn.DataParallel(m).state_dict(), f),
        lambda p: without("module.", read(p)),
        ".pt",
    ),
    ("torch.compile", "model.pt with `_orig_mod.` before all names"): lambda d: plain(
        d,
        lambda m, f: torch.save(torch.compile(m).state_dict(), f),
        lambda p: without("_orig_mod.", read(p)),
        ".pt",
    ),
}


# ---- Lightning


def lightning(folder: Path) -> Case:
    import lightning
    from lightning_module import Module  # type: ignore[import-not-found]

    module = Module(width=12)
    data = torch.utils.data.DataLoader([(x, 0) for x in images(8)[:4]], batch_size=2)
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, data)
    file = folder / "last.ckpt"
    trainer.save_checkpoint(file)

    def load(path: Path) -> nn.Module:
        return Module.load_from_checkpoint(path, map_location="cpu")

    return Case(module, lambda: Module(width=12).model, file, folder / "out.ckpt", load, images(8))


# ---- transformers


def hugging_face(family: str, form: str, folder: Path) -> Case:
    from tiny_families import IMAGES, auto, tiny

    model = tiny(family)
    saved, out = folder / family, folder / "out"
    model.save_pretrained(saved, **({"max_shard_size": "8KB"} if form == "shards" else {}))

    def load(path: Path) -> nn.Module:
        loaded, report = auto(family).from_pretrained(path, output_loading_info=True)
        assert not any(report.values()), report
        return loaded.float()

    side = getattr(model.config, "image_size", 32)
    x = images(side if isinstance(side, int) else side[0]) if family in IMAGES else tokens()
    return Case(model, f"hf-config:{saved}", saved, out, load, x)


IMAGE_FAMILIES = (
    "vit", "deit", "beit", "dinov2", "swin", "convnext", "resnet", "bit", "levit", "mobilenet_v2", "regnet", "poolformer",
)  # fmt: skip
TEXT_FAMILIES = (
    "bert", "roberta", "distilbert", "albert", "electra", "deberta-v2", "bart", "gpt2", "llama", "mixtral", "modernbert", "xlnet",
)  # fmt: skip


def all_families() -> list[Family]:
    """Return the rows of the table, in their order."""
    rows = [
        Family(
            "torch",
            name,
            "a built-in model, or package.module:factory",
            form,
            make,
            usual=name != "torch.compile",
        )
        for (name, form), make in PLAIN.items()
    ]
    rows.append(
        Family(
            "Lightning",
            "LightningModule",
            "package.module:factory of the inner model",
            "last.ckpt",
            lightning,
            ("lightning",),
        )
    )
    for kind, names in (("images", IMAGE_FAMILIES), ("text", TEXT_FAMILIES)):
        for name in names:
            form = "shards" if name in ("vit", "bert") else "folder"
            make = lambda d, name=name, form=form: hugging_face(name, form, d)  # noqa: E731
            shown = "the folder" + (", in shards" if form == "shards" else "")
            rows.append(
                Family(
                    f"transformers, {kind}",
                    name,
                    "hf-config:DIR",
                    shown,
                    make,
                    ("transformers",),
                    name in ("vit", "bert"),
                )
            )
    for name, kind in ADAPTERS:
        make = lambda d, name=name, kind=kind: adapter(name, kind, d)  # noqa: E731
        rows.append(
            Family(
                "peft",
                f"{kind} on {name}",
                "peft:DIR",
                "the folder of the adapter",
                make,
                ("peft", "transformers"),
                (name, kind) == ("vit", "LoRA"),
            )
        )
    for k, (name, side) in enumerate(TIMM.items()):
        suffix = (".safetensors", ".pth")[k % 2]
        make = lambda d, name=name, side=side, suffix=suffix: timm_model(name, side, suffix, d)  # noqa: E731
        rows.append(Family("timm", name, f"timm:{name}", f"model{suffix}", make, ("timm",)))
    for name, side in TORCHVISION.items():
        make = lambda d, name=name, side=side: torchvision_model(name, side, d)  # noqa: E731
        rows.append(Family("torchvision", name, f"torchvision:{name}", "model.pth", make, ("torchvision",)))
    return rows


FAMILIES = all_families()
