"""The entries of `expunge.toml`: their names, types, defaults and help. The flags of `expunge init` are made from them."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Points of test accuracy that a run may cost. It is a limit for collapse, chosen and not measured: SalUn cost a small MLP on
# digits 16 points for two ids.
LARGEST_LOSS = 20.0
# entries that change no result of a run
_NO_RESULT = {"data", "device", "days", "max_gap", "passphrase_file", "show_forgotten", "modules"}
# a share below 1
Share = Annotated[float, Field(ge=0, lt=1)]


class Entries(BaseModel):
    """The entries of `expunge.toml`.

    Args:
        data: The data: digits, fashion-mnist:DIR, cifar10:DIR, folder:DIR, images:FILE, webdataset:SHARDS, torchvision:NAME,
            text:FILE, hf:NAME, npz:FILE or package.module:factory. Options follow a '?': see docs/data.md.
        model: The model: a built-in name such as cnn or resnet18, hf-config:DIR, hf-weights:DIR, peft:DIR,
            timm:NAME, timm:DIR, torchvision:NAME or package.module:factory.
        device: Where the model is: cpu, cuda, cuda:1 or mps.
        ema: Entry of the first checkpoint that holds the model, if the file holds several.
        validation: Share of each class to draw for validation.
        validation_from: Set that it leaves: train, of which the model then never saw this share, or test. Give test if the
            model was trained on all training samples.
        split_seed: Seed of the validation set.
        copies: Copies of forget samples: include exact ones in the forget set, only report them, or ignore. By default include
            for ids and groups, and report for classes.
        seed: Seed of everything random in a run.
        method: Method that answers requests.
        settings: Settings of the method. Trials keep them. By default those of the preset of the data.
        trials: Number of settings that a run tries on validation data. "auto" adapts the settings to the request, and tries at
            most 8. 0 takes the settings as they are.
        reference: Retrain a model without the union of all requests for every audit. It costs a training each time.
        recipe: Training recipe of the reference: fields of Retrain. By default that of the preset of the data.
        rehearse: Let each run also work on the samples of earlier requests.
        max_gap: Largest average gap to the reference, in percentage points, at which a request is proved. The ledger gets this
            limit. By default the limit of the ledger counts, which is 5 if it was not changed.
        max_loss: Limit of test accuracy that a run may cost, in percentage points. A run that costs more answers no request.
        measures: Extra measures of each audit.
        compute: How the arithmetic is done: amp, channels_last, compile, accumulate, processes, eval_batch.
        days: Days in which a request must be answered, if it names no due day.
        sign_key: Private key that signs receipts. The ledger then asks for its signature. Without it, receipts are unsigned.
        passphrase_file: File whose first line opens the key, if it is locked.
        show_forgotten: Show up to 12 forgotten samples of the latest run in report.html, with picture, id and predictions. The
            file is then private. Records never hold them.
        modules: Folders that have your own modules (`package.module:name` of data, model, method and measures). `init` writes those
            where it found them, so that commands work from any folder.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    data: str
    model: str
    device: str = "cpu"
    ema: str | None = None
    validation: Share = 0.1
    validation_from: Literal["train", "test"] = "train"
    split_seed: int = 0
    copies: Literal["include", "report", "ignore"] | None = None
    seed: int = 0
    method: str = "salun"
    settings: dict[str, Any] = Field(default_factory=dict)
    trials: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    reference: bool = False
    recipe: dict[str, Any] = Field(default_factory=dict)
    rehearse: bool = False
    max_gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_loss: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = LARGEST_LOSS
    measures: list[str] = Field(default_factory=list)
    compute: dict[str, Any] = Field(default_factory=dict)
    days: Annotated[int, Field(ge=0, le=3650)] = 28
    sign_key: str | None = None
    passphrase_file: str | None = None
    show_forgotten: bool = False
    modules: list[str] = Field(default_factory=list)

    def attempt(self, samples: int) -> str:
        """Return a hash (16 hex digits) of what decides the result of a run for a request with this number of samples."""
        values = self.model_dump(mode="json", exclude=_NO_RESULT)
        return hashlib.sha256(json.dumps([values, samples], sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """Return the text of the file. Entries without a value are comments."""
        lines, tables = [], []
        for name, value in self.model_dump().items():
            if isinstance(value, dict):
                entries = [f"{k} = {_toml(v)}" for k, v in value.items() if v is not None]
                tables += ["", f"[{name}]", *entries] if entries else []
            else:
                lines.append(f"# {name} = ..." if value is None else f"{name} = {_toml(value)}")
        return "\n".join([*lines, *tables]) + "\n"


def _toml(value: Any) -> str:
    """Return a value in TOML, which writes texts, numbers, lists and true as JSON does."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
