"""`expunge convert`: a torch file with objects of allowed classes becomes one with tensors and plain values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import CheckpointError, raise_all
from .output_checks import output_problems
from .terminal import notice


def convert(source: Path, out: Path, /, *, allow: tuple[str, ...] = ()) -> None:
    """Rewrite a torch file that holds objects, so that other commands can read it.

    Reading objects may run code of their classes, in a process of its own. Allow only classes that you know, and only for
    files from a source that you trust. Objects become dicts of their attributes, NumPy scalars become numbers.

    Args:
        source: The torch file.
        out: The new torch file.
        allow: A class or function that the file may name, such as argparse.Namespace. Repeat the flag for more.
    """
    raise_all(output_problems({"OUT": out}, source))
    if not source.is_file():
        raise CheckpointError(f"{source} is no file; name a torch file.")
    if not allow:
        from ..records.torch_reading import read_torch_file

        # the error names the classes
        read_torch_file(source)
        raise CheckpointError(f"{source} holds tensors and plain values only; use it as it is.")
    notice(f"reading {source} may run code of {', '.join(allow)}; do this only with a file that you trust.")
    command = [sys.executable, "-m", "expunge.records.convert_file", str(source), str(out), *allow]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["the process ended without a message"]
        raise CheckpointError(f"{source} was not converted: {' '.join(reason[-3:])}")
    print(f"converted: {out}")
