"""Annealed importance sampling against closed forms, quadrature, itself in pieces, and mutants.

Stochastic checks fix their seed and compare means at 4 standard errors (false alarm 6e-5 each, 3e-5 one-sided).
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterator
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from reverie.arrays import LogMean, log_mean_exp
from reverie.data.dataset import Dataset, Rows
from reverie.errors import ReverieError
from reverie.models.directed._gaussian import LayeredGaussian, build
from reverie.prob import anneal as annealing
from reverie.prob.ais import (
    AISState,
    Plan,
    ais_advance,
    ais_init,
    ais_log_likelihood,
    ais_result,
    ais_reverse,
    bdmc_gap,
    reverse_log_likelihood,
)
from reverie.prob.anneal import compensated_add, geometric
from reverie.prob.contracts import Latent
from reverie.prob.mcmc import Phase

W = np.array([[1.5, -0.4, 0.8], [0.3, 1.1, -0.6]])
X = np.array([1.2, -2.0, 1.1])
NOISE = 0.5
COVARIANCE = np.linalg.inv(np.eye(2) + W @ W.T / NOISE**2)


def log_normal(deviation: jax.Array, covariance: np.ndarray) -> jax.Array:
    quadratic = deviation @ np.linalg.inv(covariance) @ deviation
    return -0.5 * (quadratic + np.linalg.slogdet(2.0 * np.pi * covariance)[1])


class LinearGaussian(Latent):
    """z ~ N(0, I), x | z ~ N(zW + given, s^2 I): the posterior and log p(x) are closed forms.

    `spread` widens q beyond the posterior, whose scale is otherwise exact.
    """

    spread: float = 1.0

    def _x(self, mean: jax.Array) -> dist.Distribution:
        return dist.Normal(mean, NOISE).to_event(1)

    def _posterior_mean(self, x: jax.Array, given: jax.Array | None) -> jax.Array:
        return (x - (0.0 if given is None else given)) @ W.T @ COVARIANCE / NOISE**2

    def infer(self, key, x, given=None):
        noise = np.linalg.cholesky(COVARIANCE) @ jax.random.normal(key, (2,))
        return (self._posterior_mean(x, given) + self.spread * noise,)

    def log_q(self, h, x, given=None):
        return log_normal(h[0] - self._posterior_mean(x, given), COVARIANCE * self.spread**2)

    def log_prior(self, h, given=None):
        return dist.Normal().expand((2,)).to_event(1).log_prob(h[0])

    def log_p(self, x, h, given=None):
        return self.log_prior(h) + self._x(h[0] @ W + (0.0 if given is None else given)).log_prob(x)

    def draw_prior(self, key, given=None):
        return (jax.random.normal(key, (2,)),)

    def sample(self, key, given=None):
        first, second = jax.random.split(key)
        h = self.draw_prior(first)
        return self._x(h[0] @ W + (0.0 if given is None else given)).sample(second), h

    def exact(self, x, given=None):
        return log_normal(x - (0.0 if given is None else given), W.T @ W + NOISE**2 * np.eye(3))


MODEL = LinearGaussian(spread=1.5)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def chance(values: np.ndarray, truth: float) -> float:
    """Return the z-score of a mean."""
    return float((values.mean() - truth) / (values.std(ddof=1) / math.sqrt(values.size)))


def forwards(model: Latent, x: np.ndarray, runs: int, **plan) -> tuple[np.ndarray, dict]:
    keys = jax.random.split(jax.random.key(7), runs)
    value, info = jax.jit(jax.vmap(lambda k: ais_log_likelihood(model, k, jnp.asarray(x), **plan)))(keys)
    return np.asarray(value), info


def backwards(model: LinearGaussian, x: np.ndarray, runs: int, **plan) -> np.ndarray:
    def one(key):
        first, second = jax.random.split(key)
        z = LinearGaussian().infer(first, jnp.asarray(x))
        return reverse_log_likelihood(model, second, jnp.asarray(x), z, **plan)[0]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(8), runs)))


@functools.cache
def honest(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return lower bounds, upper bounds and mean acceptance of a plan: compiled once for the tests that share it."""
    low, info = forwards(MODEL, X, RUNS, **PLANS[name])
    return low, backwards(MODEL, X, RUNS, **PLANS[name]), float(info["acceptance"].mean())


PLANS = {
    "prior": {"chains": 2, "temperatures": 50, "leapfrog": 3, "step_size": 0.4, "pilot": 0},
    "prior-piloted": {"chains": 2, "temperatures": 50, "leapfrog": 3, "step_size": 0.05, "pilot": 30},
    "posterior": {"chains": 1, "temperatures": 6, "leapfrog": 3, "step_size": 0.3, "pilot": 0, "start": "posterior"},
}
RUNS = 4000


# Two means at 4 sigma: false alarm 1.3e-4 a plan; the one-sided ones follow by Jensen, tens of sigma away.
@pytest.mark.parametrize("name", PLANS)
def test_weights_are_unbiased_and_bounds_are_bounds(name: str) -> None:
    low, high, acceptance = honest(name)
    truth = float(MODEL.exact(jnp.asarray(X)))
    assert abs(chance(np.exp(low - truth), 1.0)) < 4.0
    assert abs(chance(np.exp(truth - high), 1.0)) < 4.0
    assert chance(low, truth) < 0.0 < chance(high, truth)
    assert acceptance < 0.99, "moves that are never refused would not test the correction"


def test_the_gap_closes_with_more_temperatures() -> None:
    # Measured: 5.4 at 2 temperatures, 0.30 at 50; their standard errors are a twentieth of that or less.
    low, high, _ = honest("prior")
    short = dict(PLANS["prior"], temperatures=2)
    wide = backwards(MODEL, X, 300, **short).mean() - forwards(MODEL, X, 300, **short)[0].mean()
    assert wide > 5.0 * (high.mean() - low.mean()) > 0.0
    assert high.mean() - low.mean() < 0.4


def forward_evidence() -> float:
    """Return how many standard errors speak against E[p-hat] = p(x) or E[log p-hat] <= log p(x).

    Under a wrong sign the first has tails too heavy to speak; the second does.
    """
    truth = float(MODEL.exact(jnp.asarray(X)))
    low, _ = forwards(MODEL, X, RUNS, **PLANS["prior"])
    return max(abs(chance(np.exp(low - truth), 1.0)), chance(low, truth))


def test_increments_of_the_wrong_sign_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "compensated_add", lambda a, b, v: compensated_add(a, b, -v))
    assert forward_evidence() > 10.0


def test_a_forgotten_log_k_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    value = LogMean.value
    monkeypatch.setattr(LogMean, "value", lambda self: value(self) + jnp.log(self.k))
    assert forward_evidence() > 10.0


def test_moves_for_the_wrong_temperature_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.prob.ais.geometric", lambda f0, f1, beta: geometric(f0, f1, 0.3 * beta))
    assert forward_evidence() > 10.0


def test_moves_without_the_metropolis_correction_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phase, "energy", lambda self: 0.0 * self.log_density)
    assert forward_evidence() > 10.0


def test_from_the_exact_posterior_every_weight_is_the_likelihood() -> None:
    values, info = forwards(LinearGaussian(), X, 3, chains=4, temperatures=25, leapfrog=3, start="posterior", pilot=4)
    truth = float(LinearGaussian().exact(jnp.asarray(X)))
    np.testing.assert_allclose(info["log_weights"], truth, atol=1e-10)
    np.testing.assert_allclose(values, truth, atol=1e-10)
    np.testing.assert_allclose(info["effective_sample_size"], 4.0, rtol=1e-9)
    np.testing.assert_allclose(info["variance"], 0.0, atol=1e-9)


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_one_temperature_is_importance_sampling(start: str) -> None:
    model, x, key = LinearGaussian(spread=1.3), jnp.asarray(X), jax.random.key(9)
    plan = Plan(chains=50, temperatures=1, leapfrog=1, start=start, pilot=0)
    z = ais_init(plan, model, key, x).chains.position
    base = model.log_prior if start == "prior" else lambda h: model.log_q(h, x)
    log_w = jax.vmap(lambda h: model.log_p(x, h) - base(h))(z)
    value, info = jax.jit(lambda k: ais_log_likelihood(model, k, x, **plan.__dict__))(key)
    np.testing.assert_allclose(info["log_weights"], log_w, rtol=1e-12)
    np.testing.assert_allclose(value, log_mean_exp(log_w), rtol=1e-12)
    assert np.ptp(log_w) > 0.1


def test_simulated_rows_bracket_their_likelihood() -> None:
    # Over the model's own rows E[low] <= E[log p(x)] <= E[high]; a row's truth varies more than either gap, so
    # the differences to it are what is averaged.
    given = jnp.tile(jnp.array([3.0, -1.0, 0.5]), (200, 1))
    plan = {"chains": 2, "temperatures": 60, "leapfrog": 4, "step_size": 0.4, "pilot": 0}
    low, high = jax.jit(lambda k, g: bdmc_gap(LinearGaussian(), k, g, 200, **plan))(jax.random.key(10), given)
    assert low.shape == high.shape == (200,)

    def truth(key, own):
        model = LinearGaussian()
        return model.exact(model.sample(jax.random.split(key, 3)[0], own)[0], own)

    exact = np.asarray(jax.vmap(truth)(jax.random.split(jax.random.key(10), 200), given))
    assert chance(np.asarray(low) - exact, 0.0) < 4.0
    assert chance(np.asarray(high) - exact, 0.0) > -4.0
    assert abs(chance(np.exp(np.asarray(low) - exact), 1.0)) < 4.0


def test_pieces_equal_the_whole_bit_for_bit() -> None:
    with jax.enable_x64(False):
        plan = Plan(chains=3, temperatures=40, leapfrog=2, pilot=8)
        model, x, key = LinearGaussian(), jnp.asarray(X, jnp.float32), jax.random.key(11)
        for reverse in (False, True):
            advance = jax.jit(
                lambda state, upto, reverse=reverse: ais_advance(plan, model, state, key, x, upto=upto, reverse=reverse)
            )
            start = jax.jit(lambda: ais_init(plan, model, key, x))()
            start = ais_reverse(start, model.infer(key, x)) if reverse else start
            whole, pieces = advance(start, 40), start
            for upto in (0, 1, 7, 7, 3, 39, 99):
                pieces = _through_a_file(advance(pieces, upto))
                assert int(pieces.done) == min(max(int(pieces.done), upto), 40)
            for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
                np.testing.assert_array_equal(a, b)
            assert np.unique(np.asarray(whole.chains.log_weight())).size == 3


def _through_a_file(state: AISState) -> AISState:
    leaves, tree = jax.tree.flatten(state)
    file = io.BytesIO()
    np.savez(file, *[np.asarray(leaf) for leaf in leaves])
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return jax.tree.unflatten(tree, [jnp.asarray(stored[f"arr_{i}"]) for i in range(len(leaves))])


def test_rows_can_be_mapped_with_one_shared_index() -> None:
    plan = Plan(chains=2, temperatures=20, leapfrog=2, pilot=0, step_size=0.2)
    model, keys = LinearGaussian(), jax.random.split(jax.random.key(12), 3)
    rows = jnp.stack([X, 0.5 * X, -X])
    axes = AISState.axes()
    init = jax.jit(jax.vmap(lambda k, x: ais_init(plan, model, k, x), out_axes=axes))
    step = jax.jit(
        jax.vmap(
            lambda s, k, x, upto: ais_advance(plan, model, s, k, x, upto=upto),
            in_axes=(axes, 0, 0, None),
            out_axes=axes,
        )
    )
    state = step(step(init(keys, rows), keys, rows, 9), keys, rows, 20)
    values = jax.vmap(lambda s: ais_result(s)[0], in_axes=(axes,))(state)
    one = jax.jit(lambda k, x: ais_log_likelihood(model, k, x, **plan.__dict__)[0])
    np.testing.assert_allclose(values, [one(k, x) for k, x in zip(keys, rows, strict=True)], rtol=1e-9)


def test_the_pilot_finds_steps_that_shrink_as_the_target_narrows() -> None:
    class Narrow(LinearGaussian):
        def _x(self, mean):
            return dist.Normal(mean, 0.02).to_event(1)

    plan = Plan(chains=8, temperatures=200, leapfrog=5, pilot=200, step_size=0.01)
    model, key = Narrow(), jax.random.key(13)
    x = model.sample(key)[0]

    @jax.jit
    def run(k):
        state = ais_init(plan, model, k, x)
        return state.step_size, ais_result(ais_advance(plan, model, state, k, x))[1]["acceptance"]

    sizes, acceptance = jax.tree.map(np.asarray, run(key))
    assert sizes.shape == (201,)
    assert sizes[:20].mean() > 5.0 * sizes[-20:].mean()
    assert 0.5 < acceptance < 0.9


def tiny_vae(columns: int = 6) -> tuple[LayeredGaussian, np.ndarray]:
    rows = (np.random.default_rng(0).random((20, columns)) < 0.5).astype(np.float32)
    splits = {name: Rows(rows) for name in ("train", "valid", "test")}
    data = Dataset("tiny", "tiny", splits, (columns,), "bernoulli", "as-is", "0" * 64)
    with jax.enable_x64(False):
        model = build(LayeredGaussian, jax.random.key(3), data, (1, 1), ((5,), (4,)), "tanh", False, 1.0, False)
        # Untrained, x hardly depends on h: stretch the decoder so that the posterior is not the prior.
        stretched = jax.tree.map(lambda leaf: 3.0 * leaf if leaf.ndim == 2 else leaf, model.p[0])
        return eqx.tree_at(lambda m: m.p[0], model, stretched), rows


def test_a_two_layer_vae_agrees_with_quadrature() -> None:
    model, rows = tiny_vae()
    x = jnp.asarray(rows[1])
    # The weights are float32, so the truth is good to 1e-5: far below the 4 standard errors, which are about 2 %.
    grid = jnp.linspace(-9.0, 9.0, 361)
    column = jax.vmap(lambda b: jax.vmap(lambda a: model.log_p(x, (a[None], b[None])))(grid))
    truth = float(jax.nn.logsumexp(jax.jit(column)(grid)) + 2.0 * jnp.log(grid[1] - grid[0]))
    plan = {"chains": 2, "temperatures": 8, "leapfrog": 3, "step_size": 0.3, "pilot": 0, "start": "posterior"}
    values, info = forwards(model, np.asarray(x), 2000, **plan)
    assert abs(chance(np.exp(values - truth), 1.0)) < 4.0
    assert float(values.mean()) < truth
    assert 0.3 < float(info["acceptance"].mean()) < 0.999


def test_float32_weights_in_a_float32_process() -> None:
    with jax.enable_x64(False):
        model, rows = tiny_vae()
        one = jax.jit(lambda k, x: ais_log_likelihood(model, k, x, temperatures=5, pilot=4))
        value, info = one(jax.random.key(0), jnp.asarray(rows[0]))
        assert value.dtype == jnp.float32
        assert info["log_weights"].shape == (16,)
        assert np.isfinite(value)


class Discrete(LinearGaussian):
    def draw_prior(self, key, given=None):
        return (jax.random.bernoulli(key, 0.5, (2,)).astype(jnp.int32),)


def test_discrete_latents_are_refused_with_an_alternative() -> None:
    with pytest.raises(ReverieError, match=r"continuous latents.*importance"):
        ais_log_likelihood(Discrete(), jax.random.key(0), jnp.asarray(X))


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperatures", 0), ("chains", 0), ("leapfrog", 0), ("pilot", -1), ("step_size", 0.0), ("start", "middle")],
)
def test_senseless_arguments_are_named(name: str, value: object) -> None:
    with pytest.raises(ReverieError, match=name):
        replace(Plan(), **{name: value})
