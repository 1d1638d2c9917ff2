"""Run a method on a model: the base classes of methods, the training loop, its guard, and resuming a run."""
