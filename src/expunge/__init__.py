"""Expunge: remove what a trained PyTorch model learned from given data, and measure how close it comes to retraining."""

from .audit import AuditResult, audit
from .classification import Classification
from .data import Batch, CropFlip, Data, Normalize, Samples, StreamData, TensorData
from .errors import CheckpointError, ExpungeError, MaskError, ModelError, SplitError
from .experiment import experiment, train
from .mask import Mask, full_mask, inverted_mask, masked, overlap, random_mask, saliency_mask
from .memory import keep_freed_memory
from .method import GradientMethod, Method, execute, find, names, unlearn
from .methods.nhle import NHLE, mask_class_weights
from .methods.retrain import Retrain
from .methods.salun import SalUn
from .methods.ugradsl import UGradSL
from .methods.ugradsl_plus import UGradSLPlus
from .record import Record
from .run import Compute, Run
from .split import Split
from .task import Task

__version__ = "0.1.0"
__all__ = [
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
