"""Run released code on the problems of `tests/released_problem.py`, and record the resulting numbers.

    git clone each of REPOSITORIES into DIR/NAME, at the commit below
    OMP_NUM_THREADS=1 python tools/released_numbers.py DIR

It writes `tests/fixtures/released.json`, with which `tests/test_released_code.py` compares our methods. It needs torch, numpy
and tqdm. None of the code's other imports matters here, so stand-ins take their place. Data loaders do not shuffle, random
draws follow the formulas of the problems, and `.cuda()` does nothing. All else is the released code, in double precision.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import released_problem as problem  # noqa: E402

OUT = ROOT / "tests" / "fixtures" / "released.json"
REPOSITORIES = {
    "Unlearn-Saliency": ("OPTML-Group/Unlearn-Saliency", "a6e89fd17ff737c24c6aa16c9574469a234ffd91"),
    "selective-amnesia": ("clear-nus/selective-amnesia", "b736571c2a4d75c5c9a1fdbbf94ba6c9d0faa7b7"),
    "SCRUB": ("meghdadk/SCRUB", "98ffb1196ffbec2665092598c13ad3b6ec3d095d"),
    "selective-synaptic-dampening": (
        "if-loops/selective-synaptic-dampening",
        "cdfdc0e35c1908e032a6e150d882b0fa17833f85",
    ),
    "bad-teaching-unlearning": (
        "vikram2000b/bad-teaching-unlearning",
        "f1aa988f71cccf1be6d50e0c6f7b2b905e4c9126",
    ),
}
STAND_INS = [
    "torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets", "torchvision.models",
    "torchvision.utils", "matplotlib", "matplotlib.pyplot", "datasets", "datasets.load", "imagenet", "dataset", "models",
    "models.diffusion", "models.ema", "pruner", "trainer", "wandb", "seaborn", "scipy.stats", "PIL",
]  # fmt: skip


def flat(tensors) -> list[float]:
    """Return all elements of floating-point tensors as one list."""
    return [v for t in tensors if t.is_floating_point() for v in t.detach().double().flatten().tolist()]


@contextmanager
def code_in(folder: Path):
    """Import from `folder` meanwhile, with stand-ins for what is not installed, and without any shuffling."""
    sys.path.insert(0, str(folder))
    sys.modules.update({name: mock.MagicMock() for name in STAND_INS})
    in_order = lambda data, batch_size=1, **_: DataLoader(data, batch_size=batch_size)  # noqa: E731
    with (
        mock.patch.object(torch.Tensor, "cuda", lambda self, *a, **k: self),
        mock.patch.object(torch.utils.data, "DataLoader", in_order),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield in_order
    sys.path.remove(str(folder))
    # the repositories have modules of the same names
    for name, module in list(sys.modules.items()):
        if name in STAND_INS or str(getattr(module, "__file__", "")).startswith(str(folder)):
            sys.modules.pop(name, None)


class Labelled(torch.utils.data.Dataset):
    """Samples whose labels the released code may replace."""

    def __init__(self, x, y):
        self.data, self.targets = x, y.numpy()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i], int(self.targets[i])


def loaders(batch_size: int = problem.BATCH, retained: int = 20) -> dict[str, DataLoader]:
    x, y = problem.training_samples(retained)
    forget = y == problem.FORGOTTEN
    sets = {"forget": Labelled(x[forget], y[forget]), "retain": Labelled(x[~forget], y[~forget])}
    return {name: DataLoader(data, batch_size=batch_size) for name, data in sets.items()}


def salun(folder: Path) -> dict[str, list[float]]:
    """Masks, and the models of the methods in SalUn's classification code."""
    settings = dict(
        unlearn_epochs=2, unlearn_lr=0.05, momentum=0.9, weight_decay=5e-4, decreasing_lr="91,136", rewind_epoch=0, warmup=0,
        imagenet_arch=False, print_freq=10**6, num_classes=problem.CLASSES, dataset="cifar10", batch_size=problem.BATCH, gpu=0,
        alpha=0.01, no_l1_epochs=0, mask_ratio=0.5, class_to_replace=problem.FORGOTTEN, num_indexes_to_replace=4500, unlearn="",
    )  # fmt: skip
    numbers: dict[str, list[float]] = {}
    place = 0

    def drawn(low, high, size):
        nonlocal place
        start, place = place, place + int(np.prod(size))
        return problem.labels(start, place - start).view(tuple(size))

    with code_in(folder / "Classification"), tempfile.TemporaryDirectory() as out:
        generate_mask = importlib.import_module("generate_mask")
        code = importlib.import_module("unlearn")
        fisher = importlib.import_module("unlearn.fisher")
        criterion = nn.CrossEntropyLoss()
        generate_mask.save_gradient_ratio(
            loaders(), problem.classifier(), criterion, Namespace(**settings, save_dir=out)
        )
        masks = {i: torch.load(f"{out}/with_{i / 10}.pt") for i in range(1, 11)}
        # one number for each parameter: in how many of the ten masks it is
        numbers["salun/masks"] = flat(sum(m[n] for m in masks.values()).double() for n in masks[1])
        runs = {
            "random_label": (code.RL, {}, None),
            "salun": (code.RL, {}, masks[5]),
            "salun_soft": (code.RL_proximal, {}, None),
            "gradient_ascent": (code.GA, {"unlearn_lr": 0.01}, None),
            "finetune": (code.FT, {}, None),
            "l1_sparse": (code.FT_l1, {}, None),
            "boundary_shrink": (code.boundary_shrink, {}, None),
            "fisher_forgetting": (code.get_unlearn_method("fisher_new"), {"alpha": 1e-5}, None),
            "influence": (code.Wfisher, {"alpha": 5.0}, None),
        }
        ones = lambda self, *a: self.fill_(1.0)  # noqa: E731
        for name, (method, changes, mask) in runs.items():
            model, place = problem.classifier(), 0
            sets = loaders(retained=problem.RETAINED.get(name, 20))
            args = Namespace(**{**settings, **changes})
            with (
                mock.patch.object(torch, "randint", drawn),
                mock.patch.object(np.random, "randint", lambda *a: drawn(*a).numpy()),
                mock.patch.object(torch.Tensor, "normal_", ones),
            ):
                method(sets, model, criterion, args, *([] if mask is None else [mask]))
            numbers[name] = flat(model.state_dict().values())
            if name == "fisher_forgetting":
                plain = problem.classifier()
                fisher.hessian(sets["retain"].dataset, plain, criterion, args)
                numbers["fisher_forgetting/fisher"] = flat(p.grad2_acc for p in plain.parameters())
    return numbers


def scrub(folder: Path) -> dict[str, list[float]]:
    """Two epochs of max steps, then min steps."""
    with code_in(folder / "thirdparty" / "repdistiller"):
        loops = importlib.import_module("helper.loops")
        divergence = importlib.import_module("distiller_zoo.KD").DistillKL(problem.TEMPERATURE)
        student, teacher, sets = problem.classifier(), problem.classifier(), loaders()
        optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        opt = Namespace(distill="kd", gamma=0.99, alpha=0.3, beta=0, print_freq=10**6)
        for epoch in range(2):
            for name, split in (("forget", "maximize"), ("retain", "minimize")):
                criteria = [nn.CrossEntropyLoss(), divergence, divergence]
                loops.train_distill(
                    epoch, sets[name], [student, teacher], None, criteria, optimizer, opt, split, quiet=True
                )
    return {"scrub": flat(student.state_dict().values())}


def ssd(folder: Path) -> dict[str, list[float]]:
    """Importances of the forget set and of all samples, and the dampened model."""
    with code_in(folder / "src"):
        model = problem.classifier()
        names = ["lower_bound", "exponent", "magnitude_diff", "min_layer", "max_layer", "forget_threshold"]
        parameters = dict.fromkeys(names, 1) | {"dampening_constant": 0.7, "selection_weighting": 1.3}
        code = importlib.import_module("ssd")
        perturber = code.ParameterPerturber(
            model, torch.optim.SGD(model.parameters(), lr=0.1), "cpu", parameters
        )
        x, y = problem.training_samples()
        of = {}
        for name, chosen in (
            ("forget", y == problem.FORGOTTEN),
            ("all", torch.ones_like(y, dtype=torch.bool)),
        ):
            data = torch.utils.data.TensorDataset(x[chosen], y[chosen], y[chosen])
            of[name] = perturber.calc_importance(DataLoader(data, batch_size=problem.BATCH))
        perturber.modify_weight(of["all"], of["forget"])
    return {"ssd": flat(model.state_dict().values())}


def bad_teacher(folder: Path) -> dict[str, list[float]]:
    """The gradient of its loss on forget samples and retain samples together."""
    with code_in(folder):
        code = importlib.import_module("unlearn")
        model, (x, y) = problem.classifier(), problem.training_samples()
        with torch.no_grad():
            good, bad = problem.classifier()(x), problem.set_to_values(problem.Classifier(), seed=1)(x)
        loss = code.UnlearnerLoss(model(x), (y == problem.FORGOTTEN).long(), good, bad, 1)
        loss.backward()
    return {"bad_teacher/gradient": flat(p.grad for p in model.parameters())}


def selective_amnesia(folder: Path) -> dict[str, list[float]]:
    """The Fisher information, and the parameters after two steps of SGD."""
    x, y = problem.replayed()
    state = [{f"module.{n}": v for n, v in problem.denoiser().state_dict().items()}]
    training = Namespace(
        n_iters=2, gamma=1.0, lmbda=0.5, save_freq=10**6, log_freq=10**6, snapshot_freq=10**6
    )
    config = Namespace(
        model=Namespace(var_type="fixedlarge", type="simple", ema=False),
        diffusion=Namespace(
            beta_schedule="linear", beta_start=1e-2, beta_end=0.3, num_diffusion_timesteps=problem.TIMES
        ),
        data=Namespace(num_workers=0, n_classes=problem.CLASSES, channels=2, image_size=4, rescaled=True)
        , training=training, optim=Namespace(optimizer="SGD", lr=1e-3),
    )  # fmt: skip
    config.data.uniform_dequantization = config.data.gaussian_dequantization = False
    models, calls = [], []

    def made(_):
        models.append(problem.denoiser())
        return models[-1]

    def noise(like):
        # the code draws for the replayed images first, ours for the forgotten condition
        calls.append(like)
        return problem.values(*like.shape, seed=200 + (len(calls) - 1 ^ 1))

    with code_in(folder / "ddpm") as in_order, tempfile.TemporaryDirectory() as out:
        del sys.modules["datasets"]
        code = importlib.import_module("runners.diffusion")
        code.Conditional_Model, code.DataLoader = made, in_order
        code.ImageFolder = lambda *a, **k: [(x[i], int(y[i])) for i in range(len(x))]
        code.all_but_one_class_path_dataset = lambda *a: [(x, y)]
        args = Namespace(ckpt_folder=out, n_chunks=2, label_to_forget=problem.FORGOTTEN)
        runner = code.Diffusion(args, config)
        # pickle reads tensors by torch.load, too
        load = torch.load
        with mock.patch.object(torch, "load", lambda f, **k: state if isinstance(f, str) else load(f, **k)):
            with (
                mock.patch.object(torch.cuda, "device_count", lambda: 1),
                mock.patch.object(torch, "randn_like", problem.stream()),
            ):
                runner.save_fim()
            fisher = code.pickle.loads(Path(out, "fisher_dict.pkl").read_bytes())
            with (
                mock.patch.object(torch, "randn_like", noise),
                mock.patch.object(torch, "rand", lambda size, **_: problem.values(*size, seed=5) + 0.5),
                mock.patch.object(torch, "randint", lambda low, high, size: problem.times(size[0])),
            ):
                runner.train_forget()
    return {
        "selective_amnesia/signal": flat([(1 - runner.betas).cumprod(0)]),
        "selective_amnesia/fisher": flat(fisher.values()),
        "selective_amnesia": flat(models[-1].parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with a clone of each repository")
    folder = parser.parse_args().folder
    parts = (salun, selective_amnesia, scrub, ssd, bad_teacher)
    numbers: dict[str, list[float]] = {}
    for (name, (repository, commit)), part in zip(REPOSITORIES.items(), parts, strict=True):
        here = subprocess.check_output(
            ["git", "-C", str(folder / name), "rev-parse", "HEAD"], text=True
        ).strip()
        if here != commit:
            sys.exit(f"{folder / name} is at {here}; check out commit {commit} of {repository}.")
        numbers |= part(folder / name)
    lines = [f' "{key}": {json.dumps(value)}' for key, value in numbers.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {len(numbers)} lists of numbers to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
