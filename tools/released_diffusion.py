"""Run released code for diffusion models, for `tools/released_numbers.py`."""

from __future__ import annotations

import importlib
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from unittest import mock

import torch
from released_code import code_in, flat, problem


def settings() -> Namespace:
    """The code's configuration for the tiny problem: two steps of SGD."""
    steps = Namespace(n_iters=2, gamma=1.0, lmbda=0.5, save_freq=10**6, log_freq=10**6, snapshot_freq=10**6)
    noise = Namespace(
        beta_schedule="linear", beta_start=1e-2, beta_end=0.3, num_diffusion_timesteps=problem.TIMES
    )
    images = Namespace(
        num_workers=0, n_classes=problem.CLASSES, channels=2, image_size=4, rescaled=True, uniform_dequantization=False,
        gaussian_dequantization=False,
    )  # fmt: skip
    return Namespace(
        model=Namespace(var_type="fixedlarge", type="simple", ema=False), diffusion=noise, data=images, training=steps,
        optim=Namespace(optimizer="SGD", lr=1e-3),
    )  # fmt: skip


def state() -> list[dict[str, torch.Tensor]]:
    return [{f"module.{n}": v for n, v in problem.denoiser().state_dict().items()}]


class Runner:
    """The code's runner on the tiny model, in the folder `out`, with the draws of the problem.

    Args:
        folder: Folder of the code.
        replace: {name in the code's module: what takes its place}.
        args: The code's arguments.
    """

    def __init__(self, folder: Path, replace: dict, **args):
        self.folder, self.replace, self.args = folder, replace, args
        self.models: list[torch.nn.Module] = []
        self.fisher: dict[str, torch.Tensor] = {}

    def _made(self, _) -> torch.nn.Module:
        self.models.append(problem.denoiser())
        return self.models[-1]

    def run(self, *names: str) -> torch.Tensor:
        """Call these functions of the runner, and return its noise variances."""
        calls: list[int] = []

        def noise(like):
            # the code draws for the kept images first, ours for the forgotten ones
            calls.append(0)
            return problem.values(*like.shape, seed=200 + (len(calls) - 1 ^ 1))

        load = torch.load
        with code_in(self.folder) as in_order, tempfile.TemporaryDirectory() as out:
            # the code has a module of this name
            del sys.modules["datasets"]
            code = importlib.import_module("runners.diffusion")
            replace = {"Conditional_Model": self._made, "DataLoader": in_order, **self.replace}
            for name, value in replace.items():
                setattr(code, name, value)
            runner = code.Diffusion(Namespace(ckpt_folder=out, **self.args), settings())
            for name in names:
                with (
                    # pickle reads tensors by torch.load, too
                    mock.patch.object(
                        torch, "load", lambda f, **k: state() if isinstance(f, str) else load(f, **k)
                    ),
                    mock.patch.object(torch.cuda, "device_count", lambda: 1),
                    mock.patch.object(torch, "randn_like", problem.stream() if name == "save_fim" else noise),
                    mock.patch.object(torch, "rand", lambda size, **_: problem.values(*size, seed=5) + 0.5),
                    mock.patch.object(torch, "randint", lambda low, high, size: problem.times(size[0])),
                ):
                    getattr(runner, name)()
                if name == "save_fim":
                    self.fisher = code.pickle.loads(Path(out, "fisher_dict.pkl").read_bytes())
        return runner.betas


def selective_amnesia(folder: Path) -> dict[str, list[float]]:
    """The Fisher information, and the parameters after two steps of SGD."""
    x, y = problem.replayed()
    replace = {
        "ImageFolder": lambda *a, **k: [(x[i], int(y[i])) for i in range(len(x))],
        "all_but_one_class_path_dataset": lambda *a: [(x, y)],
    }
    runner = Runner(folder / "ddpm", replace, n_chunks=2, label_to_forget=problem.FORGOTTEN)
    betas = runner.run("save_fim", "train_forget")
    return {
        "selective_amnesia/signal": flat([(1 - betas).cumprod(0)]),
        "selective_amnesia/fisher": flat(runner.fisher.values()),
        "selective_amnesia": flat(runner.models[-1].parameters()),
    }


def salun(folder: Path) -> dict[str, list[float]]:
    """The parameters after two steps of SGD, without a mask."""
    x, y = problem.replayed()
    forget = problem.forgotten_images(), torch.full((4,), problem.FORGOTTEN)
    replace = {"get_forget_dataset": lambda *a: ([(x, y)], [forget])}
    args = {"label_to_forget": problem.FORGOTTEN, "mask_path": None, "method": "rl", "alpha": problem.ALPHA}
    runner = Runner(folder / "DDPM", replace, **args)
    runner.run("saliency_unlearn")
    return {"salun/diffusion": flat(runner.models[-1].parameters())}
