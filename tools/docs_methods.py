"""Make the page of each method from its file (docstring, fields) and the committed results."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field

from docs_measured import GRIDS, Case, Row, cases, read, source, spread

from expunge.cli.methods_page import forget_sets, models, needed_samples, settings_table, takes_mask
from expunge.training.method import Method
from expunge.training.registry import find, names, served_tasks

COST, NOT_FOR = "Cost:", "When not to use it:"
ORIGINS = ("Source", "Published", "Not published", "Ours", "Also ours", "Difference", "Not followed", "Defaults")
GENERATION = "generation_digits"
# how a docstring names a page of the documentation
PAGE = re.compile(r"docs/(\w+)\.md")


@dataclass
class Parts:
    """The docstring of a method's file, by topic.

    Args:
        title: Its first line.
        idea: What the method does, and its formulas (indented).
        origin: Source, what is published, and what is ours.
        cost: What a run costs, without the leading word.
        not_for: When not to use it, without the leading words.
    """

    title: str
    idea: list[str] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)
    cost: str = ""
    not_for: str = ""


def parts(docstring: str) -> Parts:
    """Sort the paragraphs of a docstring by topic. Those after "Source" belong to the origin."""
    first, *paragraphs = docstring.strip().split("\n\n")
    result = Parts(" ".join(first.split()))
    for paragraph in paragraphs:
        if paragraph.startswith(COST):
            result.cost = paragraph.removeprefix(COST).strip()
        elif paragraph.startswith(NOT_FOR):
            result.not_for = paragraph.removeprefix(NOT_FOR).strip()
        elif result.origin or paragraph.startswith(ORIGINS):
            result.origin.append(paragraph)
        else:
            result.idea.append(paragraph)
    return result


def _markdown(paragraphs: list[str]) -> str:
    """Return paragraphs as Markdown: indented ones are formulas, and a list gets an empty line before it."""
    texts = []
    for paragraph in paragraphs:
        if paragraph.startswith("    "):
            lines = [line.removeprefix("    ") for line in paragraph.splitlines()]
            texts.append("\n".join(["```text", *lines, "```"]))
        else:
            lead, mark, items = paragraph.partition("\n- ")
            # `<` of a formula would begin a tag
            text = (f"{lead}\n{mark}{items}" if mark else paragraph).replace("<", "&lt;")
            texts.append(PAGE.sub(r"[\1](../\1.md)", text))
    return "\n\n".join(texts)


def rows_of(name: str) -> list[tuple[Case, Row, Row, Row]]:
    """Return the rows of a method, each with its case and the rows of original and Retrain."""
    return [
        (case, row, rows["Original"], rows["Retrain"])
        for case, rows in cases().items()
        for row in rows.values()
        if row.method == name and row.kind == "unlearn"
    ]


def _score(row: Row, score: str) -> str:
    return spread(row.scores[score])


def measured(name: str) -> str:
    """Return what the committed results have about a method."""
    found = rows_of(name)
    texts = []
    if found:
        table = [
            "| data, model | forgotten | run | gap to Retrain | original's gap | UA | RA | TA | MIA | RTE s | n |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for case, row, original, _ in found:
            run = "settings chosen by default" if case.file == "defaults" else row.label
            kept = f" ({row.unchanged} of {len(row.gaps)} kept the original)" if row.unchanged else ""
            cells = [
                f"{case.data}, {case.model}", case.request, run, spread(row.gaps) + kept, spread(original.gaps),
                *(_score(row, s) for s in ("UA", "RA", "TA", "MIA")), spread(row.seconds, 2), str(len(row.gaps)),
            ]  # fmt: skip
            table.append("| " + " | ".join(cells) + " |")
        files = dict.fromkeys(case.file for case, *_ in found)
        texts += [
            "Scores in percent and gaps in percentage points: mean ± sample standard deviation over n seeds. "
            "A gap is the mean distance of UA, RA, TA and MIA to Retrain's. RTE is the time of the run, without trials.",
            "\n".join(table),
            "\n".join(f"- {source(file)}" for file in files),
        ]
    texts += _generation(name)
    if name == "retrain":
        texts.append("The gap of Retrain is 0 by definition. Its scores and seconds are in [benchmarks](../benchmarks.md).")
    if not texts:
        return "No committed benchmark has this method. Its tests compare it with a slow form or with numbers worked out by hand."
    return "\n\n".join(texts)


def _generation(name: str) -> list[str]:
    """Return the rows of a method in the benchmark of a small diffusion model."""
    content = read(GENERATION)
    labels = [k for k in content["runs"] if k == name or k.startswith(f"{name}-")]
    if not labels:
        return []
    table = ["| run | UA | RA | FID_judge |", "| --- | ---: | ---: | ---: |"]
    for label in [*labels, "retrain"]:
        scores = content["runs"][label]["scores"]
        table.append(
            f"| {label} | " + " | ".join(spread(scores[s]) for s in ("UA", "RA", "FID_judge")) + " |"
        )
    machine = content["machine"]
    return [
        f"On a small diffusion model ({content['what'].split(', every')[0]}; see [generation results](../generation_results.md)):",
        "\n".join(table),
        f"- `{content['command']}`, {content['date']}, seeds {', '.join(map(str, content['seeds']))}, {machine['arch']}, "
        f"{machine['cores']} cores, torch {machine['torch']} (`benchmarks/results/{GENERATION}.json`)",
    ]


def _share_of_retrain(name: str) -> str:
    """Return the seconds of a method as a share of Retrain's, over the grids."""
    shares = [
        100 * sum(row.seconds) / len(row.seconds) / (sum(retrain.seconds) / len(retrain.seconds))
        for case, row, _, retrain in rows_of(name)
        if case.file in GRIDS and row.label == name
    ]
    if not shares:
        return "Its seconds beside Retrain's are not measured."
    return f"Measured: {min(shares):.1f} % to {max(shares):.1f} % of Retrain's seconds in the runs below (without trials)."


def page(name: str) -> str:
    """Return the page of a method as Markdown."""
    method: type[Method] = find(name)
    text = parts(sys.modules[method.__module__].__doc__ or "")
    tasks = served_tasks(method)
    command = "unlearn" if "classification" in tasks or not tasks else "unlearn-generator"
    cost = _markdown([text.cost]) if text.cost else _general_cost(method)
    sections = [
        f"# {name}",
        text.title,
        _markdown(text.idea),
        _facts(method),
        f"```\nexpunge {command} {name} --help\n```",
        "## When not to use it",
        _markdown([text.not_for]) if text.not_for else _limits(method),
        "## Cost",
        cost if method.exact else f"{cost}\n\n{_share_of_retrain(name)}",
        "## What is published, and what is ours",
        _markdown(text.origin),
        "## Settings",
        settings_table(name),
        "## Measured",
        measured(name),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(method: type[Method]) -> str:
    """Return the facts of the index as a list."""
    return "\n".join(
        [
            f"- Models: {models(method)}",
            f"- Forget sets: {forget_sets(method)}",
            f"- Needs the samples of: {needed_samples(method)}",
            f"- Takes a mask: {takes_mask(method)}",
        ]
    )


def _general_cost(method: type[Method]) -> str:
    """Return what follows from the schedule of a method whose docstring names no cost."""
    schedule = getattr(method, "schedule", None)
    if schedule is None or method.exact:
        return "The file of the method names no cost."
    return (
        f'Each of the `epochs` is a pass of the schedule "{schedule}" ([schedules](../extending.md#schedules)) with one forward and '
        "one backward pass for each batch, unless the formula above needs more."
    )


def _limits(method: type[Method]) -> str:
    """Return the limits that follow from what a method declares."""
    limits = ["These limits follow from what it declares:"]
    if method.scenarios:
        limits.append(f"- It accepts only these forget sets: {', '.join(method.scenarios)}.")
    if "retain" in method.data:
        limits.append(
            "- It needs the retain set. Without it, take a method that needs only the forget set ([table](../choose.md))."
        )
    else:
        limits.append(
            "- It has no retain samples to protect the kept accuracy with; look at RA and TA of the audit."
        )
    return "\n".join([limits[0], "", *limits[1:]])


def pages() -> dict[str, str]:
    """Return {path inside docs: text} of all methods."""
    return {f"methods/{name}.md": page(name) for name in names()}
