"""Run the notebooks of docs/tutorials, and keep their output.

    python tools/tutorials.py                       # run all, and write their output into the notebooks
    python tools/tutorials.py sequence new_method   # run these
    python tools/tutorials.py --check               # run all in a temporary folder, and change nothing

Each notebook runs in an empty folder of its own, with the `expunge` command of this environment. The site shows the committed output.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "tutorials"
# seconds that one cell may take
LIMIT = 1200
# the lexer of IPython knows `!command` and `%magic`
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# `!command` of IPython goes on after a command that failed
STRICT = """
def _strict(command, system=get_ipython().system):
    system(command)
    if code := get_ipython().user_ns["_exit_code"]:
        raise RuntimeError(f"{command} ended with {code}")

get_ipython().system = _strict
"""


def run(path: Path) -> tuple[Any, float]:
    """Run a notebook in an empty folder, and return it with its output, and the seconds that it took.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
        del notebook.cells[0]
        return tidied(notebook, folder), time.time() - begun


def tidied(notebook: Any, folder: str) -> Any:
    """Return a notebook without what differs in every run: times of cells, progress bars, and the names of temporary folders."""
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.execution_count = None
        cell.id, cell.metadata = f"cell-{number}", {k: v for k, v in cell.metadata.items() if k == "tags"}
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).clear()
            if "execution_count" in output:
                output.execution_count = None
            if "text" in output:
                output.text = without_names("".join(output.text), folder)
    return notebook


def without_names(text: str, folder: str) -> str:
    """Return printed text without the temporary folder, the escape codes of a terminal, and lines that a later one replaced."""
    text = text.replace(f"{ROOT}/", "")
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py:", "line ", text)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace(f"{folder}/", "").replace(folder, "."))
    return "\n".join(line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names of notebooks; by default all")
    parser.add_argument("--check", action="store_true", help="change no notebook")
    args = parser.parse_args()
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in args.names] or sorted(FOLDER.glob("*.ipynb"))
    # `!expunge` is the command beside this Python, and every process finds the package of this checkout
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(HF_HUB_OFFLINE="1", COLUMNS="80")
    for path in paths:
        notebook, seconds = run(path)
        if not args.check:
            nbformat.write(notebook, path)
        print(f"{path.stem}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
