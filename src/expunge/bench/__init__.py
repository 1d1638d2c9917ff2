"""Run grids of experiments: read a grid file, run its jobs, and make a page of the results."""

from .scheduler import default_workers, run_jobs
from .worker import Worker

__all__ = ["Worker", "default_workers", "run_jobs"]
