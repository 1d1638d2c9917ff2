"""The support vector machine of the field's membership attack, solved as the one-dimensional problem it is.

`SVC(C=3, gamma="auto", kernel="rbf")` on one feature has the kernel exp(-(x - x')^2). On [0, 1] it is the
product of 11 features to 3e-15 (Chebyshev interpolation converges faster than any power), so its dual is a
quadratic programme whose matrix has rank 11. An interior point
method (Mehrotra, SIAM J. Optim. 2(4), 1992) with low-rank linear algebra (Fine and Scheinberg, JMLR 2,
2001) solves it in about 20 steps of O(n) work. libsvm stops where the optimality conditions hold to 1e-3;
this stops at 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDEST = 144.0  # gamma * range^2 up to which the interpolation is trusted: 56 features there; beyond, libsvm
GAP = 1e-7  # optimality conditions hold to this; libsvm's default is 1e-3
STEPS = 100


@dataclass(frozen=True)
class Features:
    """Features whose inner products are the kernel exp(-gamma (x - x')^2) on [low, high]."""

    low: float
    high: float
    nodes: Floats  # (m,) in [-1, 1]
    weights: Floats  # (m,) barycentric
    root: Floats  # (m, d)

    @classmethod
    def fit(cls, low: float, high: float, gamma: float) -> Features:
        """Interpolation at Chebyshev points of the second kind; directions below 1e-16 of the kernel are
        cut off.
        """
        m = 20 + int(8 * np.sqrt(gamma) * (high - low))
        angle = np.pi * np.arange(m) / (m - 1)
        weights = np.where(np.arange(m) % 2, -1.0, 1.0)
        weights[[0, -1]] /= 2
        nodes = np.cos(angle)
        x = (low + high) / 2 + nodes * (high - low) / 2
        values, vectors = np.linalg.eigh(np.exp(-gamma * (x[:, None] - x) ** 2))
        keep = values > 1e-16 * values[-1]
        return cls(
            low, high, nodes, weights, np.asarray(vectors[:, keep] * np.sqrt(values[keep]), dtype=np.float64)
        )

    def __call__(self, x: Floats) -> Floats:
        """Features (n, d) of the scores (n,)."""
        span = self.high - self.low
        at = (2 * x - self.low - self.high) / span if span > 0 else np.zeros_like(x)
        distance = at[:, None] - self.nodes
        hit = np.abs(distance) < 1e-15
        terms = self.weights / np.where(hit, 1.0, distance)
        terms[hit.any(1)] = 0.0
        terms[hit] = 1.0
        return (terms / terms.sum(1, keepdims=True)) @ self.root


@dataclass(frozen=True)
class Boundary:
    """A fitted machine: `decide` gives values above 0 for members."""

    features: Features
    weight: Floats  # (d,)
    bias: float

    def decide(self, x: Floats) -> Floats:
        """Decision values (n,). Scores outside the fitted range are an error of the caller."""
        return self.features(x) @ self.weight + self.bias


@dataclass(frozen=True)
class Libsvm:
    """scikit-learn's machine with the same `decide`."""

    machine: Any

    def decide(self, x: Floats) -> Floats:
        """Decision values (n,)."""
        return self.machine.decision_function(x[:, None])


def libsvm(member: Floats, nonmember: Floats, C: float, gamma: float) -> Libsvm:
    """scikit-learn's machine of members (1) against non-members (0)."""
    from sklearn.svm import SVC

    machine = SVC(C=C, gamma=gamma, kernel="rbf")
    machine.fit(
        np.concatenate([member, nonmember])[:, None], np.repeat([1, 0], [len(member), len(nonmember)])
    )
    return Libsvm(machine)


def fit(
    member: Floats, nonmember: Floats, low: float, high: float, C: float, gamma: float
) -> Boundary | Libsvm:
    """The soft-margin machine of members (+1) against non-members (-1), to be asked on [low, high].

    A kernel narrower than `WIDEST` allows goes to scikit-learn.
    """
    if gamma * (high - low) ** 2 > WIDEST:
        return libsvm(member, nonmember, C, gamma)
    points, labels, box = _collapse(member, nonmember, C)
    features = Features.fit(low, high, gamma)
    weight, bias = solve(features(points), labels, box)
    return Boundary(features, weight, bias)


def _collapse(member: Floats, nonmember: Floats, C: float) -> tuple[Floats, Floats, Floats]:
    """Equal scores of one class as one point whose multiplier may be as large as theirs together."""
    x1, n1 = np.unique(member, return_counts=True)
    x0, n0 = np.unique(nonmember, return_counts=True)
    labels = np.concatenate([np.ones(len(x1)), -np.ones(len(x0))])
    return np.concatenate([x1, x0]), labels, C * np.concatenate([n1, n0]).astype(float)


def solve(phi: Floats, y: Floats, box: Floats) -> tuple[Floats, float]:
    """Weight (d,) and bias of the machine with features (n, d), labels +-1 (n,) and largest multipliers (n,).

    Minimises a'Qa/2 - sum(a) over 0 <= a <= box, y'a = 0, with Q = ZZ' and Z = y phi.
    """
    z = phi * y[:, None]
    a, s, t, b = box / 2, np.ones_like(box), np.ones_like(box), 0.0
    n = len(box)
    for _ in range(STEPS):
        w = z.T @ a
        dual = z @ w - 1 + y * b - s + t  # gradient of the Lagrangian
        primal = float(y @ a)
        mu = float(a @ s + (box - a) @ t) / (2 * n)
        if max(np.abs(dual).max(), mu / box.min(), abs(primal) / box.sum()) < GAP:
            break
        scale = s / a + t / (box - a)
        system = _System(z, y, scale)
        da, db = system(-dual - s + t, -primal)  # affine step: complementarity to 0
        ds, dt = -s - s / a * da, -t + t / (box - a) * da
        step_a, step_s = _longest(a, da, box), _longest_dual(s, ds, t, dt)
        ahead = a + step_a * da
        after = float(ahead @ (s + step_s * ds) + (box - ahead) @ (t + step_s * dt)) / (2 * n)
        centre = mu * (after / mu) ** 3
        cs, ct = (centre - da * ds) / a, (centre + da * dt) / (box - a)
        da, db = system(-dual - s + t + cs - ct, -primal)
        ds, dt = -s + cs - s / a * da, -t + ct + t / (box - a) * da
        step = 0.995 * min(_longest(a, da, box), _longest_dual(s, ds, t, dt))
        a, b, s, t = a + step * da, b + step * db, s + step * ds, t + step * dt
    return z.T @ a, _bias(phi @ (z.T @ a), y, (a, s), (box - a, t), b)


def _bias(
    f: Floats, y: Floats, low: tuple[Floats, Floats], high: tuple[Floats, Floats], found: float
) -> float:
    """The middle of the biases that keep the optimality conditions, as libsvm takes it, where no point
    decides it. `low` and `high` are a multiplier's distance from each bound and the bound's own multiplier: of the two
    the one that does not go to 0 says whether the bound holds it (strict complementarity).
    """
    inner = (low[0] > low[1]) & (high[0] > high[1])
    if inner.any():
        return found
    # without a point on the margin the bias is free in [lowest, highest]
    full = low[0] >= high[0]
    edge = y - f
    at_most = edge[(full & (y > 0)) | (~full & (y < 0))]
    at_least = edge[(full & (y < 0)) | (~full & (y > 0))]
    if not len(at_most) or not len(at_least):
        return found
    return float(at_most.min() + at_least.max()) / 2


class _System:
    """(Q + diag(scale)) da + y db = r, y'da = q, by the Woodbury identity: one d x d factorisation for both
    sides.
    """

    def __init__(self, z: Floats, y: Floats, scale: Floats):
        self.z, self.y, self.scale = z, y, scale
        core = np.eye(z.shape[1]) + z.T @ (z / scale[:, None])
        self.inverse = np.linalg.cholesky(core)
        self.on_y = self._apply(y)

    def _apply(self, r: Floats) -> Floats:
        first = r / self.scale
        low = np.linalg.solve(self.inverse.T, np.linalg.solve(self.inverse, self.z.T @ first))
        return first - (self.z @ low) / self.scale

    def __call__(self, r: Floats, q: float) -> tuple[Floats, float]:
        on_r = self._apply(r)
        db = float((self.y @ on_r - q) / (self.y @ self.on_y))
        return on_r - db * self.on_y, db


def _longest(a: Floats, da: Floats, box: Floats) -> float:
    """The longest step, at most 1, that keeps 0 <= a <= box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(da < 0, -a / da, np.where(da > 0, (box - a) / da, np.inf))
    return float(min(1.0, room.min()))


def _longest_dual(s: Floats, ds: Floats, t: Floats, dt: Floats) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.minimum(np.where(ds < 0, -s / ds, np.inf), np.where(dt < 0, -t / dt, np.inf))
    return float(min(1.0, room.min()))
