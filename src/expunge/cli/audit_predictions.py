"""`expunge audit-predictions`: compare populations of models by predictions that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import raise_all
from .output_checks import output_problems


def audit_predictions(
    folder: Path,
    /,
    *,
    forget_set: int = 1,
    unlearned: str = "pretrain",
    models: int | None = None,
    labels: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
) -> None:
    """Audit populations of models from their predictions, in the format of EasyDUB.

    Prints KLOM in our form and in the released ones, U-LiRA, RMIA, IAM and RULI. docs/audit.md explains them.

    Args:
        folder: Folder in the format of EasyDUB: margins or logits, and forget_sets.
        forget_set: Number of the forget set.
        unlearned: Folder of the unlearned models beside "oracle", or a .npz file with the arrays forget, retain and val.
        models: Number of models of each population. By default as many as all have.
        labels: A .npz file with the class numbers of the samples, `train` and `val`. Only logits need it.
        out: Record to write (JSON).
        report: HTML report to write.
    """
    raise_all(output_problems({"--out": out, "--report": report}, labels))
    from ..audit.easydub import read_easydub
    from ..audit.predictions import audit_predictions as attacks_on

    margins = read_easydub(folder, forget_set, unlearned=unlearned, models=models, labels=labels)
    attacks = attacks_on(margins)
    record = _record(attacks, folder, forget_set, unlearned, margins)
    if out is not None:
        record.save(out)
    _print_table(attacks, len(margins["retrained"]["forget"]))
    if report is not None:
        from ..report import write_report

        write_report(report, [record])
        print(f"report: {report}")


def _record(
    attacks: dict[str, dict[str, Any]], folder: Path, forget_set: int, unlearned: str, margins: Any
) -> Any:
    """Return the record: attacks and sizes. Predictions alone give no accuracy, so it has no scores."""
    from ..records.record import Record, plain
    from .invocation import command_line

    sizes = {name: int(values.shape[1]) for name, values in margins["retrained"].items()}
    return Record(
        kind="unlearn",
        method=Path(unlearned).stem,
        goal="untrain",
        data={"name": folder.name},
        split={"scenario": "ids", "forget_set": forget_set, "sizes": sizes},
        details=plain(
            {"attacks": attacks, "limits": ["Only predictions were given, so there are no scores."]}
        ),
        command=command_line(),
    )


def _print_table(attacks: dict[str, dict[str, Any]], models: int) -> None:
    from rich.table import Table

    from ..receipts.limits import visible
    from ..report.strong_audit import attack_table
    from .console import table_console

    # the caption has the number of models
    rows = attack_table({name: {k: v for k, v in a.items() if k != "shadows"} for name, a in attacks.items()})
    table = Table(caption=f"{models} models of each population; chance: two halves of the retrained models")
    for title in ("attack", "figure", *rows["titles"]):
        table.add_column(visible(title), justify="left" if title in ("attack", "figure") else "right")
    for name, measures in rows["groups"]:
        for number, (measure, cells) in enumerate(measures):
            table.add_row("" if number else name, measure, *cells)
        table.add_section()
    table_console().print(table)
