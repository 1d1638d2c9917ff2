"""The flags of `expunge unlearn`, and everything that one call of it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..records.file_names import beside, file_suffix
from ..training.method import Method
from ..tuning.search import AUTO
from .compute_flags import ComputeFlags
from .flags import ModelFlags, SplitFlags
from .outputs import FailureFlags
from .receipt_flags import ReceiptFlags
from .settings_flags import with_help
from .track_flags import TrackFlags


@with_help
@dataclass(frozen=True, kw_only=True)
class UnlearnFlags:
    """The files and the length of one unlearning run.

    Args:
        checkpoint: The original model, .safetensors or .pt. It is only read.
        ema: Entry of the checkpoint that holds the model to unlearn, such as an average of the parameters: state_dict_ema, or a
            path with dots. By default state_dict, model and other usual names are tried. The output holds no other model.
        out: Checkpoint to write, in the format of the input and with its tensor names. By default beside the input, with
            the name of the method.
        retrained: Checkpoint of a model retrained without the forget set, from which gaps are measured.
        seed: Seed of everything random in the run.
        trials: Number of settings to try. The best by validation data is kept; fields given as flags stay fixed. "auto" adapts
            the settings to the request, tries at most 8, and keeps the original if none improves on it. 0 takes the settings
            as they are.
        report: HTML report to write.
        save_mask: File for the mask, one bit per parameter, for `expunge verify --mask`.
        measure: Extra measures of the audit: names such as ToW, or package.module:Class. Can be repeated.
        history: File with the requests that the checkpoint's model has answered (.requests.json, or a text file with one id
            per line). By default the file beside the checkpoint. No later run trains on their samples.
        rehearse: Forget the samples of earlier requests again in this run.
        show_forgotten: Show up to 12 forgotten samples in record and report, each with picture, id and predictions.
    """

    checkpoint: Path
    ema: str | None = None
    out: Path | None = None
    retrained: Path | None = None
    seed: int = 0
    trials: int | Literal["auto"] = AUTO
    report: Path | None = None
    save_mask: Path | None = None
    measure: tuple[str, ...] = ()
    history: Path | None = None
    rehearse: bool = False
    show_forgotten: bool = False

    def checkpoint_to_write(self, method: Method) -> Path:
        """Return `out`, or the default beside the input."""
        # a colon is not allowed in file names everywhere
        name = method.name().replace(":", ".")
        return self.out or beside(self.checkpoint, f"-{name}{file_suffix(self.checkpoint)}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that one call of the command asks for. `fixed` names the settings that were given as flags."""

    method: Method
    fixed: list[str]
    model: ModelFlags
    flags: UnlearnFlags
    split: SplitFlags
    compute: ComputeFlags
    receipt: ReceiptFlags
    failure: FailureFlags
    track: TrackFlags
