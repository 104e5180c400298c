"""Units: numbers for draws, and differences of log-partitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from reverie.nn.units import Binary, uniform

#: Of a false alarm of each test.
RARE = 1e-5


@pytest.mark.parametrize("n", [1, 5, 8])
def test_numbers_of_a_shared_word_are_uniform_and_comparisons_with_them_independent(n: int) -> None:
    keys = jax.random.split(jax.random.key(n), 50_000)
    u = np.asarray(jax.vmap(lambda k: uniform(k, jnp.zeros(n)))(keys))
    assert u.shape == (50_000, n) and u.min() >= 0.0 and u.max() < 1.0
    for column in u.T:
        counts = np.bincount((column * 64).astype(int), minlength=64)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < chi2.ppf(1 - RARE / n, 63)
        # The half that a number shares is its low one: what lies below the first 16 bits is uniform as well.
        counts = np.bincount((column * 2.0**16 % 1.0 * 64).astype(int), minlength=64)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < chi2.ppf(1 - RARE / n, 63)
    below = (u < 0.3) - 0.3
    z = np.triu(below.T @ below, 1) / (0.21 * np.sqrt(len(u)))
    assert np.abs(z).max() < 5.2


@pytest.mark.parametrize("rise", [1e-3, -1e-3, 0.7, -60.0, 200.0])
def test_the_rise_of_a_log_partition_keeps_its_digits(rise: float) -> None:
    start = jnp.asarray([-120.0, -30.0, -9.0, -1.0, 0.0, 1e-3, 2.0, 15.0, 120.0])
    stop = start + jnp.float32(rise)
    wanted = np.logaddexp(0.0, np.asarray(stop, np.float64)) - np.logaddexp(0.0, np.asarray(start, np.float64))
    # Rounding is of what is added to max(f, 0), not of A itself: a difference of two softplus has many times as much.
    allowed = 5e-8 * np.exp(np.minimum(0.0, np.maximum(start, stop))) + 3e-6 * np.abs(wanted) + 1e-30
    assert (np.abs(Binary().log_partition_rise(start, stop) - wanted) <= allowed).all()
    if abs(rise) == 1e-3:
        assert (np.abs(jax.nn.softplus(stop) - jax.nn.softplus(start) - wanted) > allowed).any()
