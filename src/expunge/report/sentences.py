"""The sentences of the report: the headline, the text under it, and one line for each method."""

from __future__ import annotations

import math

from ..records.statistics import HEADLINE
from .glossary import gap_meaning
from .group import Group
from .number_text import duration, fixed, listed, points
from .study import Study, is_generator
from .values import number, table


def equal(study: Study) -> list[Group]:
    """Return the best method and those with the same gap when printed with two decimals.

    The gap is the worse of average gap and feature gap.
    """
    best = study.contenders[0]
    return [g for g in study.contenders if _difference(best, g) < 0.005]


def tied(study: Study) -> list[Group]:
    """Return the best method and those that are not clearly worse.

    A method is not clearly worse if its gap is the same when printed, or if the difference is at most
    the root of the summed squared spreads.
    """
    best = study.contenders[0]
    return [
        g
        for g in study.contenders
        if _difference(best, g) < 0.005 or _difference(best, g) <= _joint_spread(best, g)
    ]


def _difference(best: Group, other: Group) -> float:
    return other.distance.mean - best.distance.mean if best.distance and other.distance else math.inf


def _joint_spread(*groups: Group) -> float:
    """Return the root of the summed squared spreads, or -1 if one spread is missing."""
    spreads = [g.distance.spread if g.distance else None for g in groups]
    return math.hypot(*(s for s in spreads if s is not None)) if None not in spreads else -1.0


def headline(study: Study) -> str:
    """Return the main result in one sentence."""
    if not study.methods:
        return "These are the reference models. No method ran."
    if not study.ranked and (change := _change_of_generators(study)):
        return change
    if not study.ranked:
        names = [g.label for g in study.methods[:3]]
        names += ["others"] if len(study.methods) > 3 else []
        if any("reference" in g.grounds for g in study.methods):
            return f"No conclusion on {listed(names)}: the retrained model is not comparable with the {study.before}."
        return f"The distance of {listed(names)} to retraining is unknown."
    best = study.contenders[0]
    # A ranked method has an average gap, and therefore a distance.
    assert best.distance is not None
    if "unchanged" in best.grounds:
        return f"{best.label} changed nothing: its model is the {study.before}."
    if len(study.contenders) == 1:
        return f"{best.label} is {points(best.distance)} from retraining."
    same, level = equal(study), tied(study)
    if len(same) == len(level) > 1:
        return f"{listed([g.label for g in same])} come closest to retraining: {points(best.distance)} away."
    if len(level) > 1:
        names = [g.label for g in level]
        return (
            f"{listed(names)} come closest to retraining. Their gaps are equal within the spread over seeds."
        )
    return f"{best.label} comes closest to retraining: {points(best.distance)} away."


def _change_of_generators(study: Study) -> str:
    """Return how UA changed. Generators seldom have a retrained model to compare with."""
    before = study.original.score("UA") if study.original else None
    # controls do not lead
    methods = sorted(study.methods, key=lambda g: g.control)
    changes = [f"to {fixed(u.mean)} with {g.label}" for g in methods[:3] if (u := g.score("UA"))]
    if before is None or not changes or not study.generator:
        return ""
    return f"UA changed from {fixed(before.mean)} {', '.join(changes)}."


def setting(study: Study) -> str:
    """Return what was to be forgotten, and from which model."""
    record = study.lead
    split, data, model = record.split, record.data, record.model
    sizes = table(split.get("sizes"))
    forget, retain = number(sizes.get("forget")), number(sizes.get("retain"))
    forgotten = f"{forget:,.0f} sample{'' if forget == 1 else 's'}" if forget else "the forget set"
    if study.forgotten:
        names = [f"“{study.class_name(c)}”" for c in study.forgotten]
        # a union of a class and other samples is a request for ids
        parts = {"part of a class": "part of", "ids": "among them all of"}
        forgotten += f", {parts.get(str(split.get('scenario')), 'all of')} {listed(names)}"
    elif forget and retain and split.get("scenario") == "random":
        forgotten += f", drawn at random, {100 * forget / (forget + retain):.0f} % of the training set"
    elif split.get("scenario") == "group":
        # records of earlier versions name the values, which may be people
        values = split.get("values")
        count = number(split.get("group_values")) or (len(values) if isinstance(values, list) else 1)
        forgotten += (
            f", those with {count:,.0f} value{'' if count == 1 else 's'} of the column {split.get('column')}"
        )
    parameters = number(model.get("parameters"))
    size = f" ({parameters:,.0f} parameters)" if parameters else ""
    return (
        f"To forget: {forgotten}. Model: {model.get('name') or 'not named'}{size}, "
        f"trained on {data.get('name') or 'data without a name'}."
    )


def standfirst(study: Study) -> list[str]:
    """Return the paragraphs under the headline: setting, largest gap, cost, seeds."""
    paragraphs = [setting(study)]
    paragraphs += dict.fromkeys(text for g in study.methods for text in g.grounds.values())
    if study.ranked:
        best = study.contenders[0]
        paragraphs.append(" ".join(_gaps(study, best)))
        paragraphs.append(" ".join([*_cost(study, best), *seeds(study)]))
        return [p for p in paragraphs if p]
    if study.methods and study.retrain is None:
        paragraphs.append(
            "These records contain no retrained model. Without this reference, no score is good or bad. "
            "To rank the methods, run Retrain, which trains on the retain set alone."
        )
    return [*paragraphs, *seeds(study)]


def seeds(study: Study) -> list[str]:
    """Return how many seeds the scores are means of."""
    counts = sorted({len(g.runs) for g in study.methods})
    if counts == [1]:
        return ["Each method ran with one seed. There is no spread, so small differences may be chance."]
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else ""
    return [f"Scores are means over {text} seeds, ± one sample standard deviation."] if counts else []


def _gaps(study: Study, best: Group) -> list[str]:
    """Compare the best method with Retrain and with the original."""
    sentences = []
    gaps = [(abs(g.mean), g.mean, m) for m in HEADLINE if (g := best.gap(m)) is not None]
    if gaps and study.retrain is not None:
        size, gap, metric = max(gaps)
        if size < 0.05:
            sentences.append(f"{best.label} equals Retrain on every score within 0.05 points.")
        else:
            side, meaning = "above" if gap > 0 else "below", gap_meaning(study.generator, metric, gap)
            sentences.append(
                f"The largest gap of {best.label} is {metric}, {fixed(size)} points {side} Retrain: it {meaning}."
            )
    if best.feature_gap and best.average and best.feature_gap.mean > best.average.mean:
        sentences.append(
            f"Its features are further away: the feature gap is {points(best.feature_gap)}, the average gap of the scores "
            f"{points(best.average)}."
        )
    # The scores can agree although the predictions on the forget set do not.
    if best.average and best.average.mean < 3 and (moved := best.moved) and moved >= 25:
        what = "images sampled for forgotten classes" if study.generator else "forgotten samples"
        sentences.append(
            f"But {moved:.0f} % of the {what} would need another class to match Retrain. No score shows this."
        )
    closer = [g for g in study.ranked if g.control and not best.control and _difference(best, g) < 0]
    if closer:
        controls = listed([f"{g.label}, {points(g.average)}" for g in closer if g.average])
        sentences.append(
            f"A control is closer to Retrain ({controls}): the choice of the mask does not explain the result."
        )
    if best.verdict_words:
        sentences.append(f"The verdict on {best.label} is: {best.verdict_words}.")
    if best.missing:
        sentences.append(f"The average leaves out {listed(best.missing)}, for which a value is missing.")
    if study.original is not None and study.original.average is not None:
        sentences.append(f"The {study.before} is {points(study.original.average)} from Retrain.")
    return sentences


def _cost(study: Study, best: Group) -> list[str]:
    if best.seconds is None:
        return []
    retrain = study.retrain.seconds if study.retrain else None
    took = f"{best.label} took {duration(best.seconds.mean)}"
    if retrain is None or not retrain.mean:
        return [f"{took}."]
    speedup, reference = retrain.mean / best.seconds.mean, duration(retrain.mean)
    if speedup >= 100:
        return [f"{took}; retraining took {reference}."]
    if speedup >= 1.05:
        return [f"{took}: {speedup:.2g} times faster than retraining ({reference})."]
    return [f"{took}, longer than retraining ({reference})."]


def verdict(group: Group) -> str:
    """Return the result of one method in one line."""
    words = group.verdict_words or ("unchanged" if "unchanged" in group.grounds else "")
    prefix = f"{words} · " if words else ""
    return prefix + _largest_gap(group)


def _largest_gap(group: Group) -> str:
    if "reference" in group.grounds:
        return "the retrained model is not comparable, so no gap"
    if group.average is None:
        return "no retrained model, so no gap"
    size, gap, metric = max(
        ((abs(g.mean), g.mean, m) for m in HEADLINE if (g := group.gap(m)) is not None),
        default=(0.0, 0.0, ""),
    )
    if not metric:
        return f"{points(group.average)} from Retrain on average"
    if size <= 1:
        return "within one point of Retrain on every score"
    if not group.signed(metric):
        return f"{metric} {fixed(size)} points from Retrain"
    return f"{metric} {fixed(gap, sign=True)}: {gap_meaning(is_generator(group.runs[0]), metric, gap)}"
