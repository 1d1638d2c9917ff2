"""RMIA: the relative membership attack on a population of unlearned models.

Own code, because no library has it for populations of unlearned models. This is the offline form: only retrained
models are references.

Source: Zarifzadeh, Liu and Shokri, ICML 2024, arXiv:2312.03262.
"""

from __future__ import annotations

import numpy as np

from .populations import Floats, Separation, leave_one_out


def relative_ratio(
    target: Floats,
    population: Floats,
    references: Floats,
    around: Floats,
    *,
    gamma: float = 1.0,
    a: float = 0.3,
) -> Floats:
    """Return the RMIA score of each sample x: the share of samples z that x beats by the factor `gamma`.

    The compared value is p(x | model) / p(x). The estimate of p(x) is ((1 + a) mean + 1 - a) / 2 over the references.

    Args:
        target: The target model's confidences (n,) on the samples x.
        population: The target model's confidences (m,) on samples z that no model was trained on.
        references: Confidences (N, n) of the reference models on x. No reference model was trained on x.
        around: Confidences (N, m) of the reference models on z.
        gamma: Factor by which x must beat z. The paper uses 2. The default is 1, our choice: models that are sure of
            nearly all samples leave no ratio above 2. On digits every score was 0 or 1 with gamma 2, and the AUC
            between retrained models was 0.40 instead of 0.51.
        a: Interpolation parameter of p(x). The default 0.3 is the paper's.

    Returns:
        Scores (n,) in [0, 1].

    Source: arXiv:2312.03262, equation 10 for p(x).
    """
    ratio = lambda own, other: own / np.maximum(((1 + a) * other.mean(0) + 1 - a) / 2, 1e-300)  # noqa: E731
    bars = np.sort(ratio(population, around) * gamma)
    return np.searchsorted(bars, ratio(target, references), side="right") / len(bars)


def rmia(
    unlearned: tuple[Floats, Floats], retrained: tuple[Floats, Floats], *, gamma: float = 1.0
) -> Separation:
    """Run RMIA on a method. Each pair of shadow models is the target once.

    Args:
        unlearned: Confidences of the unlearned shadows on the forget set (N, n) and on test samples (N, m).
        retrained: The same of the retrained shadows. The retrained shadows other than the target are the references.
        gamma: See `relative_ratio`.

    Returns:
        How well the scores separate unlearned from retrained models.

    Raises:
        ExpungeError: As `leave_one_out` does.
    """
    scores = []
    for k, others in leave_one_out(unlearned[0], retrained[0]):
        scores.append(
            [
                relative_ratio(forget[k], test[k], retrained[0][others], retrained[1][others], gamma=gamma)
                for forget, test in (unlearned, retrained)
            ]
        )
    return Separation.of(np.stack([s[0] for s in scores]), np.stack([s[1] for s in scores]))
