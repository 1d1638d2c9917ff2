"""Let a torchvision built for CUDA import beside a CPU-only torch (its pure-Python parts only)."""

import importlib.abc
import importlib.machinery
import sys


class _Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self._inner = inner

    def create_module(self, spec):
        return self._inner.create_module(spec)

    def exec_module(self, module):
        import torch

        if torch.version.cuda is None:
            lib = None
            from pathlib import Path

            # a matching CPU build defines the operators itself when its extension loads
            so = Path(module.__spec__.origin).parent.glob("_C*.so")
            try:
                for p in so:
                    torch.ops.load_library(str(p))
            except OSError:
                lib = torch.library.Library("torchvision", "DEF")
                for op in ("nms", "qnms"):
                    lib.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            module.__dict__["_cpu_ops_library"] = lib
        self._inner.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
