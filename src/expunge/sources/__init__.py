"""Data by name: standard data sets, folders of images, tables of texts, NumPy files and the user's own functions."""

from . import formats
from .loading import load
from .preview import Preview, preview
from .source import Source
from .spec import check_spec, locate
from .standard_sets import CIFAR10_CLASSES, FASHION_CLASSES

__all__ = [
    "CIFAR10_CLASSES",
    "FASHION_CLASSES",
    "Preview",
    "Source",
    "check_spec",
    "formats",
    "load",
    "locate",
    "preview",
]
