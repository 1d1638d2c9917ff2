"""Pad texts as the classification head of a model of transformers expects it.

The head of a decoder, such as GPT-2, reads the last token that is not `pad_token_id` of `config.json`. So the texts must be padded with
this token, and on the right: on the left, learned positions shift by the number of padding tokens, and logits depend on the length.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

from ..errors import ExpungeError

# the head of XLNet reads the last position, also where it is padding
READS_LAST_POSITION = ("xlnet",)


def set_padding(tokenizer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Set the padding token and the side of a tokenizer. A warning says what was changed.

    Args:
        tokenizer: The tokenizer of transformers.
        folder: Its folder, for messages.
        config: The content of `config.json` in this folder, which describes the model; empty without one.

    Raises:
        ExpungeError: There is no padding token, or the head of the model looks for another one.
    """
    of_model = config.get("pad_token_id")
    if tokenizer.pad_token is None:
        token = None if of_model is None else tokenizer.convert_ids_to_tokens(of_model)
        if token is None:
            raise ExpungeError(
                f"the tokenizer in {folder} has no padding token; set tokenizer.pad_token and save it again, and give config.json the same "
                '"pad_token_id".'
            )
        tokenizer.pad_token = token
        warnings.warn(
            f"the tokenizer in {folder} has no padding token: texts are padded with {token}, token {of_model}, which config.json names.",
            stacklevel=5,
        )
    if of_model != tokenizer.pad_token_id and reads_last_token(config):
        raise ExpungeError(
            f"the tokenizer in {folder} pads with token {tokenizer.pad_token_id} ({tokenizer.pad_token}), and config.json has the "
            f'"pad_token_id" {"null" if of_model is None else of_model}, so the model would read padding as the end of a text; write '
            f'"pad_token_id": {tokenizer.pad_token_id} in config.json if the model was trained with it, or set tokenizer.pad_token.'
        )
    if tokenizer.padding_side == "left" and config.get("model_type") not in READS_LAST_POSITION:
        tokenizer.padding_side = "right"
        warnings.warn(
            f"the tokenizer in {folder} pads on the left, where logits can depend on the length; texts are padded on the right. The model "
            "reads the same token.",
            stacklevel=5,
        )


def reads_last_token(config: dict[str, Any]) -> bool:
    """Return whether the classification head of a model reads the last token that is not padding.

    Args:
        config: The content of `config.json`.
    """
    import transformers

    try:
        of_type = transformers.AutoConfig.for_model(config["model_type"])
        model: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(of_type)]
    # types that the library does not know, or that have no classifier
    except (KeyError, ValueError, ImportError):
        return False
    return "last_non_pad_token" in inspect.getsource(model.forward)
