"""Expunge: remove what a trained PyTorch model learned from given data, and measure how close it comes to retraining.

The names below are imported at their first use, so that `import expunge` and `expunge --help` do not import torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audit import AuditResult, Measure, audit
    from .bench.compare import bench
    from .bench.comparison import Comparison
    from .data.batch import Batch
    from .data.samples import Data, Samples
    from .data.split import Split
    from .data.stream import StreamData
    from .data.tensors import TensorData
    from .data.transforms import CropFlip, Normalize
    from .errors import CheckpointError, ExpungeError, MaskError, ModelError, SplitError, UnlearningFailed
    from .masks.mask import full_mask, inverted_mask, masked, random_mask, saliency_mask
    from .masks.mask_file import Mask, overlap
    from .methods._class_weight_masking import mask_class_weights
    from .methods.nhle import NHLE
    from .methods.retrain import Retrain
    from .methods.salun import SalUn
    from .methods.ugradsl import UGradSL
    from .methods.ugradsl_plus import UGradSLPlus
    from .pipeline.experiment import experiment, train
    from .projects.project import Project
    from .projects.session import Session
    from .records.record import Record
    from .tasks.classification import Classification
    from .tasks.task import Task
    from .torch_utils.allocator import keep_freed_memory
    from .training.execute import execute
    from .training.method import GradientMethod, Method
    from .training.method_check import check_method
    from .training.registry import find, names
    from .training.run import Compute, Run
    from .tuning.one_call import unlearn

from .version import __version__ as __version__

__all__ = [
    "NHLE",
    "AuditResult",
    "Batch",
    "CheckpointError",
    "Classification",
    "Comparison",
    "Compute",
    "CropFlip",
    "Data",
    "ExpungeError",
    "GradientMethod",
    "Mask",
    "MaskError",
    "Measure",
    "Method",
    "ModelError",
    "Normalize",
    "Project",
    "Record",
    "Retrain",
    "Run",
    "SalUn",
    "Samples",
    "Session",
    "Split",
    "SplitError",
    "StreamData",
    "Task",
    "TensorData",
    "UGradSL",
    "UGradSLPlus",
    "UnlearningFailed",
    "audit",
    "bench",
    "check_method",
    "execute",
    "experiment",
    "find",
    "full_mask",
    "inverted_mask",
    "keep_freed_memory",
    "mask_class_weights",
    "masked",
    "names",
    "overlap",
    "random_mask",
    "saliency_mask",
    "train",
    "unlearn",
]

# module -> the names that come from it; a test compares this table with the imports above
_MODULES = {
    "audit": ("AuditResult", "Measure", "audit"),
    "bench.compare": ("bench",),
    "bench.comparison": ("Comparison",),
    "data.batch": ("Batch",),
    "data.transforms": ("CropFlip", "Normalize"),
    "data.samples": ("Data", "Samples"),
    "data.split": ("Split",),
    "data.stream": ("StreamData",),
    "data.tensors": ("TensorData",),
    "errors": (
        "CheckpointError",
        "ExpungeError",
        "MaskError",
        "ModelError",
        "SplitError",
        "UnlearningFailed",
    ),
    "masks.mask": ("full_mask", "inverted_mask", "masked", "random_mask", "saliency_mask"),
    "masks.mask_file": ("Mask", "overlap"),
    "methods._class_weight_masking": ("mask_class_weights",),
    "methods.nhle": ("NHLE",),
    "methods.retrain": ("Retrain",),
    "methods.salun": ("SalUn",),
    "methods.ugradsl": ("UGradSL",),
    "methods.ugradsl_plus": ("UGradSLPlus",),
    "pipeline.experiment": ("experiment", "train"),
    "projects.project": ("Project",),
    "projects.session": ("Session",),
    "records.record": ("Record",),
    "tasks.classification": ("Classification",),
    "tasks.task": ("Task",),
    "torch_utils.allocator": ("keep_freed_memory",),
    "training.execute": ("execute",),
    "training.method": ("GradientMethod", "Method"),
    "training.method_check": ("check_method",),
    "training.registry": ("find", "names"),
    "training.run": ("Compute", "Run"),
    "tuning.one_call": ("unlearn",),
}
_MODULE_OF = {name: module for module, names_of_module in _MODULES.items() for name in names_of_module}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keep `expunge.audit` and `expunge.bench` the functions, although packages of these names hold their code.

    When Python imports a package inside this one, it sets the attribute of that name. A property has precedence over it.
    """

    @property
    def audit(self) -> Any:
        return importlib.import_module(".audit", __name__).audit

    @audit.setter
    def audit(self, value: Any) -> None:
        """Ignore the package that the import system sets here."""

    @property
    def bench(self) -> Any:
        return importlib.import_module(".bench.compare", __name__).bench

    @bench.setter
    def bench(self, value: Any) -> None:
        """Ignore the package that the import system sets here."""


sys.modules[__name__].__class__ = _Package
