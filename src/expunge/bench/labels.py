"""Check the labels of runs, which are cells of tables."""

from __future__ import annotations

# labels that the references of every comparison have
REFERENCES = ("Original", "Retrain")


def label_problems(label: object) -> list[str]:
    """Return one sentence if a label cannot stand in a table, or is that of a reference."""
    if label in REFERENCES:
        return [f"'{label}' is the label of a reference; choose another."]
    if not isinstance(label, str) or not label.strip() or {"|", "\n", "\r"} & set(label):
        return [f"the label {label!r} cannot stand in a table; give a text on one line without '|'."]
    return []
