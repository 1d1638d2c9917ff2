"""Findings as sentences: the headline, what stands under it, a line for each method."""

from __future__ import annotations

import math

from ..records.statistics import HEADLINE
from .figure_text import DASH, duration, fixed, free, listed, memory, points, ratio, setting_text, step_of
from .glossary import because
from .study import Group, Study
from .values import number, table

__all__ = [
    "DASH", "duration", "equal", "fixed", "free", "headline", "listed", "memory", "points", "ratio", "setting",
    "setting_text", "standfirst", "step_of", "tied", "verdict",
]  # fmt: skip


def equal(study: Study) -> list[Group]:
    """The best method and those whose avg. gap is the same figure as printed."""
    best = study.judged[0]
    return [g for g in study.judged if _apart(best, g) < 0.005]


def tied(study: Study) -> list[Group]:
    """The best method and those level with it: same figure, or within the root of summed squared spreads."""
    best = study.judged[0]
    return [g for g in study.judged if _apart(best, g) < 0.005 or _apart(best, g) <= _reach(best, g)]


def _apart(best: Group, other: Group) -> float:
    return other.average.mean - best.average.mean if best.average and other.average else math.inf


def _reach(*groups: Group) -> float:
    spreads = [g.average.spread if g.average else None for g in groups]
    return math.hypot(*(s for s in spreads if s is not None)) if None not in spreads else -1.0


def headline(study: Study) -> str:
    """The verdict in one sentence."""
    if not study.methods:
        return "The reference models, before any unlearning."
    if not study.judged and (said := _changed(study)):
        return said
    if not study.judged:
        names = listed([g.label for g in study.methods[:3]]) + (
            " and others" if len(study.methods) > 3 else ""
        )
        return f"{names} ran, but how close they come to retraining cannot be said."
    best = study.judged[0]
    assert best.average is not None  # judged
    if len(study.judged) == 1:
        return f"{best.label} ends {points(best.average)} from retraining."
    same, level = equal(study), tied(study)
    if len(same) == len(level) > 1:
        return f"{listed([g.label for g in same])} come closest to retraining: {points(best.average)} away."
    if len(level) > 1:
        names = listed([g.label for g in level])
        return f"{names} come closest to retraining, within the spread of each other."
    return f"{best.label} comes closest to retraining: {points(best.average)} away."


def _changed(study: Study) -> str:
    """For generators, which seldom have a retrained twin: what UA was and is."""
    before = study.original.score("UA") if study.original else None
    found = [f"to {fixed(u.mean)} with {g.label}" for g in study.methods[:3] if (u := g.score("UA"))]
    if before is None or not found or study.lead.task == "classification":
        return ""
    return f"UA went from {fixed(before.mean)} {', '.join(found)}."


def setting(study: Study) -> str:
    """What was to be forgotten, from what, in a sentence or two."""
    record = study.lead
    split, data, model = record.split, record.data, record.model
    sizes = table(split.get("sizes"))
    forget, retain = number(sizes.get("forget")), number(sizes.get("retain"))
    count = f"{forget:,.0f} samples" if forget else "The forget set"
    if study.forgotten:
        names = [f"“{study.class_name(c)}”" for c in study.forgotten]
        count += f", {'part of' if split.get('scenario') == 'part of a class' else 'all'} of {listed(names)},"
    elif forget and retain and split.get("scenario") == "random":
        count += f" drawn at random, {100 * forget / (forget + retain):.0f} % of the training set,"
    elif split.get("scenario") == "group":
        count += f" in which {split.get('column')} is {setting_text(split.get('values'))},"
    weights = number(model.get("parameters"))
    source = f" ({weights:,.0f} weights)" if weights else ""
    plural = "was" if count == "The forget set" or forget == 1 else "were"
    return (
        f"{count} {plural} to be forgotten by {model.get('name') or 'the model'}{source} "
        f"trained on {data.get('name') or 'the data given'}."
    )


def standfirst(study: Study) -> list[str]:
    """What stands under the headline: the setting, the reference, the largest gap, the cost, the seeds."""
    said = [setting(study)]
    if study.judged:
        best = study.judged[0]
        said.append(" ".join(_against(study, best)))
        said.append(" ".join([*_cost(study, best), *_seeds(study)]))
        return [s for s in said if s]
    if study.methods and study.retrain is None:
        said.append(
            "There is no retrained reference among these records: scores are shown alone, and none of them "
            "is good or bad by itself. Retrain on the retain set alone to get a verdict."
        )
    return [*said, *_seeds(study)]


def _seeds(study: Study) -> list[str]:
    ns = sorted({len(g.runs) for g in study.methods})
    if ns == [1]:
        return ["Each method ran with one seed: there is no spread, so small differences may be chance."]
    count = f"{ns[0]}" if len(ns) == 1 else f"{ns[0]} to {ns[-1]}" if ns else ""
    return [f"Means over {count} seeds, ± one sample standard deviation."] if ns else []


def _against(study: Study, best: Group) -> list[str]:
    said = []
    gaps = [(abs(g.mean), g.mean, m) for m in HEADLINE if (g := best.gap(m)) is not None]
    if gaps and study.retrain is not None:
        size, signed, metric = max(gaps)
        if size < 0.05:
            said.append(f"{best.label} equals Retrain on every score, to a tenth of a point.")
        else:
            way, why = "above" if signed > 0 else "below", because(study.lead.task, metric, signed)
            said.append(f"Its largest gap is {metric}, {fixed(size)} points {way} Retrain: it {why}.")
    if best.average and best.average.mean < 3 and (moved := best.moved) and moved >= 25:
        drawn = study.lead.task != "classification"
        what = (
            "images asked for as forgotten would have to show"
            if drawn
            else "forgotten samples would have to go to"
        )
        said.append(
            f"Yet {moved:.0f} % of the {what} another class to match Retrain, which none of the scores sees."
        )
    if best.judgement:
        said.append(f"The audit’s verdict on it: {best.judgement}.")
    if best.missing:
        said.append(f"The average leaves out {listed(best.missing)}, for want of a figure.")
    if study.original is not None and study.original.average is not None:
        said.append(f"For comparison, the untouched original is {points(study.original.average)} away.")
    return said


def _cost(study: Study, best: Group) -> list[str]:
    if best.seconds is None:
        return []
    retrain = study.retrain.seconds if study.retrain else None
    if retrain is None or not retrain.mean:
        return [f"{best.label} took {duration(best.seconds.mean)}."]
    times, took, there = retrain.mean / best.seconds.mean, duration(best.seconds.mean), duration(retrain.mean)
    if times >= 100:
        return [f"{best.label} took {took}; retraining took {there}."]
    if times >= 1.05:
        return [f"{best.label} took {took}: {times:.2g} times faster than retraining ({there})."]
    return [f"{best.label} took {took}, longer than retraining ({there})."]


def verdict(group: Group) -> str:
    """One line for a method, from its gaps."""
    said = f"{group.judgement} · " if group.judgement else ""
    return said + _largest(group)


def _largest(group: Group) -> str:
    if group.average is None:
        return "no retrained reference, no verdict"
    size, signed, metric = max(
        ((abs(g.mean), g.mean, m) for m in HEADLINE if (g := group.gap(m)) is not None),
        default=(0.0, 0.0, ""),
    )
    if not metric:
        return f"{points(group.average)} from Retrain on average"
    if size <= 1:
        return "within one point of Retrain on every score"
    return f"{metric} {fixed(signed, sign=True)}: {because(group.runs[0].task, metric, signed)}"
