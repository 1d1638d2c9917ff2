"""What decides the result of a run for a request: a run with the same settings gives no other result."""

from __future__ import annotations

import hashlib
import json

from .settings import ProjectSettings

# entries of `expunge.toml` that change no result of a run
_NO_RESULT = {"data", "device", "days", "max_gap", "passphrase_file"}


def attempt(settings: ProjectSettings, samples: int) -> str:
    """Return a hash (16 hex digits) of what decides the result of a run for a request with this number of samples."""
    values = settings.model_dump(mode="json", exclude=_NO_RESULT)
    return hashlib.sha256(json.dumps([values, samples], sort_keys=True).encode()).hexdigest()[:16]
