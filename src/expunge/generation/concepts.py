"""The words of an erasure: what is erased, what takes its place, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.samples import Samples
from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import raise_all

TEMPLATES = ("a photo of a {}",)


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """Name the concepts to erase, their anchors, and the concepts to keep.

    Args:
        concept: The concept to erase, in the words of a prompt. A tuple names several.
        anchor: What the model shows for the concept's prompts after the erasure. Empty: what it shows for the
            null condition. A tuple names one anchor for each concept, in the same order.
        keep: Concepts that must stay as they are. The anchors are always kept too. One text is one concept.
        templates: Prompts with `{}` in place of the concept. Every concept and anchor goes into every template. One text is
            one template.

    Raises:
        ExpungeError: A value is neither a text nor a tuple of texts.

    Example:
        >>> Erasure(concept="dress", anchor="coat", keep=("bag",)).prompts()
        ['a photo of a dress', 'a photo of a coat', 'a photo of a bag']
    """

    concept: str | tuple[str, ...]
    anchor: str | tuple[str, ...] = ""
    keep: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        names = ("concept", "anchor", "keep", "templates")
        raise_all([p for name in names for p in _not_texts(name, getattr(self, name))])
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
            # the letters of one text are no concepts
            elif name in ("keep", "templates"):
                object.__setattr__(self, name, (value,))

    @property
    def words(self) -> tuple[str, ...]:
        """The concepts to erase."""
        return (self.concept,) if isinstance(self.concept, str) else self.concept

    @property
    def anchors(self) -> tuple[str, ...]:
        """The anchor of each concept."""
        given = (self.anchor,) if isinstance(self.anchor, str) else self.anchor
        return given * len(self.words) if len(given) == 1 else given

    @property
    def kept(self) -> tuple[str, ...]:
        """The anchors that have words, and the kept concepts, each once."""
        return tuple(word for word in dict.fromkeys((*self.anchors, *self.keep)) if word)

    @property
    def title(self) -> str:
        """The concepts as one text."""
        return ", ".join(self.words)

    def prompts(self, plain: bool = False) -> list[str]:
        """Return the prompts in the order of their conditions.

        A concept and its anchor stand side by side in each template, so the next condition of each concept prompt is
        its anchor. The kept concepts follow.

        Args:
            plain: Leave the templates out, as for the classes of a DiT.
        """
        templates = ("{}",) if plain else self.templates

        def fill(template: str, word: str) -> str:
            return template.replace("{}", word) if word or plain else word

        pairs = [
            fill(template, word)
            for template in templates
            for both in zip(self.words, self.anchors, strict=True)
            for word in both
        ]
        return pairs + [fill(template, word) for word in self.keep for template in templates]

    def concepts(self, plain: bool = False) -> list[int]:
        """Return the conditions to erase, as positions in `prompts(plain)`."""
        return [2 * k for k in range(len(self.words) * (1 if plain else len(self.templates)))]

    def conditions(self, word: str, plain: bool = False) -> list[int]:
        """Return the conditions of one concept to erase, as positions in `prompts(plain)`."""
        place, count = self.words.index(word), len(self.words)
        return [k for k in self.concepts(plain) if k // 2 % count == place]

    def problems(self) -> list[str]:
        """Return the problems of the words and templates, one sentence each."""
        problems = []
        if not self.words or not all(word.strip() for word in self.words):
            problems.append("the concept is empty; name in a few words what to erase.")
        if len(set(self.words)) < len(self.words):
            problems.append(f"the concepts {list(self.words)} repeat a concept; name each once.")
        problems += [
            f"'{word}' is the concept and also the anchor or a kept concept; "
            "it cannot be erased and kept. Name another anchor or kept concept."
            for word in dict.fromkeys(self.words)
            if word in (*self.anchors, *self.keep)
        ]
        if len(self.anchors) != len(self.words):
            problems.append(
                f"there are {len(self.anchors)} anchors for {len(self.words)} concepts; give one anchor for all, or one for each."
            )
        if bad := [t for t in self.templates if template_is_wrong(t)]:
            problems.append(
                f"templates {bad} do not contain {{}} exactly once, and no other brace; write {{}} in the place of the concept."
            )
        problems += [
            f"the text {text!a} has characters that no text can have (surrogates); give it in UTF-8."
            for text in (*self.words, *self.anchors, *self.keep, *self.templates)
            if _is_no_unicode(text)
        ]
        if not self.templates:
            problems.append("there is no template; give at least one, for example '{}'.")
        return problems

    def check(self) -> None:
        """Raise `ExpungeError` with every problem of the words and templates."""
        raise_all(self.problems())


def _not_texts(name: str, value: Any) -> list[str]:
    """Return the problem of a value that is neither a text nor a list or tuple of texts."""
    if isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
        return []
    return [f"{name} is {value!r}; give a text or a tuple of texts."]


def _is_no_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def template_is_wrong(template: str, places: int = 1) -> bool:
    """Return whether a template does not have exactly `places` places `{}`, or has other braces."""
    between = template.split("{}")
    return len(between) != places + 1 or any(brace in text for text in between for brace in "{}")


def split_of(
    data: TensorData, concepts: Sequence[int], count: int, name: str, with_images: bool = True
) -> Split:
    """Return the split whose forget set has the conditions `concepts`. Validation and test set are empty.

    Args:
        data: Latents of every condition.
        concepts: The conditions to erase.
        count: Number of conditions.
        name: The concept's words.
        with_images: Whether `data` holds latents of images. Without them the retain set is empty.

    Raises:
        ExpungeError: If the forget set or the retain set is empty.
    """
    forget = torch.isin(data.labels, torch.tensor(concepts))

    def samples(where: Tensor) -> Samples:
        return Samples(data, where.nonzero()[:, 0])

    raise_all(
        [
            f"there are no images of {what}; add some."
            for what, where in (("the concept", forget), ("any kept concept or the anchor", ~forget))
            if with_images and not where.any()
        ]
    )
    empty = samples(forget & False)
    return Split(
        samples(forget),
        samples(~forget) if with_images else empty,
        empty,
        empty,
        empty,
        empty,
        count,
        "class",
        "unlearn",
        {"scenario": "class", "forget": list(concepts), "concept": name},
        tuple(concepts),
    )
