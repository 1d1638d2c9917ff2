"""What the commands of generation share: a method's settings from the flags that were given, and progress."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

from torch import nn

from ..errors import ExpungeError
from ..imports import call_object
from ..training.method import Method
from ..training.processes import first


def given(**changes: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {k: v for k, v in changes.items() if v is not None}


def changed(method: Method, changes: dict[str, Any]) -> Method:
    """The method with these changes. Raises `ExpungeError` for settings it has not."""
    own = {f.name for f in fields(method)}
    if wrong := [k for k in changes if k not in own]:
        raise ExpungeError(f"{method.name()} has no settings {wrong}; it has {sorted(own)}.")
    return replace(method, **changes)


def check_mask(method: Method) -> None:
    """Raise `ExpungeError` for a control of the mask where there is no mask."""
    kind = getattr(method, "mask", "saliency")
    if kind != "saliency" and getattr(method, "density", 1.0) == 1:
        raise ExpungeError(
            f"at density 1 every weight moves and no {kind} mask is drawn; give --density too."
        )


def feature_network(spec: str | None, device: str) -> tuple[nn.Module, str] | None:
    """The network that the user's function makes, and the name its distances go by. Raises `ExpungeError`."""
    if spec is None:
        return None
    if ":" not in spec:
        raise ExpungeError(f"--features is '{spec}'; write package.module:function, importable from here.")
    if (name := spec.rpartition(":")[2]) == "judge":
        raise ExpungeError(
            f"--features {spec} would give FID_judge, the name of the distance in the judge's own features; rename the function."
        )
    network = call_object(spec, {}, ExpungeError)
    if not isinstance(network, nn.Module):
        raise ExpungeError(
            f"{spec} returned {type(network).__name__}; it must return an nn.Module that gives features (B, D) of images."
        )
    return network.to(device), name


def print_row(row: dict[str, Any]) -> None:
    """A line a probe, on stderr; of several processes, the first."""
    if not first():
        return
    shown = [f"{k} –" if row[k] is None else f"{k} {row[k]:.4f}" for k in ("loss", "forget", "retain")]
    print(f"epoch {row['epoch']} step {row['step']}: {', '.join(shown)}", file=sys.stderr, flush=True)
