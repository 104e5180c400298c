"""The values: bounds against closed forms, quadrature and enumeration, in float64, and the mistakes they would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests import oracles
from tests.oracles import (
    GOLDEN_BOUNDS,
    GOLDEN_LOG_P,
    GOLDEN_X,
    Discrete,
    ScalarGaussian,
    assert_kills,
    gauss_hermite,
    given_noise,
)

from reverie.arrays import LogMean
from reverie.prob import bounds

Weigh = Callable[..., jax.Array]
Reduce = Callable[[jax.Array], jax.Array]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def kl_sign_swapped(model: Any, key: Any, x: Any, given: Any, k: int) -> jax.Array:
    def one(own: Any) -> jax.Array:
        drawn = model.forward(own, x, given)
        return drawn.log_likelihood - drawn.log_prior + drawn.log_q

    return jax.vmap(one)(bounds.sample_keys(key, k))


def prior_forgotten(model: Any, key: Any, x: Any, given: Any, k: int) -> jax.Array:
    return jax.vmap(lambda own: model.forward(own, x, given).log_likelihood)(bounds.sample_keys(key, k))


def log_k_missing(log_w: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_w, axis=0)


def mean_for_log_mean_exp(log_w: jax.Array) -> jax.Array:
    return log_w.mean(axis=0)


def expected_bound(reduce: Reduce, model: Any, x: Any, k: int, weigh: Weigh = bounds.log_weights) -> float:
    nodes, mass = gauss_hermite(k)
    with given_noise():
        return float(mass @ jax.vmap(lambda eps: reduce(weigh(model, eps, x, None, k)))(nodes))


# T5


def test_at_the_ppca_optimum_every_weight_is_the_likelihood() -> None:
    x = oracles.linear_data()
    model = oracles.ppca(x, 3)
    exact = np.asarray(model.log_likelihood(x))

    def check(weigh: Weigh) -> None:
        keys = jax.random.split(jax.random.key(0), len(x))
        log_w = jax.vmap(lambda key, row: weigh(model, key, row, None, 7))(keys, x)
        np.testing.assert_allclose(log_w, np.broadcast_to(exact[:, None], log_w.shape), atol=1e-9)
        np.testing.assert_allclose(jax.vmap(bounds.elbo)(log_w), exact, atol=1e-9)

    assert_kills(check, bounds.log_weights, kl_sign_swapped, prior_forgotten)


def test_importance_sampling_from_the_exact_posterior_has_no_variance() -> None:
    x = oracles.linear_data(rows=5)
    model = oracles.ppca(oracles.linear_data(), 3)

    def check(model: oracles.LinearGaussian) -> None:
        key = jax.random.key(1)
        found = jax.vmap(lambda row: bounds.stream_log_likelihood(model, key, row, None, 30, 8))(x)
        np.testing.assert_allclose(found.value(), model.log_likelihood(x), atol=1e-9)
        np.testing.assert_allclose(found.variance(), 0.0, atol=1e-12)
        np.testing.assert_allclose(found.effective_sample_size(), 30.0, rtol=1e-9)

    wider = eqx.tree_at(lambda m: m.log_t, model, model.log_t + 0.1)
    elsewhere = eqx.tree_at(lambda m: m.A, model, -model.A)
    assert_kills(check, model, wider, elsewhere)


def test_the_ppca_optimum_is_a_maximum_of_the_likelihood() -> None:
    x = oracles.linear_data()
    best = oracles.ppca(x, 3)
    slope = jax.grad(lambda model: model.log_likelihood(x).mean())(best)
    for group in ("W", "mu", "log_s"):
        np.testing.assert_allclose(getattr(slope, group), 0.0, atol=1e-9)


# T6


@pytest.mark.parametrize("k", [1, 2, 3])
def test_bounds_have_the_golden_values(k: int) -> None:
    model = ScalarGaussian()

    def check(reduce: Reduce) -> None:
        assert expected_bound(reduce, model, GOLDEN_X, k) == pytest.approx(GOLDEN_BOUNDS[k], abs=6e-7)

    assert float(model.bound(GOLDEN_X, k)) == pytest.approx(GOLDEN_BOUNDS[k], abs=6e-7)
    mutants = () if k == 1 else (log_k_missing, mean_for_log_mean_exp)
    assert_kills(check, bounds.iwae_bound, *mutants)


def test_the_elbo_is_its_closed_form() -> None:
    model = ScalarGaussian(m=-0.4, log_s=0.3, a=1.7, b=0.2)

    def check(weigh: Weigh) -> None:
        for k in (1, 2):
            found = expected_bound(bounds.elbo, model, GOLDEN_X, k, weigh)
            assert found == pytest.approx(float(model.elbo(GOLDEN_X)), abs=1e-10)

    assert_kills(check, bounds.log_weights, kl_sign_swapped, prior_forgotten)


def test_bounds_are_ordered_and_meet_the_likelihood_only_at_the_posterior() -> None:
    model, x = ScalarGaussian(), GOLDEN_X
    truth = float(model.log_likelihood(x))
    assert truth == pytest.approx(GOLDEN_LOG_P, abs=6e-9)
    ladder = [expected_bound(bounds.iwae_bound, model, x, k) for k in (1, 2, 3)]
    assert ladder[0] < ladder[1] < ladder[2] < truth
    exact = ScalarGaussian(m=x / 2, log_s=0.5 * np.log(0.5))
    for k in (1, 2, 3):
        assert expected_bound(bounds.iwae_bound, exact, x, k) == pytest.approx(truth, abs=1e-12)


# T8


@pytest.mark.parametrize("x", range(5))
def test_weights_average_to_the_probability(x: int) -> None:
    model = Discrete.random()
    q, w = model.tables(x)

    def check(weigh: Weigh) -> None:
        with given_noise():
            log_w = weigh(model, jnp.arange(8), jnp.asarray([x]), None, 8)
        np.testing.assert_allclose(log_w, np.log(w), atol=1e-12)
        assert q @ np.exp(log_w) == pytest.approx(np.exp(model.log_likelihood(x)), rel=1e-12)

    assert_kills(check, bounds.log_weights, kl_sign_swapped, prior_forgotten)


def test_probabilities_of_all_rows_sum_to_one() -> None:
    model = Discrete.random()
    assert sum(np.exp(model.log_likelihood(x)) for x in range(5)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_bounds_equal_their_enumeration(k: int) -> None:
    model, x = Discrete.random(), 3
    q, _ = model.tables(x)
    draws = np.array(list(product(range(8), repeat=k)))

    def check(reduce: Reduce) -> None:
        with given_noise():
            each = jax.vmap(lambda h: reduce(bounds.log_weights(model, h, jnp.asarray([x]), None, k)))(draws)
        assert q[draws].prod(1) @ np.asarray(each) == pytest.approx(model.bound(x, k), abs=1e-12)

    assert_kills(check, bounds.iwae_bound, *(() if k == 1 else (log_k_missing, mean_for_log_mean_exp)))
    assert model.bound(x, 1) < model.bound(x, 2) < model.bound(x, 3) < model.log_likelihood(x)


def test_the_streamed_estimate_is_unbiased() -> None:
    """Mean of 4,000 estimates of p(x) within four standard errors: false alarm 6e-5, at a fixed seed."""
    model, x = Discrete.random(), 2
    keys = jax.random.split(jax.random.key(7), 4000)
    found = jax.jit(
        jax.vmap(lambda key: bounds.stream_log_likelihood(model, key, jnp.asarray([x]), None, 10, 4).value())
    )(keys)

    def check(log_p: jax.Array) -> None:
        p = np.exp(np.asarray(log_p))
        error = p.std(ddof=1) / np.sqrt(p.size)
        assert abs(p.mean() - np.exp(model.log_likelihood(x))) < 4 * error

    assert_kills(check, found, found + np.log(10), found + np.log(10 / 12))


# The stream


def dense(model: Any, key: Any, x: Any, samples: int) -> LogMean:
    return LogMean.start().add(bounds.log_weights(model, key, x, None, samples))


def tail_counted(model: Any, key: Any, x: Any, given: Any, samples: int, chunk: int) -> LogMean:
    size = min(chunk, samples)
    return dense(model, key, x, -(-samples // size) * size)


def count_of_chunks(model: Any, key: Any, x: Any, given: Any, samples: int, chunk: int) -> LogMean:
    found = bounds.stream_log_likelihood(model, key, x, given, samples, chunk)
    size = min(chunk, samples)
    return found._replace(k=jnp.asarray(float(-(-samples // size) * size)))


def test_the_stream_is_the_dense_estimate_for_every_chunk() -> None:
    model, key, samples = ScalarGaussian(), jax.random.key(3), 11
    truth = dense(model, key, GOLDEN_X, samples)

    def check(stream: Callable[..., LogMean]) -> None:
        for chunk in range(1, samples + 3):
            found = stream(model, key, GOLDEN_X, None, samples, chunk)
            assert float(found.k) == samples
            assert float(found.value()) == pytest.approx(float(truth.value()), abs=1e-13)
            assert float(found.variance()) == pytest.approx(float(truth.variance()), rel=1e-10)
            assert float(found.effective_sample_size()) == pytest.approx(
                float(truth.effective_sample_size()), rel=1e-10
            )

    assert_kills(check, bounds.stream_log_likelihood, tail_counted, count_of_chunks)


def test_the_memory_of_the_stream_does_not_grow_with_the_samples() -> None:
    def held(samples: int, chunk: int) -> int:
        one = lambda x: bounds.stream_log_likelihood(ScalarGaussian(), jax.random.key(0), x, None, samples, chunk)  # noqa: E731
        compiled = jax.jit(jax.vmap(one)).lower(jnp.zeros(100)).compile().memory_analysis()
        return int(compiled.temp_size_in_bytes)

    assert held(100_000, 50) <= held(100, 50) + 1024
    assert held(1000, 1000) > 4 * held(1000, 50), "the measure notices what does grow"


# T25


class Prescribed(oracles.ScalarGaussian):
    """Weights spread without bound: log w is the noise itself."""

    def log_p(self, x: jax.Array, h: jax.Array, given: Any = None) -> jax.Array:
        return h

    def log_q(self, h: jax.Array, x: jax.Array, given: Any = None) -> jax.Array:
        return jnp.zeros_like(h)

    def infer(self, key: Any, x: jax.Array, given: Any = None) -> jax.Array:
        return key


@pytest.mark.parametrize("spread", [700.0, 1e4])
@pytest.mark.parametrize("double", [False, True])
def test_log_weights_may_spread_without_bound(spread: float, double: bool) -> None:
    with jax.enable_x64(double), given_noise():
        log_w = bounds.log_weights(Prescribed(), jnp.asarray([-spread, spread, 0.0, -spread]), 0.0, None, 4)

        def check(reduce: Reduce) -> None:
            assert float(reduce(log_w)) == pytest.approx(spread - np.log(4), rel=1e-6)
            assert float(reduce(-log_w)) == pytest.approx(spread + np.log(2) - np.log(4), rel=1e-6)

        def naive(log_w: jax.Array) -> jax.Array:
            return jnp.log(jnp.exp(log_w).mean(axis=0))

        overflows = spread == 1e4 or not double
        assert_kills(check, bounds.iwae_bound, log_k_missing, mean_for_log_mean_exp, *((naive,) if overflows else ()))
        streamed = LogMean.start()
        for value in log_w:
            streamed = streamed.add(value[None])
        check(lambda a: streamed.value() if a is log_w else bounds.iwae_bound(a))


def test_impossible_draws_weigh_nothing() -> None:
    inf = -jnp.inf
    assert float(bounds.iwae_bound(jnp.asarray([inf, 0.0]))) == pytest.approx(-np.log(2))
    total = LogMean.start().add(jnp.asarray([inf, inf])).add(jnp.asarray([0.0, inf]))
    assert float(total.value()) == pytest.approx(-np.log(4))
