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
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from unittest import mock

import numpy as np
import released_diffusion
import torch
from released_code import code_in, flat, loaders, problem
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
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
            "boundary_expand": (code.boundary_expanding, {}, None),
            "fisher_forgetting": (code.get_unlearn_method("fisher_new"), {"alpha": 1e-5}, None),
            "influence": (code.Wfisher, {"alpha": 5.0}, None),
        }

        def fresh(layer):
            # boundary expand adds a class to the head
            with torch.no_grad():
                unit = problem.extra_unit()
                layer.weight[-1], layer.bias[-1] = unit[:-1], unit[-1]

        ones = lambda self, *a: self.fill_(1.0)  # noqa: E731
        for name, (method, changes, mask) in runs.items():
            model, place = problem.classifier(), 0
            sets = loaders(retained=problem.RETAINED.get(name, 20))
            args = Namespace(**{**settings, **changes})
            with (
                mock.patch.object(torch, "randint", drawn),
                mock.patch.object(np.random, "randint", lambda *a: drawn(*a).numpy()),
                mock.patch.object(torch.Tensor, "normal_", ones),
                mock.patch.object(nn.Linear, "reset_parameters", fresh),
            ):
                method(sets, model, criterion, args, *([] if mask is None else [mask]))
            # without that class
            kept = {
                n: v[: problem.CLASSES] if n.startswith("fc") else v for n, v in model.state_dict().items()
            }
            numbers[name] = flat(kept.values())
            if name == "fisher_forgetting":
                plain = problem.classifier()
                fisher.hessian(sets["retain"].dataset, plain, criterion, args)
                numbers["fisher_forgetting/fisher"] = flat(p.grad2_acc for p in plain.parameters())
    return numbers | released_diffusion.salun(folder)


def scrub(folder: Path) -> dict[str, list[float]]:
    """Two epochs of max steps, then min steps."""
    with code_in(next(folder.glob("third*/repdistiller"))):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with a clone of each repository")
    folder = parser.parse_args().folder
    parts = (salun, released_diffusion.selective_amnesia, scrub, ssd, bad_teacher)
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
