"""One system of others.py in a process of its own: others_worker.py SYSTEM WORK ROUND [FOLDER ...]."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimizer imports it otherwise: 1.5 s inside the first one's clock, whoever it is
from others_given import IntegerTargets, cpu_only, empty, loader, package, sets
from torch import nn

Phases = dict[str, dict[str, float]]


class Clock:
    """Wall and processor seconds of named phases."""

    def __init__(self) -> None:
        self.found: Phases = {"wall": {}, "cpu": {}}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.found["wall"][name] = time.perf_counter() - wall
        self.found["cpu"][name] = time.process_time() - cpu

    def total(self) -> Phases:
        for clock in self.found.values():
            clock["total"] = sum(clock.values())
        return self.found


def expunge(settings: dict[str, str], clock: Clock, seed: int, amp: str = "off") -> nn.Module:
    """Ours: mask, unlearning and audit by the public functions, memory kept as the command line keeps it."""
    from others import Options, model_of, the_split

    from expunge import Compute, SalUn, audit, keep_freed_memory, saliency_mask, unlearn

    keep_freed_memory()
    options = Options(data="", work=Path(settings["work"]), seed=int(settings["seed"]))
    (split, task), model = the_split(options), model_of(options, "original")
    compute = Compute(channels_last=amp == "bf16", amp=amp)  # type: ignore[arg-type]
    method = SalUn(
        epochs=int(settings["epochs"]), batch_size=int(settings["batch_size"]), lr=float(settings["lr"])
    )
    with clock.phase("mask"):
        mask = saliency_mask(model, split.forget, task, 0.5)
        mask.save(options.work / "mask.safetensors")
    with clock.phase("unlearn"):
        result = unlearn(model, split, method, task, mask=mask, seed=seed, compute=compute)
    with clock.phase("audit"):
        audit(result, split, task, compute=compute)
    return result


def expunge_bf16(settings: dict[str, str], clock: Clock, seed: int) -> nn.Module:
    """Ours with bfloat16 arithmetic and channels-last storage."""
    return expunge(settings, clock, seed, "bf16")


# ---- the others, called as their own entry scripts call them


def salun(settings: dict[str, str], clock: Clock, seed: int) -> nn.Module:
    """The released classification code: generate_mask.py, then main_random.py --unlearn RL with mask 0.5."""
    cpu_only()
    sys.path.insert(0, str(Path(settings["salun"]) / "Classification"))
    empty("datasets.load", load_dataset=None)
    sys.modules["datasets"].load = sys.modules["datasets.load"]  # type: ignore[attr-defined]
    package("trainer", Path(settings["salun"]) / "Classification" / "trainer", train=None, validate=None)
    import trainer.val

    sys.modules["trainer"].validate = trainer.val.validate  # type: ignore[attr-defined]
    import evaluation
    import generate_mask
    import unlearn
    import utils
    from trainer.val import validate

    model, data = sets(settings)
    args = argparse.Namespace(
        unlearn_lr=float(settings["lr"]), momentum=0.9, weight_decay=5e-4, save_dir=settings["work"], dataset="cifar10",
        num_classes=10, warmup=0, print_freq=50, decreasing_lr="91,136", rewind_epoch=0, imagenet_arch=False, unlearn="RL",
        unlearn_epochs=int(settings["epochs"]), batch_size=int(settings["batch_size"]), gpu=0,
    )  # fmt: skip
    loaders = OrderedDict(
        retain=loader(data["retain"], settings, True), forget=loader(data["forget"], settings, True),
        val=loader(data["validation"], settings, False), test=loader(data["test"], settings, False),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    with clock.phase("mask"):
        generate_mask.save_gradient_ratio(loaders, model, criterion, args)
    with clock.phase("unlearn"):
        mask = torch.load(Path(args.save_dir) / "with_0.5.pt")
        unlearn.get_unlearn_method("RL")(loaders, model, criterion, args, mask)
    with clock.phase("audit"):
        for one in loaders.values():
            utils.dataset_convert_to_test(one.dataset, args)
            validate(one, model, criterion, args)
        first = torch.utils.data.Subset(data["retain"], range(min(len(data["test"]), len(data["retain"]))))
        evaluation.SVC_MIA(
            shadow_train=loader(first, settings, False), shadow_test=loaders["test"], target_train=None,
            target_test=loaders["forget"], model=model,
        )  # fmt: skip
    return model


def deepunlearn(settings: dict[str, str], clock: Clock, seed: int) -> nn.Module:
    """deepunlearn's SaliencyUnlearning (momentum and weight decay set as SalUn's), then its accuracies and its attack."""
    cpu_only()
    sys.path.insert(0, settings["deepunlearn"])
    empty("torch.utils.tensorboard", SummaryWriter=None)
    import munl.evaluation.losses as losses
    import munl.unlearning.salun as theirs
    from munl.evaluation.accuracy import compute_accuracy
    from munl.evaluation.common import extract_predictions
    from munl.evaluation.membership_inference_attack import evaluate_mia_on_model

    losses.compute_losses.__defaults__ = (torch.device("cpu"),)
    theirs.get_num_classes_from_model = lambda model: 10
    model, data = sets(settings)
    rates = {
        "type": "torch.optim.SGD",
        "learning_rate": float(settings["lr"]),
        "momentum": 0.9,
        "weight_decay": 5e-4,
    }
    config = theirs.DefaultSaliencyUnlearningConfig(
        num_epochs=int(settings["epochs"]), batch_size=int(settings["batch_size"]), optimizer=rates
    )
    from omegaconf import OmegaConf

    learner = theirs.SaliencyUnlearning(OmegaConf.structured(config), device=torch.device("cpu"))
    mask, relabel = theirs.save_gradient_ratio, learner.unlearn
    theirs.save_gradient_ratio = timed(mask, taken := {})
    with clock.phase("unlearn"):
        model = relabel(model, *(loader(data[n], settings, True) for n in ("retain", "forget", "validation")))
    for kind in ("wall", "cpu"):  # the mask is made inside
        clock.found[kind]["mask"] = taken[kind]
        clock.found[kind]["unlearn"] -= taken[kind]
    from torchvision import transforms

    plain = {n: loader(data[n], settings, False) for n in ("retain", "forget", "test")}
    with clock.phase("audit"), torch.no_grad():
        for one in plain.values():
            one.dataset.transform = transforms.ToTensor()
            compute_accuracy(*extract_predictions(model, IntegerTargets.of(one), torch.device("cpu")))
        evaluate_mia_on_model(model, plain["test"], plain["forget"])
    return model


def timed(function: Callable[..., Any], into: dict[str, float]) -> Callable[..., Any]:
    def inner(*args: Any, **options: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        found = function(*args, **options)
        into.update(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
        return found

    return inner


def torchunlearn(settings: dict[str, str], clock: Clock, seed: int) -> nn.Module:
    """torchunlearn's SalUn trainer (momentum and weight decay set as SalUn's), then its evaluator with its cap of 1,000 samples."""
    cpu_only()
    sys.path.insert(0, settings["torchunlearn"])
    import torchunlearn as theirs
    from torchunlearn.utils.data import MergedLoaders
    from torchvision import transforms

    model, data = sets(settings)
    wrapped = theirs.RobModel(model, n_classes=10)
    pair = {
        "Retain": loader(data["retain"], settings, True),
        "Forget": loader(data["forget"], settings, True),
    }
    trainer = theirs.SalUn(wrapped, saliency_threshold=0.5)
    epochs = int(settings["epochs"])
    with clock.phase("mask"):
        trainer.compute_saliency_mask(pair["Forget"])
    with clock.phase("unlearn"):
        trainer.setup(optimizer=f"SGD(lr={settings['lr']}, momentum=0.9, weight_decay=5e-4)", n_epochs=epochs)
        trainer.fit(train_loaders=MergedLoaders(pair), n_epochs=epochs)
    with clock.phase("audit"):
        for one in pair.values():
            one.dataset.transform = transforms.ToTensor()
        theirs.UnlearningEvaluator(wrapped, pair, {"Test": loader(data["test"], settings, False)}).evaluate()
    return model


def erasus(settings: dict[str, str], clock: Clock, seed: int) -> nn.Module:
    """erasus' saliency_unlearning (gradient ascent through a mask, then retain) at its own rate, then its attack."""
    cpu_only()
    sys.path.insert(0, settings["erasus"])
    from erasus.metrics.forgetting.mia import MIAMetric
    from erasus.strategies.gradient_methods.saliency_unlearning import SaliencyUnlearningStrategy

    model, data = sets(settings)
    strategy = SaliencyUnlearningStrategy(saliency_threshold=0.5)
    forget, retain = (loader(data[n], settings, True) for n in ("forget", "retain"))
    with clock.phase("unlearn"):
        strategy.unlearn(model, forget, retain, epochs=int(settings["epochs"]))
    with clock.phase("audit"):
        MIAMetric().compute(model, forget, retain)
    return model


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(system: str, work: str, turn: str, *extra: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    sys.path.extend(extra)
    settings = json.loads((Path(work) / "options.json").read_text())
    torch.set_num_threads(int(settings["threads"]))
    seed = int(settings["seed"]) + int(turn)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    clock = Clock()
    model = globals()[system.replace("-", "_")](settings, clock, seed)
    torch.save(model.state_dict(), Path(work) / f"result_{system}.pt")
    (Path(work) / f"result_{system}.json").write_text(json.dumps({**clock.total(), "peak_bytes": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
