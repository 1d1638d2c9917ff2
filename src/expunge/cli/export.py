"""`expunge export`: the latest model of a project in the form of its original checkpoint."""

from __future__ import annotations

from pathlib import Path

from ..errors import raise_all
from .output_checks import output_problems
from .terminal import notice


def export(out: Path, /, *, project: Path = Path(".")) -> None:
    """Write the latest model of a project in the form of its original checkpoint.

    The output has the nesting, the prefix, the names, the small plain entries and the configuration of the checkpoint that the
    project began with, so that the code which read that file reads it too. Its receipt is written beside it.

    Args:
        out: The file to write. Without a suffix, it is a folder if the original was one that save_pretrained wrote.
        project: The project folder.
    """
    from ..projects.export import export_model
    from ..projects.project import Project
    from ..records.file_names import beside
    from .project_answer import in_the_way

    raise_all(
        output_problems({"OUT": out, "the receipt": beside(out, ".receipt.json") if out.name else None})
    )
    file, receipt = export_model(project, out, notice)
    print(f"model: {file}\nreceipt: {receipt}")
    first = in_the_way(Project(project, say=notice), waiting=True)
    print(f"next: {first}hand over both; `expunge verify {receipt} --model {file}` checks them.")
