"""Kernels of energies against their laws: whole transition matrices, joint moments, and how often brackets cover."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.test_energy import assert_law, bits, codes, drawn, machine, odd_law, table

from reverie.evaluate import annealing, chains
from reverie.models.undirected._layered import Boltzmann
from reverie.models.undirected.dbm import DBM
from reverie.models.undirected.rbm import RBM
from reverie.prob import partition
from reverie.prob.chains import swap_neighbours

#: Moments further off than this come once in some ten thousand seeds.
FAR = 4.5


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# Whole transition matrices


def bernoulli(model: Boltzmann, layer: int, given: dict[int, np.ndarray], beta: float, states: np.ndarray) -> Any:
    """The probability of each of `states` of a layer given its neighbours, from the field that draws are made of."""
    field = model.field(layer, {n: jnp.asarray(x) for n, x in given.items()}, beta)
    p = 1 / (1 + np.exp(-np.asarray(field)))
    return np.prod(np.where(states == 1, p, 1 - p), axis=-1)


def from_the_odd(model: Boltzmann, h: np.ndarray, beta: float) -> np.ndarray:
    """The probability of every state of the even layers of a machine of two hidden layers given h1."""
    v, h2 = bernoulli(model, 0, {1: h}, beta, bits(4)), bernoulli(model, 2, {1: h}, beta, bits(2))
    return np.outer(v, h2).ravel()


def to_the_odd(model: Boltzmann, beta: float, every: np.ndarray) -> np.ndarray:
    """The probability of every h1 given every state of the even layers."""
    return np.array([bernoulli(model, 1, {0: v, 2: h2}, beta, every) for v in bits(4) for h2 in bits(2)])


@pytest.mark.parametrize("beta", [0.0, 0.35, 1.0])
def test_the_whole_matrix_of_a_sweep_keeps_its_law_and_is_reversible(beta: float) -> None:
    """Both colours' conditionals, from the fields that draws are made of, against the law by the page's formula."""
    model = machine((4, 3, 2), seed=21)
    (h1,), p = odd_law(model, beta)
    up, down = np.array([from_the_odd(model, h, beta) for h in h1]), to_the_odd(model, beta, h1)
    step = up @ down
    np.testing.assert_allclose(step.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(p @ step, p, atol=1e-12)
    flow = p[:, None] * step
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    other = odd_law(model, 0.8 * beta + 0.1)[1]
    assert np.abs(other @ step - other).max() > 1e-3, "a law at another temperature is not kept"


def test_a_sweep_draws_by_that_matrix() -> None:
    """From one state, 40,000 sweeps; false once in 10,000 seeds."""
    model = machine((4, 3, 2), seed=21)
    h = jnp.tile(jnp.asarray([1.0, 0.0, 1.0]), (40_000, 1))
    swept = jax.vmap(lambda k, s: model.sweep(k, (s,), 0.35))(jax.random.split(jax.random.key(3), 40_000), h)
    (h1,), _ = odd_law(model, 0.35)
    up, down = from_the_odd(model, np.array([1.0, 0.0, 1.0]), 0.35), to_the_odd(model, 0.35, h1)
    assert_law(codes(swept), up @ down)


def test_the_whole_matrix_of_a_swap_keeps_the_law_of_two_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the 16 x 16 pairs of states is swapped with exactly the probability that detailed balance wants."""
    model, betas = machine((3, 4), seed=22), (0.4, 1.0)
    (every,), cold = odd_law(model, betas[1])
    hot = odd_law(model, betas[0])[1]
    first, second = (index.ravel() for index in np.meshgrid(np.arange(16), np.arange(16), indexing="ij"))
    wanted = np.minimum(1.0, hot[second] * cold[first] / (hot[first] * cold[second]))
    states = (jnp.stack([jnp.asarray(every[first]), jnp.asarray(every[second])]),)

    def swapped(thresholds: np.ndarray) -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(jax.random, "uniform", lambda key, shape: jnp.asarray(thresholds).reshape(shape))
            moved, _ = swap_neighbours(model, jax.random.key(0), states, jnp.asarray(betas), 0)
        exchanged = codes((moved[0][0],)) == second
        return exchanged & (codes((moved[0][1],)) == first)

    differ = first != second
    assert swapped(wanted * (1 - 1e-9))[differ].all()
    assert not swapped(wanted * (1 + 1e-9))[differ & (wanted < 1)].any()
    step = np.zeros((256, 256))
    step[np.arange(256), second * 16 + first] = wanted
    step[np.arange(256), np.arange(256)] += 1 - wanted
    law = np.outer(hot, cold).ravel()
    np.testing.assert_allclose(law @ step, law, atol=1e-12)


# Joint distributions (Geweke 2004)


def moments(model: Boltzmann, v: Any, h: Any) -> np.ndarray:
    """v, h, their products and the energy, of joint draws in front."""
    v, h = np.asarray(v), np.asarray(h)
    products = (v[:, :, None] * h[:, None, :]).reshape(len(v), -1)
    energies = np.asarray(jax.vmap(lambda a, b: model.energy({0: a, 1: b}))(jnp.asarray(v), jnp.asarray(h)))
    return np.concatenate([v, h, products, energies[:, None]], axis=1)


def joint(model: Boltzmann, beta: float, n: int, seed: int) -> tuple[Any, Any]:
    states, log_f = table(model, beta)
    p = np.exp(log_f - np.logaddexp.reduce(log_f))
    chosen = np.random.default_rng(seed).choice(len(p), n, p=p)
    return tuple(jnp.asarray(np.array([x[layer] for x in states])[chosen]) for layer in (0, 1))  # type: ignore


def farthest(a: np.ndarray, b: np.ndarray) -> float:
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    return float(np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-12)))


def test_one_sweep_keeps_every_joint_moment() -> None:
    """100,000 exact draws of (v, h) and as many that one sweep has moved: 20 moments, |z| < 4.5."""
    model, n = machine((4, 3), seed=23, kind=RBM), 100_000
    v, h = joint(model, 1.0, n, 1)
    _, begin = joint(model, 1.0, n, 2)
    keys = jax.random.split(jax.random.key(0), (2, n))

    def move(beta: float) -> np.ndarray:
        (after,) = jax.vmap(lambda k, s: model.sweep(k, (s,), beta))(keys[0], begin)
        return moments(model, jax.vmap(lambda k, s: model.draw_visible(k, (s,)))(keys[1], after), after)

    exact = moments(model, v, h)
    assert farthest(exact, move(1.0)) < FAR
    assert farthest(exact, move(0.9)) > FAR, "a sweep of another law would be noticed"


def test_a_tempered_sweep_keeps_every_joint_moment_of_the_model() -> None:
    model, n, betas = machine((4, 3), seed=24, kind=RBM), 100_000, jnp.asarray([0.0, 0.5, 1.0])
    v, h = joint(model, 1.0, n, 1)
    begin = jnp.stack([joint(model, float(beta), n, 10 + i)[1] for i, beta in enumerate(betas)], axis=1)
    keys = jax.random.split(jax.random.key(0), (2, n))

    @jax.jit
    def move(start: Any) -> Any:
        one = lambda k, s: chains.tempered_sweep(model, k, (s,), betas, 1)  # noqa: E731
        return jax.vmap(one)(keys[0], start)

    (after,), taken = move(begin)
    assert float(taken[:, 1].mean()) > 0.05 and float(taken[:, 0].max()) == 0.0
    cold = after[:, -1]
    found = moments(model, jax.vmap(lambda k, s: model.draw_visible(k, (s,)))(keys[1], cold), cold)
    exact = moments(model, v, h)
    assert farthest(exact, found) < FAR
    (wrong,), _ = move(begin[:, ::-1])
    assert farthest(exact, moments(model, v, wrong[:, -1])) > FAR


# Temperatures by row, determinism, drift


def test_rows_of_different_temperatures_are_the_runs_at_each() -> None:
    model = machine((5, 4), seed=25)
    betas = jnp.asarray([0.0, 0.3, 0.7, 1.0])
    keys, states = (
        jax.random.split(jax.random.key(1), 4),
        jax.vmap(model.draw_base)(jax.random.split(jax.random.key(2), 4)),
    )
    together = jax.vmap(model.sweep)(keys, states, betas)
    for i, beta in enumerate(betas):
        alone = model.sweep(keys[i], jax.tree.map(lambda s, i=i: s[i], states), beta)
        np.testing.assert_array_equal(together[0][i], alone[0])


def test_a_draw_depends_on_its_number_and_the_seed_alone() -> None:
    model = machine((6, 4), seed=26, kind=RBM)
    chain = chains.Chain(30)
    few, many = chains.draw(model, 3, chain, seed=5), chains.draw(model, 11, chain, seed=5)
    np.testing.assert_array_equal(few.draws, many.draws[:3])
    np.testing.assert_array_equal(many.draws, chains.draw(model, 11, chain, seed=5).draws)
    assert (many.draws != chains.draw(model, 11, chain, seed=6).draws).any()


def test_persistent_chains_do_not_drift() -> None:
    """400 chains of a machine that learns nothing, every 50th of 2,000 sweeps: the 32 rows by chi-square."""
    model = machine((5, 3), seed=27, kind=RBM, scale=0.6)
    states, _ = drawn(model, 1.0, 400, 1)
    key, rows = jax.random.key(2), []
    for first in range(0, 2000, 50):
        states = partition.swept(model, key, states, jnp.int32(first), jnp.int32(first + 50))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), first), 400)
        rows.append(np.asarray(jax.vmap(model.draw_visible)(keys, states)))
    every, log_f = table(model)
    p = np.zeros(32)
    np.add.at(p, codes((np.array([x[0] for x in every]),)), np.exp(log_f - np.logaddexp.reduce(log_f)))
    assert_law(codes((np.concatenate(rows),)), p)


@pytest.mark.parametrize("chain", [chains.Chain(30, "data"), chains.Chain(20, "base", 3)])
def test_draws_have_the_law_of_the_model(chain: chains.Chain) -> None:
    """Rows by chi-square against the enumerated law, from one row, and tempered from the base law."""
    model = machine((4, 3), seed=28, kind=RBM, scale=0.7)
    found = chains.draw(model, 4000, chain, rows=np.ones((1, 4), np.float32))
    every, log_f = table(model)
    p = np.zeros(16)
    np.add.at(p, codes((np.array([x[0] for x in every]),)), np.exp(log_f - np.logaddexp.reduce(log_f)))
    assert_law(codes((found.draws,)), p)
    assert found.mixing.forgets == (found.mixing.time <= chain.sweeps / 20)


# Brackets


def test_a_two_sided_bracket_covers_the_truth_as_often_as_it_claims() -> None:
    """A hundred repetitions of 40 chains over 20 temperatures, ends two standard errors out.

    Each end is on its own side in expectation and passes the truth by chance at most once in 44, so that the bracket
    claims 95.4 %; fewer than 88 of 100 would be a false alarm once in two thousand.
    """
    model, chains_, repeats = machine((6, 4), seed=29, kind=DBM, scale=0.8), 40, 100
    truth = partition.enumerated(model) - float(model.base_log_partition())
    betas, last = partition.linear_path(20), jnp.int32(20)
    lead = lambda start, key, path: np.asarray(  # noqa: E731
        partition.piece(model, start, key, jnp.asarray(path.copy()), jnp.int32(0), last).log_weight()
    ).reshape(repeats, chains_)
    forward = lead(partition.start(model, jax.random.key(0), chains_ * repeats), jax.random.key(1), betas)
    exact = annealing._exact_draws(model, jax.random.key(2), chains_ * repeats)
    back = lead(jax.vmap(annealing.Annealed.start)(exact), jax.random.key(3), betas[::-1])
    low, high = ([partition.certain(w) for w in side] for side in (forward, back))
    held = [a["value"] - 2 * a["error"] < truth < -b["value"] + 2 * b["error"] for a, b in zip(low, high, strict=True)]
    assert sum(held) >= 88
    # Without the errors the ends themselves are not that sure: the level is not won by being wide.
    assert np.mean([a["value"] < truth < -b["value"] for a, b in zip(low, high, strict=True)]) < 0.88


def test_exact_draws_are_draws_of_the_model() -> None:
    model = machine((3, 3, 2, 3), seed=30)
    found = annealing._exact_draws(model, jax.random.key(0), 20_000)
    assert_law(codes(found), odd_law(model, 1.0)[1])
