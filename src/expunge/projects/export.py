"""Write the latest model of a project in the form of the checkpoint that the project began with, with a receipt of this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ExpungeError
from ..receipts.issue import file_hash
from ..receipts.receipt import Receipt
from ..receipts.signing import signed
from ..records.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..records.checkpoint_form import complete_form, file_names, needs_model
from ..records.checkpoint_totals import KEY_ID, MODEL_NAMES
from ..records.file_names import beside
from ..records.keyed import new_key, with_key
from ..records.model_names import names_text, stored_text
from ..records.request_file import read_requests, requests_path, write_requests
from ..records.together import staged, together
from .arguments import path_of
from .file_checks import check_files
from .folder import Folder
from .kept_form import kept_form
from .ledger_limits import signing_key
from .prepared import prepare, say_nothing
from .settings import read_settings


def export_model(
    project: Path | str, out: Path | str, say: Callable[[str], None] = say_nothing
) -> tuple[Path, Path]:
    """Write the latest model as the original was: its nesting, prefix, names, small plain entries and configuration.

    The receipt beside it is that of the run, with the same id, in a new envelope that has the hash of this file.

    Args:
        project: The folder of the project. It stays as it is.
        out: The output. Its suffix decides between safetensors and a torch file. Without one, it is a folder if the original was one.
        say: Called with notes for the user.

    Returns:
        The checkpoint and its receipt.

    Raises:
        ExpungeError: The project has made no run, a file of it is missing or was changed, or the output cannot be written.

    Example:
        >>> export_model("office", "unlearned.ckpt")  # doctest: +SKIP
        (PosixPath('unlearned.ckpt'), PosixPath('unlearned.receipt.json'))
    """
    folder, place = Folder(path_of("the folder", project)), path_of("the output", out)
    if folder.path.resolve() in place.resolve().parents:
        raise ExpungeError(f"{place} is in the folder of the project; name an output outside of it.")
    check_files(folder, say)
    state, settings = folder.state(), read_settings(folder.settings_file)
    if len(state["models"]) == 1:
        raise ExpungeError(
            f"{folder.path} has made no run, so its model is the checkpoint that it began with; use `expunge forget` first."
        )
    form = _form(folder, state)
    file = folder.find(state["models"][-1]["file"], state)
    if needs_model(form):
        complete_form(form, prepare(folder, say).model)
    stored = read_checkpoint(file)
    tensors = _tensors(stored, form)
    metadata, hash_key = _with_hash_key(stored)
    if form.convert is not None:
        say(
            f"{place.name} has other tensors than the model, so its receipt can only be verified with {file}."
        )
        metadata[MODEL_NAMES] = stored_text(file.name)
    elif names := names_text(file_names(form, tensors), form.prefix, list(form.counters)):
        metadata[MODEL_NAMES] = names
    receipt = Receipt.load(
        folder.find(str(Path(state["models"][-1]["file"]).with_suffix(".receipt.json")), state)
    )
    paper = beside(place, ".receipt.json")
    with together(place):
        write_checkpoint(place, tensors, like=form, metadata=metadata)
        told = _kept_beside(place, folder, state, hash_key) if hash_key else ""
        files = {k: v for k, v in receipt.envelope.get("files", {}).items() if k != "model"}
        if (written := staged(place)).is_file():
            files["model"] = file_hash(written)
        key, passphrase = signing_key(settings)
        signed(replace(receipt, envelope={**receipt.envelope, "files": files}), key, passphrase).save(paper)
    if told:
        say(told)
    return place, paper


def _form(folder: Folder, state: dict[str, Any]) -> Checkpoint:
    """Return the form of the original. Raises `ExpungeError` if an earlier version did not keep it."""
    if (form := kept_form(folder, state)) is not None:
        return form
    raise ExpungeError(
        f"{folder.path} was made by an earlier version, which did not keep the form of the original; begin a new project with the "
        "original's form: `expunge init NEW --checkpoint FILE`, where FILE is the latest model as your own code writes it."
    )


def _with_hash_key(stored: Checkpoint) -> tuple[dict[str, str], bytes | None]:
    """Return the metadata of a model, and the new key of its hashes if an earlier version wrote them without one."""
    if KEY_ID in stored.metadata:
        return dict(stored.metadata), None
    key = new_key()
    return with_key(stored.metadata, key), key


def _kept_beside(place: Path, folder: Folder, state: dict[str, Any], key: bytes) -> str:
    """Write the request file of an output whose hashes have a new key, and return what the user is told about it."""
    file = Path(state["models"][-1]["file"])
    answered = read_requests(folder.find(str(requests_path(file)), state))
    own = write_requests(requests_path(place), answered, key)
    return (
        f"an earlier version of Expunge wrote {file.name}, with plain hashes of the forgotten samples. Those in {place.name} are keyed, "
        f"and {own} has the key and the forgotten ids: keep it, and do not hand it over."
    )


def _tensors(stored: Checkpoint, form: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of the latest model by the names that the model has."""
    state = stored.state
    if state.keys() != form.state.keys():
        state = {**stored.counters, **{stored.prefix + name: tensor for name, tensor in state.items()}}
    # safetensors does not keep the order of the model
    return {name: state[name] for name in (*form.state, *state) if name in state}
