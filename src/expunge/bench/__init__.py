"""Compare methods: `bench` from Python, and grids of experiments from files."""

from .compare import bench
from .comparison import Comparison
from .scheduler import default_workers, run_jobs
from .worker import Worker

__all__ = ["Comparison", "Worker", "bench", "default_workers", "run_jobs"]
