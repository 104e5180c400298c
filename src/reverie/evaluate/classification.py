r"""Classes told from rows: which rows are taught, how many are told wrongly, and how sure that is.

An error rate is a share of n rows.  Its interval is Wilson's (1927), which stays within [0, 1] and holds its level
where few rows are wrong:

.. math:: \frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reverie.errors import ReverieError
from reverie.evaluate.mapped import over_rows

LEVEL = 0.95


def wilson(wrong: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of Wilson's interval of a share of which `wrong` of `n` were seen.

    Raises:
        ReverieError: for numbers that make no share.
    """
    if not 0 <= wrong <= n or n < 1:
        raise ReverieError(f"interval: {wrong} of {n} rows is no share; give 0 <= wrong <= n")
    from scipy.stats import norm

    z, p = float(norm.ppf(0.5 + level / 2)), wrong / n
    middle, reach = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)
    return (0.0 if wrong == 0 else float(low)), (1.0 if wrong == n else float(high))


def interval_words(wrong: Bool[np.ndarray, " n"]) -> str:
    """Return Wilson's interval of the rows told wrongly as a note."""
    low, high = wilson(int(np.sum(wrong)), len(wrong))
    return f"{LEVEL:.0%} Wilson interval {low:.4f} to {high:.4f}"


def balanced(labels: Int[np.ndarray, " n"], count: int, seed: int = 0) -> Int[np.ndarray, " m"]:
    """Return `count` rows with as equal numbers of each class as there are, ascending, drawn by `seed`.

    Of c classes each gives count // c rows, and the first count % c of a drawn order one more; a class that has fewer
    gives all of its own, and the others fill up.

    Raises:
        ReverieError: for fewer rows than classes, or more than there are.
    """
    names, sizes = np.unique(labels, return_counts=True)
    if not len(names) <= count <= len(labels):
        raise ReverieError(
            f"labels: {count} is not a number of labelled rows between {len(names)} (one a class) and {len(labels):,}"
        )
    rng = np.random.default_rng([seed, count])
    quota, rest = np.zeros(len(names), np.int64), count
    while rest:
        room = rng.permutation(np.flatnonzero(quota < sizes))
        share = np.minimum(np.maximum(rest // len(room), 1), (sizes - quota)[room])
        given = np.minimum(share, np.maximum(rest - np.concatenate([[0], np.cumsum(share)[:-1]]), 0))
        quota[room] += given
        rest -= int(given.sum())
    taken = [rng.permutation(np.flatnonzero(labels == name))[:n] for name, n in zip(names, quota, strict=True)]
    return np.sort(np.concatenate(taken))


def probabilities(model: Any, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n C"]:
    """Return p(class | row) of a classifier."""
    return np.asarray(over_rows(_probabilities, model, rows, fixed=True))


def _probabilities(model: Any, key: Any, x: Any, given: Any) -> Any:
    return model.encode(x)


def confusion(truth: Int[np.ndarray, " n"], told: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "C C"]:
    """Return how many rows of each class (first axis) were told to be of which (second axis)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, told), 1)
    return table
