r"""What is known of any law of a few binary cells: its sum, its sampler's frequencies, who depends on whom.

Written apart from `reverie`; each check returns what it found, so that a test can show that it notices a mutant.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chisquare

#: The chance that one of the frequency tests fails for a right sampler; seeds are fixed.
ALPHA = 1e-3


def rows(width: int) -> np.ndarray:
    """All 2^width rows."""
    return np.asarray(list(product([0.0, 1.0], repeat=width)))


def jittered(model: Any, seed: int = 0, scale: float = 1.5) -> Any:
    """The model with every real weight drawn anew, large: what holds must hold for any."""
    rng = np.random.default_rng(seed)
    draw = lambda a: jnp.asarray(scale * rng.normal(size=a.shape)) if jnp.issubdtype(a.dtype, jnp.floating) else a  # noqa: E731
    return jax.tree.map(draw, model)


def log_probs(model: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(model.log_prob))(jnp.asarray(x)))


def total(model: Any, width: int) -> float:
    """The sum of p over all rows."""
    return float(np.exp(log_probs(model, rows(width))).sum())


def slopes(logits: Callable[[jax.Array], jax.Array], order: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The largest slope of a logit by a cell before it in the order, and by any other."""
    x = jnp.asarray(np.random.default_rng(seed).integers(0, 2, order.size).astype(float))
    found = np.abs(np.asarray(jax.jacrev(logits)(x))[np.ix_(order, order)])
    return float(np.tril(found, -1).max()), float(np.triu(found).max())


def frequencies_p(draws: np.ndarray, law: np.ndarray) -> float:
    """The p-value of drawn rows (n, D) under probabilities of all 2^D rows in the order of `rows`."""
    assert abs(law.sum() - 1.0) < 1e-6
    number = (draws @ (2 ** np.arange(draws.shape[1])[::-1])).astype(int)
    found = np.bincount(number, minlength=law.size)
    # Cells that are expected less than five times go together.
    few = law * len(draws) < 5
    group = lambda a: np.append(a[~few], a[few].sum())  # noqa: E731
    counts, expected = group(found.astype(float)), group(law * len(draws))
    kept = expected > 0
    return float(chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue)
