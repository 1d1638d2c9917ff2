"""Read `URI#EXPERIMENT` of MLflow, and refuse secrets in it: the command is part of records."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

# endings of database files, by which a `#` before them belongs to the path
DATABASES = (".db", ".sqlite", ".sqlite3")
SECRET = re.compile(r"pass|pwd|token|secret|key|auth|cred|user|sig", re.IGNORECASE)
REMEDY = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and leave them out of the URI; for a "
    "database with a password, start an MLflow server on it"
)


def divided(text: str) -> tuple[str, str]:
    """Return URI and experiment. A `#` in the path of a database file belongs to the path.

    Example:
        >>> divided("sqlite:////data/run#1/runs.db#unlearning")
        ('sqlite:////data/run#1/runs.db', 'unlearning')
    """
    uri, _, experiment = text.rpartition("#")
    if not uri or "/" in experiment or experiment.lower().endswith(DATABASES):
        return text, ""
    return uri, experiment


def uri_problem(text: str) -> str:
    """Return why `URI#EXPERIMENT` cannot be used, as one sentence; empty if it can. It never repeats the URI."""
    try:
        parts = urlsplit(divided(text)[0].replace("#", "%23"))
        is_file = parts.scheme in ("sqlite", "file") or _is_path(text)
        if not is_file:
            parts = urlsplit(text)
            # a port that is no number raises ValueError
            _ = parts.port
    except ValueError:
        return (
            f"the tracker's URI cannot be read; write mlflow:http://HOST:PORT or mlflow:sqlite:///FILE. If it has a name or a "
            f"password, {REMEDY}."
        )
    if ("@" in parts.netloc if is_file else "@" in text) or _secret_query(parts):
        return f"the tracker's URI contains a name, a password or a token, which would stand in the record; {REMEDY}."
    return ""


def _is_path(text: str) -> bool:
    return ":" not in text and ("@" not in text or text.startswith(("/", ".", "~")))


def _secret_query(parts: SplitResult) -> bool:
    # a server of MLflow takes no query
    if parts.scheme in ("http", "https"):
        return bool(parts.query)
    return any(SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
