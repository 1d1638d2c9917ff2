"""Name and hash the code of a user's own classes and functions, as it was when they were defined."""

from __future__ import annotations

import hashlib
import inspect
import site
import sys
import sysconfig
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

PACKAGE = __name__.partition(".")[0]
# {class or function: hash of its file when it was defined or first found}
_HASHES: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


def remember_source(item: Any) -> str | None:
    """Return the SHA-256 of the file that defines a class or function; None without a file.

    The file is read at the first call. A later edit does not change the hash, because the edited code does not run.
    """
    if item not in _HASHES:
        try:
            _HASHES[item] = hashlib.sha256(Path(inspect.getfile(item)).read_bytes()).hexdigest()
        except (OSError, TypeError):  # defined in a notebook or an interactive session
            _HASHES[item] = None
    return _HASHES[item]


def source_of(cls: type) -> dict[str, str | None]:
    """Return where a class is defined, for records: {"class": "module:Class", "source_sha256": hash of its file}."""
    return {"class": f"{module_name(cls)}:{cls.__qualname__}", "source_sha256": remember_source(cls)}


def module_name(cls: type) -> str:
    """Return the importable name of the module that defines a class.

    A script that runs as `__main__` is named by its specification (`python -m package.script`) or by its file.
    """
    if cls.__module__ != "__main__":
        return cls.__module__
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    try:
        return Path(inspect.getfile(cls)).stem
    except (OSError, TypeError):
        return "notebook"


def is_own(item: Any) -> bool:
    """Whether a class or function is defined outside of this package."""
    return not f"{getattr(item, '__module__', '')}.".startswith(f"{PACKAGE}.")


def hashes_of_class(cls: type) -> list[str | None]:
    """Return the hashes of the files of a class and of its own base classes, each file once; [] for a built-in class.

    Base classes from installed packages are left out.
    """
    if not is_own(cls):
        return []
    bases = [base for base in cls.__mro__[1:] if is_own(base) and not _is_installed(base)]
    hashes = [remember_source(cls), *(remember_source(base) for base in bases)]
    return list(dict.fromkeys(hashes))


def hashes_of_function(function: Any) -> list[str | None]:
    """Return the hash of the file of an own function, class or object; [] for built-in code and installed packages."""
    if isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function)
    function = inspect.unwrap(function)
    if isinstance(function, type):
        return [] if _is_installed(function) else hashes_of_class(function)
    return [remember_source(function)] if is_own(function) and not _is_installed(function) else []


def code_identity(cls: type) -> Any:
    """Return what tells the code of a class from other code, for the identity of saved states.

    The name alone for a built-in class. For a class of the user's own also its module and the hashes of its files, or of its
    bytecode where there is no file.
    """
    if not is_own(cls):
        return cls.__name__
    own = [base for base in cls.__mro__ if is_own(base)]
    code = [_bytecode_hash(base) for base in own if remember_source(base) is None and base is not object]
    return (f"{module_name(cls)}:{cls.__qualname__}", hashes_of_class(cls), code)


def _bytecode_hash(cls: type) -> str:
    members = {name: getattr(value, "__func__", value) for name, value in vars(cls).items()}
    functions = {name: value.__code__ for name, value in members.items() if hasattr(value, "__code__")}
    # attributes such as `schedule`; an address in the text of an object would differ in each process
    plain = {n: v for n, v in members.items() if isinstance(v, str | int | float | tuple) and n[:2] != "__"}
    parts = [sorted(plain.items()), [(name, _code_parts(code)) for name, code in sorted(functions.items())]]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _code_parts(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), code.co_names, [_constant(c) for c in code.co_consts]]


def _constant(value: Any) -> Any:
    """A constant of a function in a form that is equal in each process: the order of a set of texts is not."""
    if isinstance(value, CodeType):
        return _code_parts(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return [_constant(v) for v in value] if isinstance(value, tuple) else repr(value)


def _is_installed(item: Any) -> bool:
    """Whether the file of a class or function is part of Python or lies in a folder of installed packages."""
    try:
        file = Path(inspect.getfile(item))
    except (OSError, TypeError):
        # without a file: built into Python, or defined in a notebook
        return getattr(item, "__module__", "") in sys.stdlib_module_names
    return is_installed_file(file)


def is_installed_file(file: Path) -> bool:
    """Whether a file is part of Python or lies in a folder of installed packages."""
    file = file.resolve()
    return any(file.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> tuple[Path, ...]:
    folders = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    names = {sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({Path(f).resolve() for f in folders if f in names or "-packages" in f})
