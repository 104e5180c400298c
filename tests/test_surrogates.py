"""The gradients: every surrogate's expectation by quadrature, per parameter, in float64; and the mistakes it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests import oracles
from tests.oracles import (
    GOLDEN_GRADIENT,
    GOLDEN_STL,
    GOLDEN_X,
    Chain,
    ScalarGaussian,
    assert_kills,
    assert_same,
    gauss_hermite,
    given_noise,
    with_arrays,
)

from reverie.prob import bounds, surrogates
from reverie.prob.surrogates import SURROGATES

Surrogate = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
UNBIASED = ["iwae", "one-backward", "dreg"]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def mutant(name: str, **wrong: Any) -> Surrogate:
    """Return a surrogate as it would be with parts of its module replaced."""

    def changed(*arguments: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for attribute, value in wrong.items():
                patch.setattr(surrogates, attribute, value)
            return SURROGATES[name](*arguments, **options)

    changed.__name__ = f"{name} with {', '.join(wrong)}"
    return changed


def not_frozen(model: Any) -> Any:
    return model


def not_scaled(h: Any, weight: Any) -> Any:
    return h


def expected_gradient(surrogate: Surrogate, model: Any, x: float, k: int, n: int = 40, dims: int = 0) -> Any:
    """Integrate the gradient over the noise of the k draws and, where one is chosen, over the choice."""
    nodes, mass = gauss_hermite(k * max(dims, 1), n)
    nodes = jnp.asarray(nodes.reshape((-1, k, dims) if dims else (-1, k)))

    def gradient(eps: jax.Array, index: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surrogates, "choose", lambda key, log_w: index)
            slope = jax.grad(lambda m: surrogate(m, eps, x, None, k)[0])(model)
        weight = jax.nn.softmax(bounds.log_weights(model, eps, x, None, k))[index]
        return jax.tree.map(lambda g: weight * g, slope)

    def integral(index: int) -> Any:
        slopes = jax.jit(jax.vmap(lambda eps: gradient(eps, index)))(nodes)
        return jax.tree.map(lambda g: mass @ g, slopes)

    with given_noise():
        # Where nothing is chosen the k terms are equal and their weights sum to one.
        total = [integral(index) for index in range(k)]
    return jax.tree.map(lambda *parts: sum(parts), *total)


# T7: one layer


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_surrogates_have_the_bounds_gradient_for_every_parameter(name: str, k: int) -> None:
    # a decoder this shallow that 40 nodes integrate to 1e-8; at a = 1.3 they leave 1e-7.
    model = with_arrays(ScalarGaussian(a=0.9, b=-0.2))
    truth = jax.grad(lambda m: m.bound(GOLDEN_X, k))(model)

    def check(surrogate: Surrogate) -> None:
        assert_same(expected_gradient(surrogate, model, GOLDEN_X, k), truth)

    flipped = mutant(name, bounds=_Bounds(lambda log_w: -bounds.iwae_bound(log_w)))
    averaged = mutant(name, bounds=_Bounds(bounds.elbo))
    wrong = {
        ("iwae", 1): [flipped],
        ("iwae", 2): [flipped, averaged],
        ("one-backward", 1): [mutant(name, freeze=not_frozen, with_gradient_of=_forgets_to_stop)],
        ("one-backward", 2): [mutant(name, freeze=not_frozen, with_gradient_of=_forgets_to_stop)],
        ("dreg", 1): [mutant(name, scale_gradient=lambda h, w: surrogates_scaled_by(h, 0.5))],
        ("dreg", 2): [
            mutant(name, freeze=not_frozen),
            mutant(name, scale_gradient=not_scaled),
            mutant(name, scale_gradient=lambda h, w: surrogates_scaled_by(h, w**2)),
        ],
    }
    assert_kills(check, SURROGATES[name], *wrong[name, k])


class _Bounds:
    """The bounds module with another reduction of the log-weights."""

    def __init__(self, reduce: Callable[[jax.Array], jax.Array]) -> None:
        self.iwae_bound = reduce

    def __getattr__(self, name: str) -> Any:
        return getattr(bounds, name)


def _forgets_to_stop(value: jax.Array, source: jax.Array) -> jax.Array:
    return value + (source - jax.lax.stop_gradient(source))


def surrogates_scaled_by(h: Any, weight: Any) -> Any:
    return surrogates.__dict__["_scaled"](h, jnp.asarray(weight))


def test_gradients_at_two_samples_have_the_golden_values() -> None:
    model = with_arrays(ScalarGaussian())

    def check(surrogate: Surrogate) -> None:
        assert float(expected_gradient(surrogate, model, GOLDEN_X, 2).m) == pytest.approx(GOLDEN_GRADIENT, abs=1e-8)

    for name in UNBIASED:
        check(SURROGATES[name])
    assert_kills(check, SURROGATES["iwae"], SURROGATES["stl"], SURROGATES["elbo"])


def test_sticking_the_landing_is_unbiased_for_one_sample_alone() -> None:
    model = with_arrays(ScalarGaussian())
    one = expected_gradient(SURROGATES["stl"], model, GOLDEN_X, 1)
    assert_same(one, jax.grad(lambda m: m.elbo(GOLDEN_X))(model))

    def check(surrogate: Surrogate) -> None:
        found = expected_gradient(surrogate, model, GOLDEN_X, 2)
        truth = jax.grad(lambda m: m.bound(GOLDEN_X, 2))(model)
        assert float(found.m) == pytest.approx(GOLDEN_STL, abs=1e-8)
        for group in ("a", "b"):
            assert float(getattr(found, group)) == pytest.approx(float(getattr(truth, group)), abs=1e-8)

    assert_kills(check, SURROGATES["stl"], mutant("stl", freeze=not_frozen), SURROGATES["dreg"])


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_path_gradients_vanish_at_the_exact_posterior(name: str) -> None:
    """Without the score of q every draw, not the mean alone, gives the encoder nothing to do."""
    model = with_arrays(ScalarGaussian(m=GOLDEN_X / 2, log_s=0.5 * np.log(0.5)))
    keys = jax.random.split(jax.random.key(0), 5)

    def check(surrogate: Surrogate) -> None:
        slopes = jax.vmap(lambda key: jax.grad(lambda m: surrogate(m, key, GOLDEN_X, None, 3)[0])(model))(keys)
        np.testing.assert_allclose(slopes.m, 0.0, atol=1e-12)
        np.testing.assert_allclose(slopes.log_s, 0.0, atol=1e-12)
        assert np.abs(slopes.a).min() > 1e-3

    assert_kills(check, SURROGATES[name], mutant(name, freeze=not_frozen), SURROGATES["iwae"])


# The ELBO


@pytest.mark.parametrize("name", ["elbo", "elbo-analytic"])
def test_the_elbo_has_the_gradient_of_its_closed_form(name: str) -> None:
    model = with_arrays(ScalarGaussian(a=1.3, b=-0.2))
    truth = jax.grad(lambda m: m.elbo(GOLDEN_X))(model)

    def check(surrogate: Surrogate) -> None:
        for k in (1, 2):
            assert_same(expected_gradient(surrogate, model, GOLDEN_X, k), truth)

    assert_kills(check, SURROGATES[name], _with_beta(name, -1.0), _with_beta(name, 0.0))


def _with_beta(name: str, beta: float) -> Surrogate:
    """-1 is the KL with its sign swapped, 0 is the KL forgotten."""

    def changed(*arguments: Any) -> Any:
        return SURROGATES[name](*arguments, beta=beta)

    changed.__name__ = f"{name} at beta {beta}"
    return changed


def test_reparameterisation_agrees_with_the_score_function() -> None:
    r"""E[log w grad log q] + E[grad log p], integrated, against the path through h (spec 5.6.4)."""
    model = with_arrays(ScalarGaussian(a=1.3, b=-0.2))
    nodes, mass = gauss_hermite(1)
    h = model.infer(jnp.asarray(nodes[:, 0]), GOLDEN_X)

    def scored(m: ScalarGaussian) -> jax.Array:
        log_p, log_q = m.log_p(GOLDEN_X, h), m.log_q(h, GOLDEN_X)
        return mass @ (jax.lax.stop_gradient(log_p - log_q) * log_q + log_p)

    assert_same(expected_gradient(SURROGATES["elbo"], model, GOLDEN_X, 1), jax.grad(scored)(model))


# Two layers


def test_with_two_layers_dreg_keeps_the_dependence_on_the_layer_below() -> None:
    model = with_arrays(Chain())
    truth = expected_gradient(SURROGATES["iwae"], model, GOLDEN_X, 2, n=14, dims=2)

    def check(surrogate: Surrogate) -> None:
        assert_same(expected_gradient(surrogate, model, GOLDEN_X, 2, n=14, dims=2), truth, 1e-6)

    class Detached(Chain):
        def log_q(self, h: Any, x: Any, given: Any = None) -> Any:
            return super().log_q((jax.lax.stop_gradient(h[0]), h[1]), x, given) + (
                oracles.log_normal(h[0], self.c * x, self.log_s1)
                - oracles.log_normal(jax.lax.stop_gradient(h[0]), self.c * x, self.log_s1)
            )

    def below_detached(frozen: Any) -> Any:
        return surrogates_freeze(Detached(**vars(frozen)))

    assert_kills(
        check,
        SURROGATES["dreg"],
        mutant("dreg", freeze=not_frozen),
        mutant("dreg", scale_gradient=not_scaled),
        mutant("dreg", freeze=below_detached),
    )


surrogates_freeze = surrogates.freeze


def test_with_two_layers_a_draw_of_dreg_is_the_sum_over_its_nodes() -> None:
    r"""sum_i w_i^2 (d log w_i / d h_i) (d h_i / d phi) and sum_i w_i grad_theta log p, written out."""
    model, k = with_arrays(Chain()), 3
    keys = bounds.sample_keys(jax.random.key(2), k)
    weights = jax.nn.softmax(bounds.log_weights(model, jax.random.key(2), GOLDEN_X, None, k))
    found = jax.grad(lambda m: SURROGATES["dreg"](m, jax.random.key(2), GOLDEN_X, None, k)[0])(model)

    def term(key: Any, w: jax.Array) -> Any:
        h, back = jax.vjp(lambda m: m.infer(key, GOLDEN_X), model)
        slope = jax.grad(lambda h: model.log_p(GOLDEN_X, h) - model.log_q(h, GOLDEN_X))(h)
        path, decoder = back(slope)[0], jax.grad(lambda m: m.log_p(GOLDEN_X, h))(model)
        return jax.tree.map(lambda a, b: w**2 * a + w * b, path, decoder)

    wanted = jax.tree.map(lambda g: g.sum(0), jax.vmap(term)(keys, weights))
    assert_same(found, wanted, 1e-12)


# One backward pass


def test_one_backward_reports_the_bound_and_not_the_chosen_weight() -> None:
    model, key = with_arrays(ScalarGaussian()), jax.random.key(5)
    truth = float(bounds.iwae_bound(bounds.log_weights(model, key, GOLDEN_X, None, 6)))

    def check(surrogate: Surrogate) -> None:
        scalar, info = surrogate(model, key, GOLDEN_X, None, 6)
        assert float(scalar) == pytest.approx(truth, abs=1e-12)
        assert float(info["bound"]) == pytest.approx(truth, abs=1e-12)

    reports_log_w = mutant("one-backward", with_gradient_of=lambda value, source: source)
    for name in ("iwae", "stl", "dreg"):
        check(SURROGATES[name])
    assert_kills(check, SURROGATES["one-backward"], reports_log_w)


def test_the_choice_follows_the_weights() -> None:
    """Chi-square of 20,000 choices among four at level 1e-5: the false-alarm rate, at a fixed seed."""
    log_w = jnp.asarray([0.0, 1.0, -1.0, 0.5]) + 1e4
    keys = jax.random.split(jax.random.key(0), 20_000)
    wanted = np.asarray(jax.nn.softmax(log_w)) * keys.size

    def check(choose: Callable[..., jax.Array]) -> None:
        seen = np.bincount(np.asarray(jax.vmap(lambda key: choose(key, log_w))(keys)), minlength=4)
        assert ((seen - wanted) ** 2 / wanted).sum() < 25.9, "the 1e-5 tail of chi-square with 3 degrees of freedom"

    uniform = lambda key, log_w: jax.random.randint(key, (), 0, 4)  # noqa: E731
    assert_kills(check, surrogates.choose, uniform, lambda key, log_w: surrogates.choose(key, 2 * log_w))
