"""Import objects that the user names as `package.module:name`: models, data sources, methods, measures."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from typing import Any

from .errors import MissingExtra

IMPORTABLE = "write package.module:name, importable from here."
# third-party packages and the extra of Expunge that installs them
EXTRAS = {
    "torchvision": "vision",
    "timm": "vision",
    "peft": "text",
    "transformers": "text",
    "diffusers": "diffusion",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "lightning": "lightning",
}


class _Own(str):
    """An entry of `sys.path` that `search_in` added."""


def search_in(folders: Iterable[str]) -> None:
    """Search these folders first for modules that the user names, and then the current folder. They replace those of earlier calls.

    Args:
        folders: Absolute paths, the first one first.
    """
    others = [place for place in sys.path if not isinstance(place, _Own)]
    sys.path[:] = [*map(_Own, dict.fromkeys(folders)), *others]


def _searched() -> str:
    """Return the folders in which modules of the user are searched, as words."""
    own = [str(place) for place in sys.path if isinstance(place, _Own)]
    return " and ".join(dict.fromkeys([*own, os.getcwd()]))


def import_object(spec: str, error: type[Exception]) -> Any:
    """Return what `package.module:name` names. Modules of the current folder are found too.

    Raises:
        MissingExtra: The module needs a package that an extra of Expunge installs.
        Exception: `error`, for anything that cannot be imported, whatever the reason.

    Example:
        >>> import_object("collections:OrderedDict", ValueError).__name__
        'OrderedDict'
    """
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(sum(isinstance(place, _Own) for place in sys.path), os.getcwd())
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as caught:
        package = (caught.name or "").partition(".")[0]
        if package in EXTRAS and find_spec(package) is None:
            raise MissingExtra(spec, EXTRAS[package]) from caught
        if package == module.partition(".")[0]:
            raise error(
                f"{spec} cannot be imported: {caught} in {_searched()} or among the installed packages; give the command in the folder "
                f"that has {package}.py, add that folder to PYTHONPATH or, for a project, to the entry modules of expunge.toml. Write it "
                "as package.module:name."
            ) from caught
        raise error(f"{spec} cannot be imported: {caught}; {IMPORTABLE}") from caught
    except (Exception, SystemExit) as caught:  # the module's own code runs here and may raise anything
        raise error(f"{spec} cannot be imported: {type(caught).__name__}: {caught}; {IMPORTABLE}") from caught
    if not hasattr(loaded, name):
        known = sorted(k for k, v in vars(loaded).items() if callable(v) and not k.startswith("_"))[:20]
        raise error(
            f"{spec} cannot be imported: the module {module} does not define '{name}'; it defines: "
            f"{', '.join(known) or 'nothing to call'}."
        )
    return getattr(loaded, name)


def call_object(
    spec: str,
    arguments: dict[str, Any],
    error: type[Exception],
    always: Collection[str] = (),
    hidden: Collection[str] = (),
) -> Any:
    """Call the function or class that `spec` names, and return the result.

    Args:
        spec: `package.module:name`.
        arguments: Keyword arguments. The function gets those that its signature names.
        error: The exception to raise.
        always: Names of arguments that it gets in any case.
        hidden: Names of arguments that it gets also if it takes any keyword (`**kwargs`). Such a function passes most
            keywords on to another function, which may know few.

    Raises:
        Exception: `error`, if the object cannot be imported or called, needs other arguments, or fails.
    """
    return call_factory(import_object(spec, error), spec, arguments, error, always, hidden)


def call_factory(
    factory: Any,
    spec: str,
    arguments: dict[str, Any],
    error: type[Exception],
    always: Collection[str] = (),
    hidden: Collection[str] = (),
) -> Any:
    """Call a function or class that is imported already, as `call_object` does. `spec` names it in messages."""
    # a module of torch is callable, but it is a model and not what makes one
    is_model = hasattr(factory, "named_parameters") and not isinstance(factory, type)
    if not callable(factory) or is_model:
        raise error(f"{spec} is a {type(factory).__name__}; name a function or a class that makes one.")
    try:
        parameters = dict(inspect.signature(factory).parameters)
    except ValueError:  # some functions written in C have no signature
        parameters = {}
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = {*parameters, *always, *(hidden if any_keyword else ())}
    chosen = {k: v for k, v in arguments.items() if k in names}
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in chosen
    ]
    if needed:
        with_what = f"whichever of {', '.join(arguments)} it takes" if arguments else "no arguments"
        raise error(
            f"{spec} needs the arguments {', '.join(needed)}; it is called with {with_what}: give the others a default."
        )
    try:
        return factory(**chosen)
    except (Exception, SystemExit) as caught:  # the factory is the user's code
        raise error(f"{spec} failed: {type(caught).__name__}: {caught}") from caught
