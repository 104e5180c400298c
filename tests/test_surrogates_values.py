"""What surrogates report: beta, penalties, values; what they reach by training; what they refuse.  In float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests import oracles
from tests.oracles import (
    GOLDEN_X,
    Chain,
    ScalarGaussian,
    assert_kills,
    assert_same,
    gauss_hermite,
    given_noise,
    with_arrays,
)

from reverie.errors import ReverieError
from reverie.prob import bounds, surrogates
from reverie.prob.surrogates import SURROGATES, objective


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# beta, penalty and what is logged


@pytest.mark.parametrize("name", ["elbo", "elbo-analytic"])
def test_beta_weighs_the_kl_and_the_elbo_is_logged_beside_it(name: str) -> None:
    model, beta = with_arrays(ScalarGaussian(a=1.3)), 0.3
    nodes, mass = gauss_hermite(1)

    def check(weight: Any) -> None:
        with given_noise():
            scalars, info = jax.vmap(lambda eps: SURROGATES[name](model, eps, GOLDEN_X, None, 1, weight))(nodes)
        wanted = float(model.likelihood_term(GOLDEN_X) - beta * model.kl(GOLDEN_X))
        assert mass @ scalars == pytest.approx(wanted, abs=1e-10)
        assert mass @ info["objective"] == pytest.approx(wanted, abs=1e-10)
        assert mass @ info["elbo"] == pytest.approx(float(model.elbo(GOLDEN_X)), abs=1e-10)

    assert_kills(check, beta, 1 / beta)
    check(jnp.asarray(beta))


@pytest.mark.parametrize("name", ["iwae", "one-backward", "stl", "dreg"])
def test_beta_in_a_k_sample_surrogate(name: str) -> None:
    model, key, k = with_arrays(ScalarGaussian()), jax.random.key(1), 4
    drawn = jax.vmap(lambda own: model.forward(own, GOLDEN_X))(bounds.sample_keys(key, k))
    tempered = drawn.log_likelihood + 0.5 * (drawn.log_prior - drawn.log_q)
    scalar, info = SURROGATES[name](model, key, GOLDEN_X, None, k, 0.5)
    assert float(scalar) == pytest.approx(float(bounds.iwae_bound(tempered)), abs=1e-12)
    assert float(info["objective"]) == pytest.approx(float(scalar), abs=1e-12)
    assert float(info["bound"]) == pytest.approx(float(bounds.iwae_bound(drawn.log_w)), abs=1e-12)
    assert float(info["elbo"]) == pytest.approx(float(drawn.log_w.mean()), abs=1e-12)
    assert float(info["bound"]) != pytest.approx(float(scalar), abs=1e-3)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_traced_beta_of_one_changes_no_gradient(name: str) -> None:
    model, key = with_arrays(ScalarGaussian()), jax.random.key(1)

    def slope(beta: Any) -> Any:
        return jax.grad(lambda m: SURROGATES[name](m, key, GOLDEN_X, None, 3, beta)[0])(model)

    assert_same(jax.jit(slope)(1.0), slope(1.0), 1e-12)
    assert "objective" not in SURROGATES[name](model, key, GOLDEN_X, None, 3)[1]
    assert float(slope(0.2).m) != pytest.approx(float(slope(1.0).m), abs=1e-3)


class Traced(ScalarGaussian):
    """Says in its trace what it drew."""

    def forward(self, key: Any, x: Any, given: Any = None) -> Any:
        drawn = super().forward(key, x, given)
        return drawn._replace(trace={"h": drawn.h})


@pytest.mark.parametrize("name", SURROGATES)
def test_a_penalty_is_averaged_over_samples_and_subtracted(name: str) -> None:
    model, key, k = with_arrays(Traced()), jax.random.key(4), 3
    one, log_w = bounds.sample_keys(key, k), bounds.log_weights(model, key, GOLDEN_X, None, k)
    if name == "one-backward":
        one = one[surrogates.choose(key, log_w)][None]

    def alone(m: Any) -> jax.Array:
        return jax.vmap(lambda own: m.infer(own, GOLDEN_X) ** 2)(one).mean()

    def with_penalty(m: Any, penalty: Any) -> Any:
        return SURROGATES[name](m, key, GOLDEN_X, None, k, 1.0, penalty)

    def scalar(m: Any) -> jax.Array:
        return with_penalty(m, lambda trace: trace["h"] ** 2)[0] - with_penalty(m, None)[0]

    assert float(scalar(model)) == pytest.approx(-float(alone(model)), abs=1e-12)
    assert_same(jax.grad(scalar)(model), jax.tree.map(jnp.negative, jax.grad(alone)(model)), 1e-12)
    info = with_penalty(model, lambda trace: trace["h"] ** 2)[1]
    assert float(info["penalty"]) == pytest.approx(float(alone(model)), abs=1e-12)


# T5, by training


@pytest.mark.parametrize("name", ["stl", "elbo-analytic"])
def test_training_reaches_the_likelihood_of_ppca(name: str) -> None:
    """The maximum of the ELBO is the maximum of the likelihood (Lucas et al. 2019), here within 0.02 nat."""
    x = jnp.asarray(oracles.linear_data())
    truth = float(oracles.ppca(np.asarray(x), 3).log_likelihood(x).mean())
    rng = np.random.default_rng(3)
    shapes = [(8, 3), (8,), (), (3, 8), (8,), (3,)]
    start = oracles.LinearGaussian(*(jnp.asarray(0.3 * rng.normal(size=s)) for s in shapes))
    batch, maximise = {"x": x, "given": None, "step": jnp.zeros((), jnp.int32)}, objective(name, 1)
    optimiser = optax.adam(optax.cosine_decay_schedule(0.03, 1500))

    def step(state: Any, i: Any) -> tuple[Any, Any]:
        model, moments = state
        slope = jax.grad(lambda m: maximise(m, batch, None, jax.random.fold_in(jax.random.key(0), i))[0])(model)
        updates, moments = optimiser.update(slope, moments)
        return (optax.apply_updates(model, updates), moments), None

    (model, _), _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(1500)))((start, optimiser.init(start)))
    keys = jax.random.split(jax.random.key(9), len(x))
    reached = jax.vmap(lambda key, row: bounds.elbo(bounds.log_weights(model, key, row, None, 50)))(keys, x).mean()
    assert float(model.log_likelihood(x).mean()) <= truth + 1e-9, "nothing exceeds the maximum"
    assert float(reached) == pytest.approx(truth, abs=0.02)
    assert float(jax.vmap(lambda row: bounds.elbo(bounds.log_weights(start, keys[0], row, None, 50)))(x).mean()) < (
        truth - 1.0
    )


def test_frozen_models_move_nothing_but_pass_gradients_on() -> None:
    model = with_arrays(Chain())
    score = lambda m, h: surrogates.freeze(m).log_q((h, h), GOLDEN_X)  # noqa: E731
    assert all(float(g) == 0.0 for g in jax.tree.leaves(jax.grad(score)(model, jnp.asarray(0.4))))
    assert float(jax.grad(score, argnums=1)(model, jnp.asarray(0.4))) != 0.0


def test_a_scaled_gradient_leaves_values_and_integers_alone() -> None:
    h = {"z": jnp.asarray([1.0, 2.0]), "n": jnp.asarray([3, 4])}
    through = lambda z: (surrogates.scale_gradient({**h, "z": z}, jnp.asarray(0.25))["z"] ** 2).sum()  # noqa: E731
    assert float(through(h["z"])) == 5.0
    np.testing.assert_allclose(jax.grad(through)(h["z"]), [0.5, 1.0])
    np.testing.assert_array_equal(surrogates.scale_gradient(h, jnp.asarray(0.25))["n"], [3, 4])


def test_a_model_without_a_closed_form_kl_is_refused_in_one_line() -> None:
    with pytest.raises(ReverieError, match=r"elbo-analytic needs a closed-form KL, which Chain has not; use elbo"):
        SURROGATES["elbo-analytic"](Chain(), jax.random.key(0), GOLDEN_X, None, 1)


@pytest.mark.parametrize(
    ("name", "k", "message"),
    [
        ("iwea", 1, "surrogate: 'iwea' is not known; did you mean 'iwae'"),
        ("zzz", 1, "give one of elbo, elbo-analytic"),
        ("iwae", 0, "k: 0 samples are too few"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(name: str, k: int, message: str) -> None:
    with pytest.raises(ReverieError) as caught:
        objective(name, k)
    assert message in str(caught.value) and "\n" not in str(caught.value)
