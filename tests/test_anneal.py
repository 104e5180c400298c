"""Annealing with an inner kernel that is not Hamiltonian, the schedule, and sums that keep their digits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.prob.anneal import Annealed, anneal, compensated_add, geometric_ratio, sigmoid_schedule
from reverie.prob.mcmc import HMCState, Kernel


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def test_the_inner_kernel_is_an_argument() -> None:
    # Exact draws at each temperature stand for a Gibbs sweep that mixes at once; they report no acceptance.
    f0, f1 = (lambda z: -0.5 * z**2 - 0.5 * math.log(2 * math.pi)), (lambda z: -2.0 * (z - 1.0) ** 2)

    def exact(beta):
        precision = 1.0 + 3.0 * beta
        draw = lambda k: 4.0 * beta / precision + jax.random.normal(k) / jnp.sqrt(precision)  # noqa: E731
        return Kernel(lambda z: HMCState(z, z, z), lambda k, s: (s._replace(position=draw(k)), None))

    def weight(key):
        first, second = jax.random.split(key)
        chain = anneal(
            second, Annealed.start(jax.random.normal(first)), geometric_ratio(f0, f1), exact, sigmoid_schedule(10)
        )
        return chain.log_weight(), chain.acceptance

    log_w, moved = jax.jit(jax.vmap(weight))(jax.random.split(jax.random.key(14), 4000))
    w = np.exp(np.asarray(log_w))
    # One mean at 4 sigma: false alarm 6e-5.
    assert abs(w.mean() - math.sqrt(math.pi / 2.0)) < 4.0 * w.std(ddof=1) / math.sqrt(w.size)
    np.testing.assert_array_equal(moved, 10.0)


def test_the_schedule_is_the_papers() -> None:
    betas = sigmoid_schedule(1000)
    assert betas.shape == (1001,)
    assert betas.dtype == np.float64
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert np.all(np.diff(betas) > 0)
    low, high = (1.0 / (1.0 + math.exp(r)) for r in (4.0, -4.0))
    at = 1.0 / (1.0 + math.exp(-4.0 * (2.0 * 250 / 1000 - 1.0)))
    np.testing.assert_allclose(betas[250], (at - low) / (high - low), rtol=1e-13)
    np.testing.assert_allclose(betas + betas[::-1], 1.0, rtol=1e-13)
    np.testing.assert_array_equal(sigmoid_schedule(1), [0.0, 1.0])


def test_ten_thousand_tiny_increments_keep_their_digits() -> None:
    values = (-1000.0 * np.random.default_rng(1).random(10_000) / 10_000).astype(np.float32)
    truth = values.astype(np.float64).sum()

    def add(carry, value):
        return compensated_add(*carry, value), carry[0] + value

    zero = jnp.zeros((), jnp.float32)
    total, lost = jax.jit(lambda v: jax.lax.scan(add, (zero, zero), v)[0])(jnp.asarray(values))
    naive = jax.jit(lambda v: jax.lax.scan(lambda s, u: (s + u, None), zero, v)[0])(jnp.asarray(values))
    ulp = np.spacing(np.float32(abs(truth)))
    assert total.dtype == jnp.float32
    assert abs(float(total + lost) - truth) <= ulp
    assert abs(float(naive) - truth) > 3 * ulp


def test_an_impossible_row_has_weight_zero_not_nan() -> None:
    zero = jnp.zeros(())
    total, lost = compensated_add(*compensated_add(zero, zero, jnp.asarray(-jnp.inf)), jnp.asarray(-1.0))
    assert float(total + lost) == -math.inf


def test_no_temperature_makes_no_path() -> None:
    with pytest.raises(ReverieError, match="temperatures"):
        sigmoid_schedule(0)
