r"""Maximum mean discrepancy: how far apart two laws are, from draws of each alone.

.. math:: \mathrm{MMD}^2(p, q) = \mathbb E\,k(x, x') - 2\,\mathbb E\,k(x, y) + \mathbb E\,k(y, y'),
          \qquad k(x, y) = \sum_s \exp\!\Big(-\frac{\|x - y\|^2}{2 s}\Big),

zero exactly where p = q.  The widths s are *squared* lengths.  Three estimators from n draws of p and m of q:

- ``biased`` (V-statistic): means over all pairs, a draw with itself too.  Never negative, and above the truth by about
  :math:`(K - \mathbb E k)(1/n + 1/m)` for K widths.
- ``unbiased`` (U-statistic): without the pairs of a draw with itself; its mean is :math:`\mathrm{MMD}^2`, so it is
  below zero about half the time where p = q.
- ``linear``: disjoint pairs of draws alone, :math:`k(x, x') + k(y, y') - k(x, y') - k(x', y)`; unbiased too, in time
  linear in n, with a larger variance.

References: Gretton, Borgwardt, Rasch, Schölkopf & Smola, *A Kernel Two-Sample Test*, 2012; Li, Swersky & Zemel,
*Generative Moment Matching Networks*, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reverie.errors import ReverieError

Estimator = Literal["biased", "unbiased", "linear"]
#: Squared lengths: numbers, or an array of them.
Widths: TypeAlias = Sequence[float] | Float[Array, " K"]


def squared_distances(x: Float[Array, "n D"], y: Float[Array, "m D"]) -> Float[Array, "n m"]:
    r"""Return :math:`\|x_i - y_j\|^2` by one matrix product; about a common centre, so that little cancels."""
    centre = jax.lax.stop_gradient(x.mean(axis=0))
    x, y = x - centre, y - centre
    gap = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2.0 * x @ y.T
    return jnp.maximum(gap, 0.0)


def kernel(squares: Float[Array, "*n"], widths: Widths) -> Float[Array, "*n"]:
    r"""Return :math:`\sum_s \exp(-d^2/(2s))` of squared distances."""
    widths = jnp.asarray(widths)
    # One term at a time: all at once, the largest array of a step would be K times as large.
    total = jnp.zeros_like(squares)
    for i in range(widths.size):
        total = total + jnp.exp(-0.5 * squares / widths[i])
    return total


def median_width(x: Float[Array, "n D"], y: Float[Array, "m D"]) -> Float[Array, ""]:
    """Return half the median squared distance between different draws of both together: the usual width."""
    both = jnp.concatenate([x, y])
    above = jnp.triu_indices(len(both), 1)
    return 0.5 * jnp.median(squared_distances(both, both)[above])


def mmd2(
    x: Float[Array, "n D"],
    y: Float[Array, "m D"],
    widths: Widths = (1.0,),
    estimator: Estimator = "unbiased",
    classes: tuple[Float[Array, "n C"], Float[Array, "m C"]] | None = None,
) -> Float[Array, ""]:
    r"""Return an estimate of :math:`\mathrm{MMD}^2` of the laws of x and of y.

    Args:
        x, y: draws of each, as many of both for ``linear``.
        widths: s of the kernel's terms, squared lengths.
        estimator: see the page.
        classes: one-hot classes of the draws: the discrepancy of the joint laws of rows and classes, whose kernel is k
            for two draws of a class and 0 for others.

    Raises:
        ReverieError: for too few draws, or a name of no estimator.
    """
    if estimator == "linear":
        return _linear(x, y, widths, classes)
    if estimator not in ("biased", "unbiased"):
        raise ReverieError(f"estimator: {estimator!r} is not one of biased, unbiased, linear")
    between = _same(classes, (0, 1)) * kernel(squared_distances(x, y), widths)
    total = -2.0 * between.mean()
    for side, rows in enumerate((x, y)):
        n = len(rows)
        if n < 2:
            raise ReverieError(f"mmd2: {n} draw has no pair; give 2 or more of each law")
        within = _same(classes, (side, side)) * kernel(squared_distances(rows, rows), widths)
        if estimator == "unbiased":
            total += (within.sum() - jnp.trace(within)) / (n * (n - 1))
        else:
            total += within.mean()
    return total


def _linear(
    x: Array, y: Array, widths: Widths, classes: tuple[Array, Array] | None
) -> Float[Array, ""]:  # fmt: skip
    if len(x) != len(y) or len(x) < 2:
        raise ReverieError(f"mmd2: {len(x)} and {len(y)} draws; linear wants as many of both laws, and 2 or more")
    half = len(x) // 2
    parts = [rows[: 2 * half].reshape(half, 2, -1) for rows in (x, y)]
    kinds = None if classes is None else [rows[: 2 * half].reshape(half, 2, -1) for rows in classes]

    def k(a: tuple[int, int], b: tuple[int, int]) -> Float[Array, " h"]:
        found = kernel(((parts[a[0]][:, a[1]] - parts[b[0]][:, b[1]]) ** 2).sum(axis=1), widths)
        return found if kinds is None else found * (kinds[a[0]][:, a[1]] * kinds[b[0]][:, b[1]]).sum(axis=1)

    return (k((0, 0), (0, 1)) + k((1, 0), (1, 1)) - k((0, 0), (1, 1)) - k((0, 1), (1, 0))).mean()


def _same(classes: tuple[Array, Array] | None, sides: tuple[int, int]) -> Array | float:
    return 1.0 if classes is None else classes[sides[0]] @ classes[sides[1]].T
