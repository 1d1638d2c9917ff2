"""Checks of output files before the work: their places can be written to, and have room."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import write_error
from ..records.file_names import beside, file_suffix, same_names
from ..records.part_files import Part
from ..records.together import finish_or_remove, special_problem
from .run_files import state_file
from .side_files import belong_to

# bytes that records, receipts and reports take at most, for a small model
ALLOWANCE = 1 << 16


def output_problems(outputs: Mapping[str, Path | None], *inputs: Path | None) -> list[str]:
    """Return the problems of output files, one sentence each.

    An output must not replace an input or another output, and no folder, link, device or pipe. Its folder must be writable.

    Args:
        outputs: {flag: file}; None where the flag was not given.
        inputs: Files that the command reads.
    """
    files = {flag: path for flag, path in outputs.items() if path is not None}
    read = [path for path in inputs if path is not None]
    problems = [
        f"{flag} {path} is also an input; an input is never overwritten, name another file."
        for flag, path in files.items()
        if any(_is_same(path, other) for other in read)
    ]
    problems += [
        f"{one} and {other} are both {files[one]}; name different files."
        for one, other in itertools.combinations(files, 2)
        if _is_same(files[one], files[other])
    ]
    special = {flag: special_problem(path) for flag, path in files.items()}
    problems += [f"{flag} {text}" for flag, text in special.items() if text]
    sound = [path for flag, path in files.items() if not special[flag]]
    return list(dict.fromkeys([*problems, *_place_problems(sound)]))


def run_output_problems(
    out: Path, size: int, spill: Path | None = None, *, has_files_beside: bool = True
) -> list[str]:
    """Return the problems of the place where a run writes a checkpoint and its resumable state. Leftovers are removed first.

    Args:
        out: The checkpoint.
        size: Bytes of the checkpoint, as far as they are known.
        spill: The folder for outputs that cannot be written.
        has_files_beside: Whether the run writes its record and other files beside the checkpoint.
    """
    if not out.name:
        return []
    finish_or_remove(out.parent)
    problems = [*_place_problems([state_file(out)]), *(_taken(out) if has_files_beside else [])]
    needed, free = size + ALLOWANCE, _free(out)
    if not problems and free is not None and free < needed:
        problems.append(
            f"{out.parent} has {free / 1e6:,.1f} MB free and {out.name} needs about {needed / 1e6:,.1f} MB; make room, or write to "
            "another disk."
        )
    if spill is not None and spill.exists() and not spill.is_dir():
        problems.append(f"--spill {spill} is no folder; name a folder.")
    elif spill is not None:
        problems += [f"--spill {text}" for text in _place_problems([spill / out.name])]
    return problems


def _taken(out: Path) -> list[str]:
    """Return one sentence if the files beside `out` are those of another checkpoint, which a run would replace."""
    files = [
        file
        for ending in (".json", ".receipt.json", ".requests.json")
        # a name that is too long is told by the check of the places
        if os.path.exists(file := beside(out, ending))
    ]
    others = same_names(out) if files else []
    if not others or belong_to(out, files):
        return []
    return [
        f"--out {out}: {', '.join(file.name for file in files)} are beside {others[0].name}, and this run would replace them, so that its "
        f"requests and receipt are lost; give another name, such as --out {_other_name(out)}."
    ]


def _other_name(out: Path) -> Path:
    """A name of whose files none exists."""
    suffix = file_suffix(out)
    stem = out.name.removesuffix(suffix)
    names = (out.with_name(f"{stem}-{number}{suffix}") for number in itertools.count(2))
    return next(
        name
        for name in names
        if not name.exists() and not beside(name, ".json").exists() and not same_names(name)
    )


def size_of(checkpoint: Path) -> int:
    """Return the bytes of a checkpoint, a file or a folder; 0 if it cannot be read."""
    try:
        files = [checkpoint] if checkpoint.is_file() else [f for f in checkpoint.rglob("*") if f.is_file()]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def size_of_model(flags: Any) -> int:
    """Return the bytes of the model of `ModelFlags` or `GeneratorFlags`; 0 where only the data can tell."""
    data = flags.preview()
    return 0 if data is None else sum(t.nbytes for t in flags.build(data).state_dict().values())


def _place_problems(files: list[Path]) -> list[str]:
    """Return one sentence for each file whose folder cannot be written to, or whose name is too long."""
    problems = []
    for file in files:
        place = _existing_parent(file)
        missing = file.absolute().relative_to(place).parts
        try:
            for name in missing:
                _check_length(place / name)
            Part(place / missing[0]).remove()
        except OSError as error:
            problems.append(str(write_error(file, error)))
    return problems


def _check_length(path: Path) -> None:
    """Raise `OSError` if the file system takes no name of this length."""
    with suppress(FileNotFoundError):
        os.lstat(path)


def _existing_parent(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    for parent in path.absolute().parents:
        try:
            if parent.exists():
                return parent
        except OSError:
            continue
    return Path(path.absolute().anchor)


def _free(path: Path) -> int | None:
    """Return the free bytes of the disk of a path that may not exist yet; None if they are unknown."""
    try:
        return shutil.disk_usage(_existing_parent(path)).free
    except OSError:
        return None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, also by a link or a hard link."""
    try:
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    except OSError:
        return False
