"""Expunge: remove what a trained PyTorch model learned from given data, and measure how close it comes to retraining."""

from .audit import AuditResult, audit
from .data.batch import Batch, CropFlip, Normalize
from .data.samples import Data, Samples
from .data.split import Split
from .data.stream import StreamData
from .data.tensors import TensorData
from .errors import CheckpointError, ExpungeError, MaskError, ModelError, SplitError
from .masks.mask import full_mask, inverted_mask, masked, random_mask, saliency_mask
from .masks.mask_file import Mask, overlap
from .methods._class_weight_masking import mask_class_weights
from .methods.nhle import NHLE
from .methods.retrain import Retrain
from .methods.salun import SalUn
from .methods.ugradsl import UGradSL
from .methods.ugradsl_plus import UGradSLPlus
from .pipeline.experiment import experiment, train
from .records.record import Record
from .tasks.classification import Classification
from .tasks.task import Task
from .torch_utils.allocator import keep_freed_memory
from .training.execute import execute, unlearn
from .training.method import GradientMethod, Method
from .training.registry import find, names
from .training.run import Compute, Run
from .version import __version__

__all__ = [
    "__version__",
    "NHLE",
    "AuditResult",
    "Batch",
    "CheckpointError",
    "Classification",
    "Compute",
    "CropFlip",
    "Data",
    "ExpungeError",
    "GradientMethod",
    "Mask",
    "MaskError",
    "Method",
    "ModelError",
    "Normalize",
    "Record",
    "Retrain",
    "Run",
    "SalUn",
    "Samples",
    "Split",
    "SplitError",
    "StreamData",
    "Task",
    "TensorData",
    "UGradSL",
    "UGradSLPlus",
    "audit",
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
