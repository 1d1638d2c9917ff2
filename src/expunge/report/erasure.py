"""What the report says of erased concepts: the headline, the words of the erasure, and what the images do not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .group import Group
from .number_text import fixed, listed
from .sentences import seeds
from .study import Study
from .values import number, table, texts


def _words(study: Study, name: str) -> list[str]:
    """Return the concepts, anchors or kept concepts of an erasure, each once. Older records have one text."""
    return list(dict.fromkeys(texts(table(study.lead.details.get("erasure")).get(name))))


def _quoted(words: Sequence[str]) -> str:
    return listed([f"“{word}”" for word in words])


def headline(study: Study) -> str:
    """Return what was erased, and what stands in its place."""
    concepts, anchors = _words(study, "concept"), _words(study, "anchor")
    what = _quoted(concepts) if concepts else "A concept"
    towards = _quoted(anchors) if anchors else "what the empty prompt shows"
    names = listed([g.label for g in study.methods[:3]])
    return f"{what}, moved to {towards} by {names}."


def standfirst(study: Study) -> list[str]:
    """Return the paragraphs under the headline: the words, the pipeline, and what the judge sees."""
    concepts, anchors, kept = (_words(study, name) for name in ("concept", "anchor", "keep"))
    record = study.lead
    parameters = number(record.model.get("parameters"))
    size = f" ({parameters:,.0f} parameters)" if parameters else ""
    paragraphs = [
        f"Concept: {_quoted(concepts) or 'not recorded'}. Anchor: {_quoted(anchors) or 'the empty prompt'}. "
        f"Kept: {_quoted(kept) or 'nothing else'}. Pipeline: {record.model.get('name') or 'not named'}{size}.",
        "The pictures show the same prompts and the same noise before and after the erasure.",
    ]
    paragraphs += [f"{g.label}: {text}." for g in study.methods if (text := result(g))]
    return [*paragraphs, *seeds(study)]


def result(group: Group) -> str:
    """Return in words how often the judge misses the concept before and after. Empty without a judge."""
    before = number(table(group.shown.details.get("before")).get("UA"))
    after = group.score("UA")
    if before is None or after is None:
        return ""
    return f"the judge misses the concept in {fixed(before)} % of its images before and in {fixed(after.mean)} % after"


def limits(study: Study) -> list[str]:
    """Return sentences on what the pictures and scores of an erasure do not show."""
    sentences = [
        "The comparison is with the original pipeline. No score says how a pipeline draws that never saw the concept.",
        "Other words, other languages, image prompts and a little training may bring the concept back. This is no certificate.",
    ]
    if not any(g.score("UA") for g in study.methods):
        sentences.append("No judge scored the images (--judge), so only your eyes compare them.")
    return sentences


def opening(pictures: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the grids of all methods, the first one of each title once: "before" is the same for every method."""
    seen: dict[str, dict[str, Any]] = {}
    for grids in pictures:
        for grid in grids:
            seen.setdefault(f"{grid['title']}|{grid['src']}", grid)
    return list(seen.values())


def verdict(group: Group) -> str:
    """Return the result of one method in one line."""
    return result(group) or "no judge scored the images"
