"""The strong audit as tables: attacks and feature measures with a column per model, and the verdict.

Audits name their values freely. The model of a value is a key of its own in the path to the value
(`{"unlearned": {"auc": 0.5}}`), or the beginning or end of its name (`auc_original`, `retrained_steps`). A value
without a model belongs to the audited model.
"""

from __future__ import annotations

from typing import Any

from .audit_details import value_text
from .number_text import fixed
from .values import number, table, texts

# Column titles of the models.
TITLES = {
    "unlearned": "unlearned",
    "original": "original",
    "retrained": "Retrain",
    "null": "chance",
    "this_model": "this very model",
}
# What a key of an audit is called in the report.
NAMES = {
    "auc": "AUC",
    "tpr_at_01": "TPR at 0.1 % FPR",
    "tpr_at_1": "TPR at 1 % FPR",
    "p95": "95th percentile",
    "nonmember": "classified as non-member, %",
    "probe_forgotten": "linear probe, forgotten class, %",
    "probe_retained": "linear probe, other classes, %",
    "knn_forgotten": "nearest neighbours, forgotten class, %",
    "knn_retained": "nearest neighbours, other classes, %",
    "bias_shift": "best shift of the head’s bias",
    "corrected_forgotten": "forgotten class after that shift, %",
    "corrected_retained": "other classes after that shift, %",
    "scatter": "scatter between and within classes",
    "member_probe": "probe for membership, AUC",
    "redistribution_entropy": "entropy of the predictions on the forget set, nats",
    "cka_original": "CKA to the original",
    "cka_retrained": "CKA to Retrain",
    "tv_retrained": "total variation distance to Retrain’s predictions, share",
    "worst_class_accuracy": "worst class, %",
    "worst_group": "worst group",
    "worst_group_accuracy": "worst group, %",
    "epsilon_median": "median epsilon",
    "final": "final score",
    "tv": "total variation",
}


def attack_table(value: Any) -> dict[str, Any]:
    """Return the table of `details.attacks`, one group of rows per attack. Empty without values.

    Its form is `{"titles": models, "groups": [(attack, [(measure, cells)])]}`.
    """
    groups = _by_name(value)
    return _grid(
        [(name.replace("_", " "), _measures(row)) for name, row in groups.items() if isinstance(row, dict)]
    )


def feature_table(value: Any) -> dict[str, Any]:
    """Return the table of `details.features` (`{measure: {model: value}}`), as one group without a name."""
    return _grid([("", _measures(_by_name(value)))])


def _by_name(value: Any) -> dict[str, Any]:
    """Return a dict as it is, and a list of dicts as a dict by their names."""
    if isinstance(value, list):
        rows = [r for r in value if isinstance(r, dict)]
        return {
            str(r.get("name", i + 1)): {k: v for k, v in r.items() if k != "name"} for i, r in enumerate(rows)
        }
    return {str(k): v for k, v in table(value).items()}


def _measures(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{measure: {model: value}}` of nested values."""
    measures: dict[str, dict[str, Any]] = {}
    for path, value in _leaves(row, ()):
        model = next((key for key in path if key in TITLES), None)
        keys = [key for key in path if key != model]
        if model is None:
            model, keys = _model_in_last_key(path)
        measure = ", ".join(NAMES.get(key, key.replace("_", " ")) for key in keys) or "value"
        measures.setdefault(measure, {})[model] = value
    return measures


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for k, v in value.items() for leaf in _leaves(v, (*path, str(k)))]


def _model_in_last_key(path: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the model that the last key begins or ends with, and the path without it."""
    *before, last = path
    for model in TITLES:
        if last.startswith(f"{model}_"):
            return model, [*before, last[len(model) + 1 :]]
        if last.endswith(f"_{model}"):
            return model, [*before, last[: -len(model) - 1]]
    return "unlearned", list(path)


def _grid(groups: list[tuple[str, dict[str, dict[str, Any]]]]) -> dict[str, Any]:
    models = [m for m in TITLES if any(m in row for _, rows in groups for row in rows.values())]
    if not models:
        return {}
    filled = [
        (
            name,
            [
                (measure, [value_text(row[m]) if m in row else "" for m in models])
                for measure, row in rows.items()
            ],
        )
        for name, rows in groups
    ]
    return {"titles": [TITLES[m] for m in models], "groups": [g for g in filled if g[1]]}


def with_name(grid: dict[str, Any], before: str) -> dict[str, Any]:
    """Return a table of `attack_table` or `feature_table` that calls the original `before`."""
    if not grid:
        return {}
    groups = [
        (name, [(m.replace("the original", f"the {before}"), cells) for m, cells in rows])
        for name, rows in grid["groups"]
    ]
    return {"titles": [before if t == TITLES["original"] else t for t in grid["titles"]], "groups": groups}


def verdict(value: Any) -> dict[str, Any]:
    """Return the audit's verdict for the template. Empty without one.

    A record holds it as a sentence, as a list of sentences, or as a dict of words, sentences, limits and the
    values that decide it.
    """
    parts = table(value)
    rows = [
        (
            str(name),
            [fixed(number(row.get(k)), 2) for k in ("value", "retrained", "allowed")],
            bool(row.get("beyond")),
        )
        for name, row in table(parts.get("figures")).items()
        if isinstance(row, dict) and number(row.get("value")) is not None
    ]
    result = {
        "words": " · ".join(texts(parts.get("words"))),
        "sentences": texts(parts.get("sentences")) if parts else texts(value),
        "limits": texts(parts.get("limits")),
        "rows": rows,
    }
    return result if any(result.values()) else {}
