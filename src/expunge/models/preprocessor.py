"""How a classifier of transformers expects its images: `preprocessor_config.json` as options of a data source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ModelError

CONFIG = "preprocessor_config.json"
# the number that transformers and Pillow give to this interpolation
BILINEAR = 2
# largest difference of a scale from 1 / 255
ROUNDING = 1e-6
# below this short side, the processor of ConvNeXT resizes to more and cuts, from it on it stretches
CONVNEXT_STRETCHES = 384


def preprocessor_options(folder: Path) -> dict[str, str]:
    """Return size, crop, mean, std and interpolation of a folder that `save_pretrained` wrote. What no option can express is left out.

    Raises:
        ModelError: The file cannot be read.

    Example:
        >>> preprocessor_options(Path("vit"))
        {'size': '224', 'interpolation': 'bilinear', 'mean': '0.5,0.5,0.5', 'std': '0.5,0.5,0.5'}
    """
    file = folder / CONFIG
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return {**_resize(config), **_normalisation(config)} if isinstance(config, dict) else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read as the configuration of an image processor ({type(error).__name__}: {error}); correct or remove it."
        ) from error


def _resize(config: dict[str, Any]) -> dict[str, str]:
    if not config.get("do_resize", True):
        return {}
    size = config.get("size")
    crop = _square(config.get("crop_size")) if config.get("do_center_crop") else None
    short = size.get("shortest_edge") if isinstance(size, dict) else size if crop is not None else None
    sides = {"size": None, "crop": crop}
    if isinstance(size, int) and crop is None:
        sides["size"] = size
    elif isinstance(size, dict) and short is None and crop is None:
        sides["size"] = _square(size)
    elif short is not None and crop is not None and crop <= short:
        sides["size"] = int(short)
    elif short is not None and config.get("crop_pct") is not None:
        # the processor of ConvNeXT
        whole = int(short / config["crop_pct"])
        sides = {"size": short} if short >= CONVNEXT_STRETCHES else {"size": whole, "crop": short}
    if sides.get("size") is None:
        return {}
    options = {name: str(side) for name, side in sides.items() if side is not None}
    # without an option, a source resizes bicubic
    return {**options, "interpolation": "bilinear"} if config.get("resample") == BILINEAR else options


def _square(sides: Any) -> int | None:
    """The side of a square. None if there is none."""
    if isinstance(sides, dict):
        height, width = sides.get("height"), sides.get("width")
        return int(height) if height is not None and height == width else None
    return int(sides) if sides is not None else None


def _normalisation(config: dict[str, Any]) -> dict[str, str]:
    scaled = (
        config.get("do_rescale", True) and abs(config.get("rescale_factor", 1 / 255) - 1 / 255) < ROUNDING
    )
    mean, std = config.get("image_mean"), config.get("image_std")
    # old processors have do_normalize alone
    if not (scaled and config.get("do_normalize", True) and mean and std) or config.get("rescale_offset"):
        return {}
    return {
        name: ",".join(f"{float(v):.6g}" for v in values) for name, values in (("mean", mean), ("std", std))
    }
