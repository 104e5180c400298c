"""The Helmholtz machine and its surrogates against enumeration of all (x, h), in float64; what they would catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.enumeration import (
    HIDDEN,
    WIDTH,
    Enumerated,
    Surrogate,
    all_dreams,
    all_tuples,
    bound_gradient,
    cells,
    expected,
    gradients,
    log_likelihood,
    mean_gradient,
    mutant,
    slope,
    some,
    tables,
    theta,
)
from tests.oracles import ScalarGaussian, assert_kills, assert_same, with_arrays

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.models.directed import helmholtz
from reverie.models.directed._binary import Helmholtz
from reverie.models.directed._conditionals import Sigmoids
from reverie.nn.blocks import Linear
from reverie.prob import bounds, score_surrogates, surrogates
from reverie.prob.score_surrogates import SCORED
from reverie.train.recipe import Brief

X = np.array([1.0, 0.0, 1.0, 1.0])
NETS = [(HIDDEN,), (2, 1)]
OF_THE_ELBO = ("wake-sleep", "score")


# The law


@pytest.mark.parametrize("latent", NETS)
def test_p_and_q_sum_to_one_and_a_pass_has_their_scores(latent: tuple[int, ...], enumerated: None) -> None:
    model = some(latent)
    assert float(all_dreams(model)[1].sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(all_tuples(model, X, 1)[1].sum()) == pytest.approx(1.0, abs=1e-12)
    plain, key = Helmholtz(**vars(model)), jax.random.key(3)
    h, drawn = plain.infer(key, jnp.asarray(X)), plain.forward(key, jnp.asarray(X))
    assert all(bool((a == b).all()) and a.dtype == bool for a, b in zip(h, drawn.h, strict=True))
    assert float(drawn.log_w) == pytest.approx(float(model.log_p(X, h) - model.log_q(h, X)), abs=1e-12)
    assert float(drawn.log_prior) == pytest.approx(float(plain.log_prior(h)), abs=1e-12)


def test_draws_follow_the_law_they_are_scored_by() -> None:
    """Chi-square of 20,000 dreams and of as many draws of q; false alarm: a thousandth each, at fixed seeds."""
    from scipy.stats import chisquare

    model = some((2, 1), scale=1.0)
    plain = Helmholtz(**vars(jax.tree.map(lambda a: a.astype(jnp.float32), model)))
    place = lambda h, x: (jnp.concatenate([*h, x]).astype(int) << jnp.arange(3 + len(x))).sum()  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 20_000)
    dreams = jax.jit(jax.vmap(lambda key: place(*plain.sample(key)[::-1])))(keys)
    drawn = jax.jit(jax.vmap(lambda key: place(plain.infer(key, jnp.asarray(X)), jnp.zeros(0))))(keys)
    for seen, law in ((dreams, all_dreams(model)[1]), (drawn, all_tuples(model, X, 1)[1])):
        counts, law = np.bincount(np.asarray(seen), minlength=law.size), np.asarray(law, float)
        assert chisquare(counts, law / law.sum() * 20_000).pvalue > 1e-3
        assert chisquare(counts, law[::-1] / law.sum() * 20_000).pvalue < 1e-6


# T16: wake and sleep


@pytest.mark.parametrize("latent", NETS)
def test_the_wake_gradient_is_that_of_the_mean_log_p(latent: tuple[int, ...], enumerated: None) -> None:
    model = some(latent)
    _, log_q = tables(model, X)
    truth = slope(lambda m: jnp.exp(log_q) @ tables(m, X)[0], model)

    def check(surrogate: Surrogate) -> None:
        for k in (1, 2):
            assert_same(theta(expected(surrogate, model, X, k)), theta(truth), 1e-12)

    of_log_q = mutant("wake-sleep", _drawn=_exchanged)
    assert_kills(check, SCORED["wake-sleep"], SCORED["rws"], of_log_q)


def _exchanged(*arguments: Any) -> Any:
    drawn = DRAWN(*arguments)
    return drawn._replace(log_p=drawn.log_q, log_q=drawn.log_p)


DRAWN = score_surrogates._drawn


@pytest.mark.parametrize("name", ["wake-sleep", "rws"])
@pytest.mark.parametrize("latent", NETS)
def test_the_sleep_gradient_is_that_of_the_mean_log_q_of_dreams(
    latent: tuple[int, ...], name: str, enumerated: None
) -> None:
    model = some(latent)
    dreams = all_dreams(model)
    truth = slope(lambda m: dreams[1] @ jax.vmap(lambda n: m.log_q(*model.sample(n)[::-1]))(dreams[0]), model)

    def check(surrogate: Surrogate) -> None:
        asleep = partial(surrogate, q_updates="sleep") if name == "rws" else surrogate
        assert_same(expected(asleep, model, X, 1, dreams).q, truth.q, 1e-12)

    def of_the_data(m: Any, keys: Any, given: Any, k: int) -> Any:
        return m.log_q(m.sample(keys[k])[1], jnp.asarray(X))

    def of_p(m: Any, keys: Any, given: Any, k: int) -> Any:
        return m.log_p(*m.sample(keys[k]))

    assert_kills(check, SCORED[name], mutant(name, sleep=of_the_data), mutant(name, sleep=of_p))


def test_at_the_exact_posterior_both_phases_rest_at_the_optimum(enumerated: None) -> None:
    """One unit's posterior is logistic in x: q can be exact.  The data are those that the model itself generates."""
    model = some((1,))
    w, b = model.data.law.logits.weight, model.data.law.logits.bias
    bias = model.top.bias + (jax.nn.softplus(b) - jax.nn.softplus(w[0] + b)).sum()
    exact = Enumerated(**{**vars(model), "q": (Sigmoids(Linear(w.T, bias)),)})
    log_p, log_q = tables(exact, X)
    np.testing.assert_allclose(log_q, log_p - jax.nn.logsumexp(log_p), atol=1e-12)
    # Every row of data with either value of its unit, by p(x) q(h | x).
    rows, unit = jnp.repeat(jnp.asarray(cells()), 2, axis=0), jnp.tile(jnp.arange(2), len(cells()))[:, None]
    of_rows = jax.vmap(lambda x, n: exact.log_p(x, exact.infer(n[0], x)))(rows, unit).reshape(-1, 2)
    likelihood = jnp.repeat(jax.nn.logsumexp(of_rows, axis=1), 2)

    def check(right: tuple[Surrogate, Enumerated]) -> None:
        surrogate, net = right
        log_q = jax.vmap(lambda x, n: net.log_q(net.infer(n[0], x), x))(rows, unit)
        wake = unit, jnp.exp(likelihood + log_q)
        total = mean_gradient(surrogate, net, rows, 1, wake, all_dreams(exact))
        assert_same(total, jax.tree.map(jnp.zeros_like, net), 1e-12)

    check((SCORED["rws"], exact))
    assert_kills(check, (SCORED["wake-sleep"], exact), (SCORED["wake-sleep"], model))


# T17: reweighted


@pytest.mark.parametrize("latent", NETS)
def test_the_mean_weight_is_the_likelihood(latent: tuple[int, ...], enumerated: None) -> None:
    model = some(latent)

    def check(bound: Callable[..., Any]) -> None:
        draws, mass = all_tuples(model, X, 2)
        found = jax.jit(jax.vmap(lambda keys: jnp.exp(bound(bounds.log_weights(model, keys, X, None, 2)))))(draws)
        assert float(mass @ found) == pytest.approx(float(jnp.exp(log_likelihood(model, X))), abs=1e-14)

    assert_kills(check, bounds.iwae_bound, bounds.elbo, jax.nn.logsumexp)


def test_with_one_sample_it_is_wake_and_sleep_and_q_s_own_draws_teach_it_nothing(enumerated: None) -> None:
    model, dreams = some(), all_dreams(some())
    plain = expected(SCORED["wake-sleep"], model, X, 1, dreams)
    asleep = partial(SCORED["rws"], q_updates="sleep")
    keys = jnp.asarray([5, 77])
    one, other = (gradients(s, model, keys[None], jnp.asarray(X)[None], 1) for s in (asleep, SCORED["wake-sleep"]))
    assert_same(one, other, 1e-14)
    # Over its draws the score of q has no mean: with one sample the wake update of q is noise.
    assert_same(expected(SCORED["rws"], model, X, 1, dreams), plain, 1e-12)


def test_the_reweighted_gradients_are_sums_by_normalised_weights(enumerated: None) -> None:
    model = some((2, 1))
    draws, mass = all_tuples(model, X, 2)
    log_p, log_q = tables(model, X)
    w = jnp.exp(log_p - log_q)[draws]
    w = w / w.sum(axis=1, keepdims=True)
    truth = slope(lambda m: mass @ (w * sum(tables(m, X))[draws]).sum(axis=1), model)

    def check(surrogate: Surrogate) -> None:
        assert_same(expected(partial(surrogate, q_updates="wake"), model, X, 2), truth, 1e-12)

    live = mutant("rws", shares=jax.nn.softmax)
    equal = mutant("rws", shares=lambda log_w: jnp.full_like(log_w, 1 / log_w.size))
    assert_kills(check, SCORED["rws"], live, equal)
    only = expected(partial(SCORED["rws"], q_updates="sleep"), model, X, 2)
    assert_same(theta(only), theta(truth), 1e-12)


def test_the_bias_falls_as_one_over_k(enumerated: None) -> None:
    """Exact at every k: draws of one unit count only by how many of them are on, which is binomial."""
    from scipy.stats import binom

    model = some((1,), seed=3, scale=1.0)
    truth = slope(lambda m: log_likelihood(m, X), model)
    on = float(jnp.exp(tables(model, X)[1])[1])
    sizes = (1, 2, 4, 8, 16, 32, 64)

    def bias(surrogate: Surrogate, k: int) -> float:
        keys = jnp.asarray((np.arange(k + 1)[:, None] > np.arange(k + 1)).astype(int))
        mass = jnp.asarray(binom.pmf(np.arange(k + 1), k, on))
        each = gradients(surrogate, model, keys, jnp.broadcast_to(jnp.asarray(X), (k + 1, WIDTH)), k)
        gap = jax.tree.map(lambda g, t: ((jnp.tensordot(mass, g, 1) - t) ** 2).sum(), theta(each), theta(truth))
        return float(np.sqrt(sum(jax.tree.leaves(gap))))

    def check(surrogate: Surrogate) -> None:
        found = [bias(surrogate, k) for k in sizes]
        assert np.polyfit(np.log(sizes), np.log(found), 1)[0] == pytest.approx(-1.0, abs=0.2)

    assert_kills(check, partial(SCORED["rws"], q_updates="wake"), SCORED["wake-sleep"])


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("name", SCORED)
def test_weights_that_spread_by_hundreds_of_nats_leave_gradients_finite(name: str, double: bool) -> None:
    with jax.enable_x64(double):
        plain = Helmholtz(**vars(some((6, 5))))
        # Of the net's own precision: jax may remember what the same numbers were under another.
        x = jnp.asarray(X, plain.top.bias.dtype)
        # p alone: a q as sure of itself would draw the same h every time.
        p, law, top = jax.tree.map(lambda a: 200.0 * a, theta(plain))
        model = replace(plain, p=p, data=law, top=top)
        log_w = bounds.log_weights(model, jax.random.key(0), x, None, 20)
        assert float(jnp.ptp(log_w)) > 700
        assert float(score_surrogates.shares(log_w).sum()) == pytest.approx(1.0, abs=1e-6)
        run = lambda m: SCORED[name](m, jax.random.key(0), x, None, 20)  # noqa: E731
        found = jax.jit(jax.value_and_grad(run, has_aux=True))(model)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))


# VIMCO


@pytest.mark.parametrize("latent", NETS)
def test_vimco_has_the_gradient_of_the_k_sample_bound(latent: tuple[int, ...], enumerated: None) -> None:
    model = some(latent)
    truth = bound_gradient(model, X, 2)

    def check(surrogate: Surrogate) -> None:
        assert_same(expected(surrogate, model, X, 2), truth, 1e-12)

    twice = mutant("vimco", without=lambda log_w: log_w - bounds.iwae_bound(log_w))
    # As the k-sample bound would be, of draws that could be gone back through: without what q owes to its choice.
    assert_kills(check, SCORED["vimco"], SCORED["rws"], surrogates.iwae, twice)


def test_a_draw_s_baseline_is_of_the_others_and_quietens_it(enumerated: None) -> None:
    model = some(scale=1.5)
    draws, mass = all_tuples(model, X, 2)
    keys, rows = jnp.pad(draws, [(0, 0), (0, 1)]), jnp.broadcast_to(jnp.asarray(X), (len(draws), WIDTH))

    def check(without: Callable[[Any], Any]) -> None:
        log_w = jnp.asarray([0.3, -1.0, 2.0, 700.0])
        for i in range(4):
            others = np.delete(np.asarray(log_w), i)
            wanted = np.logaddexp.reduce([*others, others.mean()]) - np.log(4)
            assert float(without(log_w)[i]) == pytest.approx(wanted, abs=1e-10)

    own = lambda log_w: jnp.full_like(log_w, bounds.iwae_bound(log_w))  # noqa: E731
    assert_kills(check, score_surrogates.without, own, lambda log_w: 0.0 * log_w)

    def variance(surrogate: Surrogate) -> float:
        each = gradients(surrogate, model, keys, rows, 2)
        spread = lambda g: mass @ (g**2).reshape(len(mass), -1).sum(1) - (jnp.tensordot(mass, g, 1) ** 2).sum()  # noqa: E731
        return float(sum(spread(g) for g in jax.tree.leaves(each.q)))

    bare = mutant("vimco", without=lambda log_w: 0.0 * log_w)
    assert variance(SCORED["vimco"]) < 0.5 * variance(bare)
    # A baseline, however bad, changes no mean.
    assert_same(expected(bare, model, X, 2), bound_gradient(model, X, 2), 1e-12)


# Any latent


@pytest.mark.parametrize("name", SCORED)
def test_of_a_model_that_could_be_gone_back_through_draws_are_held_fixed(name: str) -> None:
    """A Gaussian draw depends on q's parameters; here p's log-density must not reach them through it."""
    with jax.enable_x64(True):
        model, key, k = with_arrays(Dreaming(a=1.3, b=-0.2)), jax.random.key(2), 3
        h = jax.vmap(lambda own: model.infer(own, 1.3))(bounds.sample_keys(key, k))
        found = jax.jit(jax.grad(lambda m: SCORED[name](m, key, 1.3, None, k)[0]))(model)
        log_w = jax.vmap(lambda own: model.log_p(1.3, own) - model.log_q(own, 1.3))(h)
        share = jnp.full(k, 1 / k) if name in OF_THE_ELBO else jax.nn.softmax(log_w)
        slope = jax.vmap(lambda own: jax.grad(lambda m: m.log_p(1.3, own))(model))(h)
        for group in ("a", "b"):
            assert float(getattr(found, group)) == pytest.approx(float(share @ getattr(slope, group)), abs=1e-12)


class Dreaming(ScalarGaussian):
    """A Gaussian that can also be drawn from, with gradients through the draw."""

    def sample(self, key: Any, given: Any = None) -> Any:
        h = jax.random.normal(key)
        return self.a * h + self.b + jax.random.normal(jax.random.fold_in(key, 1)), h


def test_a_penalty_is_taken_off_and_a_weight_of_the_kl_refused() -> None:
    model, key = Helmholtz(**vars(some())), jax.random.key(0)
    x = jnp.asarray(X, model.top.bias.dtype)
    for name in SCORED:
        plain, info = SCORED[name](model, key, x, None, 2)
        less, told = SCORED[name](model, key, x, None, 2, 1.0, lambda trace: jnp.asarray(3.0))
        assert float(plain - less) == pytest.approx(3.0, abs=1e-5) and float(told["penalty"]) == 3.0
        assert float(plain) == pytest.approx(float(info["elbo" if name in OF_THE_ELBO else "bound"]), abs=1e-6)
        with pytest.raises(ReverieError, match=r"beta: .*no KL term"):
            SCORED[name](model, key, x, None, 2, 0.5)
    with pytest.raises(ReverieError, match="'elbo' is not known"):
        surrogates.objective("elbo", 1, known=SCORED)


# A run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    return reverie.train("helmholtz", "digits", run=tmp_path_factory.mktemp("helmholtz") / "run", **helmholtz.TINY)


def test_every_verb_works_and_hamiltonian_moves_are_refused(run: reverie.Run) -> None:
    found = run.evaluate(rows=60, samples=100)["log_likelihood"]
    assert (found.kind, found.estimator) == ("lower_bound", "importance-100")
    assert run.journal()[-1]["valid"]["estimator"] == "importance-10" and "sleep" in run.journal()[-1]
    x = run.data.restore(run.data.rows("test"))[:5]
    codes = run.encode(x)
    assert codes.shape == (5, 24) and (codes > 0).all() and (codes < 1).all()
    for number in (run.score(x, samples=50).values, run.sample(3), run.impute(x, "half", iterations=3)):
        assert np.isfinite(number).all()
    page = run.report().read_text(encoding="utf-8")
    assert "helmholtz" in page
    with pytest.raises(ReverieError, match="latents, this model's are discrete; use importance") as caught:
        run.evaluate(estimator="ais", rows=5, samples=2, temperatures=5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_columns_of_other_laws_are_learnt(likelihood: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, (200, 1))
    x = {"gaussian": 4.0 * side + rng.normal(size=(200, 5)), "categorical": (side + rng.integers(0, 2, (200, 5)))}
    x = x[likelihood].astype(float)
    if likelihood == "gaussian":
        x[rng.random(x.shape) < 0.1] = np.nan
    run = reverie.train("helmholtz", x, run=tmp_path / "run", likelihood=likelihood, latent=(4,), batch=20, epochs=40,
                        rate=2e-2, k=5)  # fmt: skip
    valid = [line["valid"]["value"] for line in run.journal() if "valid" in line]
    assert max(valid) > valid[0] + 0.5
    assert np.isfinite(run.score(x[:10]).values).all() and run.sample(3).shape == (3, 5)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"latent": ()}, "latent: give the width"),
        ({"latent": (3, 0)}, "latent: give the width"),
        ({"k": 0}, "k: 0"),
        ({"surrogate": "vimco", "k": 1, "batch": 10}, "k: vimco compares a row's samples"),
        ({"surrogate": "wake-sleep", "q_updates": "wake"}, "q-updates: wake-sleep has no such choice"),
        ({"surrogate": "elbo"}, "surrogate"),
        ({"bias": float("nan")}, "bias: nan"),
    ],
)
def test_what_makes_no_sense_is_refused(more: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        reverie.train("helmholtz", np.eye(50, 4), run=tmp_path / "run", **more)
    assert "\n" not in str(caught.value)


def test_binary_layers_start_at_their_bias_and_cells_at_their_means() -> None:
    data = data_floor.load(np.tile([[1, 0, 0, 0], [1, 1, 0, 1]], (30, 1)))
    how = {"latent": (5, 3), "p_layers": ("sbn", "darn", "nade")}
    model, _ = helmholtz.recipe(Brief(data, jax.random.key(0), 1.0), **how, bias=-1.5, batch=10)
    for layer in (*model.q, *model.p, model.top):
        np.testing.assert_array_equal(layer.bias, -1.5)
    np.testing.assert_allclose(jax.nn.sigmoid(model.data.law.logits.bias), np.clip(data.mean, 0.001, 0.999), rtol=1e-4)
    default, _ = helmholtz.recipe(Brief(data, jax.random.key(0), 1.0), batch=10)
    assert {float(value) for layer in default.q for value in layer.bias} == {-2.0}


def test_wake_and_sleep_learn_digits(tmp_path: Path) -> None:
    """Independent columns have -25.3 nats."""
    tiny = {**helmholtz.TINY, "surrogate": "wake-sleep", "k": 1}
    run = reverie.train("helmholtz", "digits", run=tmp_path / "run", **tiny)
    assert run.evaluate(samples=100)["log_likelihood"].value > -24.0
