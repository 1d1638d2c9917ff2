"""Load classifiers of transformers with an adapter of peft, from the folder that `save_pretrained` of peft wrote."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import MissingExtra, ModelError
from ..hub_cache import cache_advice
from .pretrained import from_folder

KIND = "peft"
CONFIG = "adapter_config.json"


def with_adapter(spec: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Make a classifier with the parameters of its base model and a fresh adapter. The base is frozen.

    A checkpoint of the adapter goes into the adapter alone, and an output is a folder that peft loads. So what is
    unlearned is what the adapter learned; the base model stays as it is.

    Args:
        spec: `peft:DIR`, whose `adapter_config.json` names the folder of the base model, or `peft:DIR?base=BASE`.
        num_classes: Number of classes.
        shape: Shape of one input: (T,) for tokens, (C, H, W) for images.

    Raises:
        ModelError: The folder holds no adapter, or its base model is no local folder.
        MissingExtra: peft or transformers is not installed.
    """
    path, _, base = spec.partition(":")[2].partition("?base=")
    folder = Path(path).expanduser()
    model = from_folder(f"hf-weights:{_base_of(folder, base)}", num_classes, shape)
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("adapters of peft", "text") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(str(folder))
            # a published adapter is frozen
            config.inference_mode = False
            return peft.get_peft_model(model, config)  # type: ignore[arg-type]
    # peft raises many types of errors
    except Exception as error:
        raise ModelError(
            f"{folder} holds no adapter that can be loaded: {type(error).__name__}: {error}"
        ) from error


def _base_of(folder: Path, base: str) -> Path:
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        named = base or str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder} has no readable {CONFIG} ({type(error).__name__}); name a folder that save_pretrained of peft wrote."
        ) from error
    # a relative path is meant from here, or from beside the adapter
    for place in (Path(named).expanduser(), folder.parent / named) if named else ():
        if (place / "config.json").is_file():
            return place
    raise ModelError(
        f"the base model of {folder} is '{named}', which is no local folder with a config.json; write peft:{folder}?base=FOLDER."
        f"{cache_advice(named)}"
    )
