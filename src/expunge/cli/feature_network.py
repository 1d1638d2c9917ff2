"""The user's network for published FIDs, from `--features`."""

from __future__ import annotations

from torch import nn

from ..errors import ExpungeError
from ..imports import call_object


def feature_network(place: str | None, device: str) -> tuple[nn.Module, str] | None:
    """Return the network that the user's function makes, on `device`, and the name of its distances; None without a place.

    Args:
        place: package.module:function.
        device: Where the network goes.

    Raises:
        ExpungeError: The function cannot be imported, or does not return an nn.Module.
    """
    if place is None:
        return None
    if ":" not in place:
        raise ExpungeError(f"--features is '{place}'; write package.module:function, importable from here.")
    name = place.rpartition(":")[2]
    if name == "judge":
        raise ExpungeError(
            f"--features {place} would give FID_judge, the name of the distance in the judge's own features; rename the function."
        )
    network = call_object(place, {}, ExpungeError)
    if not isinstance(network, nn.Module):
        raise ExpungeError(
            f"{place} returned {type(network).__name__}; it must return an nn.Module that gives features (B, D) of images."
        )
    return network.to(device), name
