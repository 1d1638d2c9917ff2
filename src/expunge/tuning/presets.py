"""Settings for the data sets that Expunge knows: the recipe of the original, and methods' settings.

The papers' settings were made for ResNet-18 on 45,000 images. The methods' settings here are for data where those do
not fit. All were chosen on validation data, never on the test set.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..methods.retrain import Retrain
from ..training.method import Method
from ..training.registry import find

RECIPES: dict[str, Retrain] = {
    "digits": Retrain(epochs=30, lr=0.1, lr_schedule="one_cycle", batch_size=64),
    "fashion-mnist": Retrain(epochs=12, lr=0.1, lr_schedule="one_cycle", batch_size=128),
    "cifar10": Retrain(epochs=20, lr=0.4, lr_schedule="one_cycle", batch_size=256),
}
MODELS = {"digits": "cnn", "fashion-mnist": "cnn", "cifar10": "resnet20"}

# digits has 1,294 training images: batches of 256 would leave five steps per epoch
_SMALL = {"batch_size": 64}

# (data set, scenario) -> method -> fields
# digits: 3 to 6 trials per method on seed 7, class 5 and random 10 %
SETTINGS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("digits", "class"): {
        "salun": {"lr": 0.03, "epochs": 5, **_SMALL},
        "random_label": {"lr": 0.013, "epochs": 5, **_SMALL},
        "finetune": {"lr": 0.1, **_SMALL},
        "gradient_ascent": {"lr": 3e-4, **_SMALL},
        "ugradsl": {"lr": 3e-3, "smoothing": -1.0, "epochs": 10, **_SMALL},
        "ugradsl_plus": {"lr": 1e-2, **_SMALL},
    },
    ("digits", "random"): {
        "salun": {"lr": 5e-3, "epochs": 5, **_SMALL},
        "random_label": {"lr": 5e-3, "epochs": 5, **_SMALL},
        "finetune": {"lr": 0.1, **_SMALL},
        "gradient_ascent": {"lr": 1e-3, **_SMALL},
        "ugradsl": {"lr": 0.03, "smoothing": -1.0, "epochs": 10, **_SMALL},
        "ugradsl_plus": {"lr": 3e-3, "smoothing": -1.0, **_SMALL},
    },
}


def data_name(data: str) -> str:
    """Return the name of a data spec without its place and options: "cifar10" for "cifar10:DIR?limit=5"."""
    return data.partition(":")[0].partition("?")[0]


def recipe(data: str) -> Retrain:
    """Return the training recipe for a data spec. Unknown data sets get the published recipe, `Retrain()`."""
    return RECIPES.get(data_name(data), Retrain())


def method(name: str, data: str, scenario: str) -> Method:
    """Return the method with its preset for this data spec and scenario, or with its defaults.

    Args:
        name: Name of the method.
        data: Data spec, for example "digits" or "cifar10:DIR".
        scenario: How the forget set is drawn, for example "class" or "random".
    """
    return replace(find(name)(), **SETTINGS.get((data_name(data), scenario), {}).get(name, {}))
