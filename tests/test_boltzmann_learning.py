"""What drives the learning of Boltzmann machines: samplers of the model's side, momentum, growth, multi-prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from tests.oracles import assert_kills
from tests.test_energy import assert_law, codes, drawn, machine

import reverie
from reverie.errors import ReverieError
from reverie.models.undirected import _chains, _prediction
from reverie.models.undirected import _learning as learning
from reverie.models.undirected.dbm import DBM
from reverie.models.undirected.rbm import RBM, posterior
from reverie.prob.chains import tempered_transition
from reverie.train.optimise import SCHEDULES, Momentum, steepest


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def test_a_tempered_transition_leaves_the_law(double: None) -> None:
    model, n = machine((4, 3), seed=7, kind=RBM), 40_000
    states, p = drawn(model, 1.0, n, 1)
    betas = jnp.linspace(1.0, 0.2, 4)
    keys = jax.random.split(jax.random.key(2), n)

    def check(path: Any) -> None:
        moved, taken = jax.vmap(lambda k, s: tempered_transition(path, k, (s,), betas))(keys, states[0])
        assert 0.02 < float(taken.mean()) < 0.98
        assert_law(codes(moved), p)

    class Careless(RBM):
        """A model that forgets a part of what a step of the path is worth."""

        def log_ratio(self, state: Any, start: Any, stop: Any) -> Any:
            return 0.5 * super().log_ratio(state, start, stop)

    careless = Careless(model.weights, model.biases, model.visible, model.base)
    assert_kills(check, model, careless)


def test_fast_weights_drive_the_chains_and_fade(double: None) -> None:
    model = machine((5, 4), seed=3, kind=RBM, scale=0.3)
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 2, (20, 5)).astype(float))
    how = learning.Learning(chain="fpcd", chains=6, rate=0.1, fast=_chains.Fast(rate=0.3, keep=0.9), centred=False)
    carry = learning.Carry(
        _chains.starting(how, model, jax.random.key(0)), (jnp.zeros(5), jnp.zeros(4)), learning.unseen(model)
    )
    found = learning.gradients(posterior, how, 10.0)
    loss, after, _ = found(model, {"x": rows, "step": jnp.asarray(0)}, carry, jax.random.key(1))
    # The slope of the loss is minus the gradient, plus decay on the weights.
    up = how.decay * model.weights[0] - loss.weights[0]
    np.testing.assert_allclose(after.negative.fast[0][0], 0.3 * up, atol=1e-12)
    _, later, _ = found(model, {"x": rows, "step": jnp.asarray(1)}, after, jax.random.key(2))
    assert not np.allclose(later.negative.fast[0][0], after.negative.fast[0][0])
    # Weights as large as these leave the chains no choice; the model's own would.
    strong = after.negative._replace(fast=((jnp.zeros((5, 4)),), (jnp.full(5, 60.0), jnp.full(4, -60.0))))
    layers, _ = _chains.negative_phase(how, model, jax.random.key(3), (rows[:, :4],), strong, 1, jnp.asarray(0))
    assert (layers[0] == 1).all() and float(layers[1].max()) < 1e-9


def test_every_sampler_gives_the_gradient_of_a_machine_it_has_settled_on(double: None) -> None:
    """Chains that begin at exact draws: each sampler's layers have the model's means, to Monte Carlo error."""
    model, n = machine((4, 3), seed=5, kind=RBM, scale=0.7), 20_000
    states, _ = drawn(model, 1.0, n, 3)
    exact = np.asarray(jax.vmap(lambda s: model.mean((s,)))(states[0])).mean(axis=0)
    for chain in ("cd", "pcd", "fpcd", "tempered"):
        how = learning.Learning(chain=chain, chains=n, tempering=_chains.Tempering(4, 0.5, 1))
        kept = _chains.starting(how, model, jax.random.key(0))._replace(states=states)
        layers, _ = _chains.negative_phase(how, model, jax.random.key(4), states, kept, 2, jnp.asarray(0))
        np.testing.assert_allclose(np.asarray(layers[0]).mean(axis=0), exact, atol=4.5 * 0.75 / np.sqrt(n))


def test_sweeps_grow_with_the_epochs(double: None) -> None:
    model = machine((5, 4), seed=1, kind=RBM)
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 2, (20, 5)).astype(float))
    base = learning.Learning(chain="cd", sweeps=1, decay=0.0)
    carry = learning.Carry(
        _chains.starting(base, model, jax.random.key(0)), (jnp.zeros(5), jnp.zeros(4)), learning.unseen(model)
    )

    def slope(how: learning.Learning, step: int) -> np.ndarray:
        batch = {"x": rows, "step": jnp.asarray(step)}
        return np.asarray(
            learning.gradients(posterior, how, 10.0)(model, batch, carry, jax.random.key(1))[0].weights[0]
        )

    growing = replace(base, grow=2.0)
    np.testing.assert_array_equal(slope(growing, 19), slope(base, 19))
    np.testing.assert_array_equal(slope(growing, 41), slope(replace(base, sweeps=3), 41))
    assert not np.allclose(slope(growing, 41), slope(base, 41))


def test_momentum_ramps_and_the_rate_is_inside_it() -> None:
    optimiser = steepest(lambda step: 0.1 / (1 + step), Momentum(0.5, 0.9, 2.0), 3.0)
    state, weight, trace = optimiser.init({"w": jnp.zeros(())}), 0.0, 0.0
    for step in range(10):
        updates, state = optimiser.update({"w": jnp.asarray(1.0 + step)}, state)
        trace = (0.5 if step < 6 else 0.9) * trace - 0.1 / (1 + step) * (1.0 + step)
        weight += trace
        assert float(updates["w"]) == pytest.approx(trace, rel=1e-5)


def test_the_inverse_schedule_obeys_robbins_and_monro() -> None:
    """Its sum grows without end, as the logarithm, and the sum of its squares does not."""
    t = jnp.linspace(0, 1, 100_001)
    rates = np.asarray(SCHEDULES["inverse"](t), np.float64)
    np.testing.assert_allclose(rates, 1.0 / (1.0 + 100.0 * np.asarray(t)), rtol=1e-5)


def test_prediction_is_mean_field_on_what_is_known(double: None) -> None:
    model = machine((5, 4, 3), seed=2, kind=DBM, scale=0.6)
    x, known = jnp.asarray([1.0, 0, 1, 1, 0]), jnp.asarray([1.0, 1, 0, 0, 1])
    (w1, w2), (b, c1, c2), base = model.weights, model.biases, model.base
    v = np.where(known == 1, x, expit(base))
    h1 = expit(2 * v @ w1 + c1)
    h2 = expit(h1 @ w2 + c2)
    for _ in range(3):
        h1 = expit(v @ w1 + w2 @ h2 + c1)
        field = b + w1 @ h1
        h2 = expit(h1 @ w2 + c2)
        v = np.where(known == 1, x, expit(field))
    found = _prediction.predicted(model, x, known, 3)
    np.testing.assert_allclose(np.asarray(found), np.asarray(field), atol=1e-12)
    # What is hidden may not be seen.
    other = _prediction.predicted(model, jnp.where(known == 1, x, 1 - x), known, 3)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(other))


def test_multi_prediction_learns_to_predict(tmp_path: Any) -> None:
    run = reverie.train("dbm", "digits", run=tmp_path / "mp", hidden=(12, 6), batch=50, epochs=8, rate=0.01,
                        learn="multi-prediction", valid_every=8, select="last")  # fmt: skip
    told = [line["objective"] for line in run.journal() if "objective" in line]
    assert told[-1] > told[0] + 3.0
    assert run.evaluate(rows=30)["log_likelihood"].kind == "exact"


@pytest.mark.parametrize("wrong, word", [
    ({"tempering": {"replicas": 1}}, "tempering.replicas"), ({"tempering": {"hottest": 1.0}}, "tempering.hottest"),
    ({"tempering": {"every": 0}}, "tempering.every"), ({"grow": -1.0}, "grow"), ({"sweeps": 0}, "sweeps"),
])  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ReverieError, match=word):
        reverie.train("rbm", "digits", epochs=1, **wrong)
