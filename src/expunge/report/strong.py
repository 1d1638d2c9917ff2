"""The strong audit's page: attacks and feature measures with a column a model, and the verdict with what decides it.

Audits name figures freely. A figure's model is a part of its own in the path to it (`{"unlearned": {"auc": 0.5}}`), or the
beginning or end of its name (`auc_original`, `retrained_steps`); without any it belongs to the model under audit.
"""

from __future__ import annotations

from typing import Any

from .audits import figure
from .values import number, table, texts
from .words import fixed

HEADS = {
    "unlearned": "here",
    "original": "original",
    "retrained": "Retrain",
    "null": "chance",
    "this_model": "this very model",
}
NAMES = {
    "auc": "AUC", "tpr_at_01": "TPR at 0.1 % FPR", "tpr_at_1": "TPR at 1 % FPR", "p95": "95th percentile",
    "nonmember": "called unseen, %", "probe_forgotten": "linear probe, forgotten class, %",
    "probe_retained": "linear probe, other classes, %", "knn_forgotten": "nearest neighbours, forgotten class, %",
    "knn_retained": "nearest neighbours, other classes, %", "bias_shift": "best shift of the head’s bias",
    "corrected_forgotten": "forgotten class after that shift, %", "corrected_retained": "other classes after that shift, %",
    "scatter": "scatter between and within classes", "member_probe": "probe for membership, AUC",
    "redistribution_entropy": "entropy of where they go, nats", "cka_original": "CKA to the original",
    "cka_retrained": "CKA to Retrain", "tv_retrained": "predictions elsewhere than Retrain’s, share",
    "worst_class_accuracy": "worst class, %", "worst_group": "worst group", "worst_group_accuracy": "worst group, %",
    "epsilon_median": "median epsilon", "final": "final score", "tv": "total variation",
}  # fmt: skip


def attacks(value: Any) -> dict[str, Any]:
    """{"heads": models, "groups": [(attack, [(measure, cells)])]} of `details.attacks`; empty without figures."""
    named = _named(value)
    return _grid(
        [(name.replace("_", " "), _measures(row)) for name, row in named.items() if isinstance(row, dict)]
    )


def features(value: Any) -> dict[str, Any]:
    """The same of `details.features`, {measure: {model: figure}}, as one group without a name."""
    return _grid([("", _measures(_named(value)))])


def _named(value: Any) -> dict[str, Any]:
    """A dict as it is; a list of dicts by their names."""
    if isinstance(value, list):
        rows = [r for r in value if isinstance(r, dict)]
        return {
            str(r.get("name", i + 1)): {k: v for k, v in r.items() if k != "name"} for i, r in enumerate(rows)
        }
    return {str(k): v for k, v in table(value).items()}


def _measures(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{measure: {model: figure}} of nested figures."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in _leaves(row, ()):
        model = next((p for p in path if p in HEADS), None)
        rest = [p for p in path if p != model]
        if model is None:
            model, rest = _split(path)
        measure = ", ".join(NAMES.get(p, p.replace("_", " ")) for p in rest) or "value"
        found.setdefault(measure, {})[model] = value
    return found


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for k, v in value.items() for leaf in _leaves(v, (*path, str(k)))]


def _split(path: tuple[str, ...]) -> tuple[str, list[str]]:
    """The model in the last name, if it begins or ends with one, and the path without it."""
    *before, last = path
    for model in HEADS:
        if last.startswith(f"{model}_"):
            return model, [*before, last[len(model) + 1 :]]
        if last.endswith(f"_{model}"):
            return model, [*before, last[: -len(model) - 1]]
    return "unlearned", list(path)


def _grid(groups: list[tuple[str, dict[str, dict[str, Any]]]]) -> dict[str, Any]:
    models = [m for m in HEADS if any(m in row for _, rows in groups for row in rows.values())]
    filled = [
        (
            name,
            [
                (measure, [figure(row[m]) if m in row else "" for m in models])
                for measure, row in rows.items()
            ],
        )
        for name, rows in groups
    ]
    return {"heads": [HEADS[m] for m in models], "groups": [g for g in filled if g[1]]} if models else {}


def verdict(value: Any) -> dict[str, Any]:
    """The audit's verdict, however it is kept: a sentence, a list of them, or a dict of words, sentences, limits and the
    figures that decide it. Empty where there is none."""
    given = table(value)
    words = texts(given.get("words"))
    lines = texts(given.get("sentences")) if given else texts(value)
    figures = [
        (
            str(name),
            [fixed(number(row.get(k)), 2) for k in ("value", "retrained", "allowed")],
            bool(row.get("beyond")),
        )
        for name, row in table(given.get("figures")).items()
        if isinstance(row, dict) and number(row.get("value")) is not None
    ]
    found = {
        "words": " · ".join(words),
        "lines": lines,
        "limits": texts(given.get("limits")),
        "figures": figures,
    }
    return found if any(found.values()) else {}
