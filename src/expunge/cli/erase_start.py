"""What `expunge erase` checks before torch is imported: an unsupported pipeline folder is refused within a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..generation.pipeline_config import check_config


def check_folder(words: Sequence[str]) -> None:
    """Check the pipeline folder by its JSON files, if it follows the method. Elsewhere the command itself checks it.

    Args:
        words: The words after `expunge erase`: the method, the folder, flags.

    Raises:
        CheckpointError: With every reason why the pipeline cannot be unlearned.
    """
    folder = words[1] if len(words) > 1 and not {"--help", "-h"} & set(words) else ""
    if folder and (Path(folder) / "model_index.json").is_file():
        check_config(folder)
