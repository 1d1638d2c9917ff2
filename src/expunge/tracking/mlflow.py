"""Write runs to MLflow: a database such as sqlite, or a server."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .tracker import Result, Value

# MLflow takes at most so many values in one call, and texts of at most so many characters
MOST_VALUES, LONGEST = 100, 500
# How long a call waits for a server, in seconds, and how often it tries again. MLflow's own are 120 seconds and 7 times.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}


class MLflow:
    """A tracker that writes each run into an experiment of MLflow.

    It uses MLflow's client, which adds no tags of its own: no command line, no user name, no git commit. A server that does not
    answer is given up after about ten seconds, unless you set MLFLOW_HTTP_REQUEST_TIMEOUT (seconds) and
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.

    Args:
        uri: Tracking URI: "sqlite:///runs.db", or "http://host:5000". Name and password of a server belong into MLflow's
            environment variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
        experiment: Name of the experiment. It is made if it is missing.

    Attributes:
        run_id: The id that MLflow gave to the last run.
    """

    def __init__(self, uri: str, experiment: str = "expunge"):
        self.uri, self.experiment = uri, experiment
        self.run_id = ""
        self._client: Any = None

    def start(self, name: str, settings: Mapping[str, Value]) -> None:
        """Begin a run, with the settings as its parameters."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        with _patience():
            self._client = client = MlflowClient(tracking_uri=self.uri)
            known = client.get_experiment_by_name(self.experiment)
            experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
            self.run_id = client.create_run(experiment, run_name=name).info.run_id
        self._batches("params", [Param(_name(k), str(v)[:LONGEST]) for k, v in settings.items()])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value as a metric."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._batches("metrics", [Metric(_name(k), float(v), now, step) for k, v in values.items()])

    def finish(self, result: Result) -> None:
        """Write scores as metrics, and endings, chosen settings and paths as tags: a parameter of MLflow never changes."""
        from mlflow.entities import RunTag

        self.log(0, result.named_scores)
        self._batches("tags", [RunTag(_name(k), str(v)[:LONGEST]) for k, v in result.named_texts.items()])
        status = "KILLED" if result.ended == "interrupted" else "FINISHED" if result.succeeded else "FAILED"
        with _patience():
            self._client.set_terminated(self.run_id, status)

    def _batches(self, kind: str, values: Sequence[Any]) -> None:
        with _patience():
            for start in range(0, len(values), MOST_VALUES):
                self._client.log_batch(self.run_id, **{kind: values[start : start + MOST_VALUES]})


@contextmanager
def _patience() -> Iterator[None]:
    """Set `PATIENCE` for calls inside the block, where the user set nothing else. MLflow reads it from the environment."""
    own = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def _name(text: str) -> str:
    """Return a name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", text)
