"""The generative auto encoder against closed forms: its mixture, its bound, its gradients, what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, multivariate_normal, norm
from tests.stops import assert_same_weights, stopped_in_every_stage

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.evaluate import memorising, prior_sampling
from reverie.models.directed import _exemplars as exemplars
from reverie.models.directed import gae
from reverie.models.directed._exemplar_learning import Objective, regulariser
from reverie.models.directed.gae import GAE, untrained
from reverie.nn.laws import Bernoulli
from reverie.prob.bounds import stream_log_likelihood

ROWS = np.asarray([[-1.5, 0.3], [0.2, -0.8], [0.9, 1.1], [1.4, -0.2], [-0.4, 0.6]])


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def linear(latent: int = 1, share: float = 0.5, neighbours: int = 2, seed: int = 0) -> GAE:
    """Encoder and decoder without a hidden layer, on five rows of two real columns; weights drawn, scales too."""
    data = data_floor.load({"train": ROWS, "valid": ROWS[:1], "test": ROWS[:1]})
    made = untrained(jax.random.key(seed), data, latent, (), "tanh", (-3.0, 2.0), share, neighbours)
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape)), made)
    return closed(drawn)


def closed(model: GAE) -> GAE:
    """The model with the components of the five rows, in the precision of the test."""
    return replace(model, exemplars=exemplars.Exemplars(*exemplars.encoded(model, jnp.asarray(ROWS))))


def log_p(model: GAE, x: np.ndarray, without: int | None = None) -> float:
    """log p(x) of the linear model of one latent unit: a mixture of normals."""
    decode, spread = model.p.head.mean, np.exp(2 * 0.5 * np.asarray(model.p.head.log_scale(jnp.zeros(1))))
    slope, bias = np.asarray(decode.weight)[0], np.asarray(decode.bias)
    total, count = 0.0, 0
    for row, (m, s) in enumerate(zip(model.exemplars.means[:, 0], model.exemplars.log_scales[:, 0], strict=True)):
        if row != without:
            cov = float(np.exp(2 * s)) * np.outer(slope, slope) + np.diag(spread)
            total += multivariate_normal(bias + slope * float(m), cov).pdf(x)
            count += 1
    return float(np.log(total / count))


def fixed_noise(model: GAE) -> GAE:
    """The same with a decoder whose scales do not depend on z, as the closed form wants."""
    still = replace(model.p.head.log_scale, weight=jnp.zeros_like(model.p.head.log_scale.weight))
    return replace(model, p=replace(model.p, head=replace(model.p.head, log_scale=still)))


def batch_of(model: GAE, index: Any, how: str = "exact", tail: Any = None, candidates: Any = None) -> dict[str, Any]:
    chosen = jnp.arange(5) if candidates is None else jnp.asarray(candidates)
    rows = jnp.asarray(ROWS)[chosen if how == "exact" else chosen[len(index) :]]
    return {"x": jnp.asarray(ROWS)[index], "index": index, "candidates": chosen, "rows": rows, "tail": tail}


def test_log_normals_are_scipy_s_far_from_the_origin_too(double: None) -> None:
    rng = np.random.default_rng(0)
    z, means, scales = rng.normal(size=(4, 3)) + 50, rng.normal(size=(6, 3)) + 50, rng.normal(size=(6, 3)) * 0.5
    wanted = norm(means, np.exp(scales)).logpdf(z[:, None, :]).sum(axis=-1)
    found = exemplars.log_normals(jnp.asarray(z), jnp.asarray(means), jnp.asarray(scales))
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    single = exemplars.log_normals(*(jnp.asarray(a, jnp.float32) for a in (z, means, scales)))
    np.testing.assert_allclose(single, wanted, atol=2e-3)
    one = exemplars.log_normal(jnp.asarray(z[0]), jnp.asarray(means[0]), jnp.asarray(scales[0]))
    assert float(one) == pytest.approx(wanted[0, 0], abs=1e-10)


def test_the_mixture_integrates_to_one_and_leaves_out_exactly_one(double: None) -> None:
    model = linear()
    grid = jnp.linspace(-30, 30, 60_001)[:, None]
    p = jnp.exp(jax.jit(jax.vmap(model.exemplars.log_prob))(grid))
    assert float(p.sum() * (grid[1, 0] - grid[0, 0])) == pytest.approx(1.0, abs=1e-8)
    z = jnp.asarray([0.3])
    without = jnp.exp(model.exemplars.log_prob(z, without=jnp.asarray(3))) * 4
    own = jnp.exp(model.exemplars.log_components(z)[3])
    assert float(without + own) == pytest.approx(float(jnp.exp(model.exemplars.log_prob(z)) * 5), rel=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_importance_sampled_likelihood_is_the_closed_form(share: float, double: None) -> None:
    model, x = fixed_noise(linear(share=share)), np.asarray([0.7, 0.1])
    total = stream_log_likelihood(model, jax.random.key(1), jnp.asarray(x), None, 100_000, 1000)
    error = float(jnp.sqrt(total.variance()))
    assert abs(float(total.value()) - log_p(model, x)) < 4.5 * max(error, 1e-4)
    assert error < 0.02


def test_draws_from_the_prior_are_counted_right_and_few_explain_a_row(double: None) -> None:
    """The slides' approximate log-likelihood: its mean weight is p(x); binary columns by one product are the same."""
    model = fixed_noise(linear())
    found = prior_sampling.prior(model, ROWS, samples=20_000)
    for row, value, variance in zip(ROWS, found.values, found.variances, strict=True):
        assert abs(value - log_p(model, row)) < 4.5 * np.sqrt(variance) + 1e-3
    few, more = (prior_sampling.prior(model, ROWS, samples=n).values.mean() for n in (2, 2000))
    assert few < more and (found.ess < 20_000).all()
    logits, rows = (
        jnp.asarray(np.random.default_rng(0).normal(size=(3, 4))),
        jnp.asarray([[0.0, 1, 1, 0], [1, 1, 0, 0]]),
    )
    laws = jax.vmap(lambda a: Bernoulli(a).to_event(1))(logits)
    wanted = jax.vmap(lambda law: jax.vmap(law.log_prob)(rows))(laws)
    np.testing.assert_allclose(prior_sampling._scores(laws, rows, False), wanted, atol=1e-12)
    with pytest.raises(ReverieError, match="not a number of samples"):
        prior_sampling.prior(model, ROWS, samples=0)


def test_forward_is_infer_and_the_scores(double: None) -> None:
    model, x, key = linear(), jnp.asarray(ROWS[2]), jax.random.key(4)
    drawn = eqx.filter_jit(model.forward)(key, x)
    again = eqx.filter_jit(model.infer)(key, x)
    np.testing.assert_allclose(drawn.h, again, atol=1e-12)
    assert float(drawn.log_q) == pytest.approx(float(eqx.filter_jit(model.log_q)(drawn.h, x)), abs=1e-12)
    joint = float(eqx.filter_jit(model.log_p)(x, drawn.h))
    assert float(drawn.log_prior + drawn.log_likelihood) == pytest.approx(joint, abs=1e-12)


def test_training_rows_are_drawn_alike() -> None:
    model = linear()
    mixture = replace(model.exemplars, means=jnp.arange(5.0)[:, None], log_scales=jnp.full((5, 1), -5.0))
    rows = jnp.round(jax.jit(jax.vmap(mixture.draw))(jax.random.split(jax.random.key(0), 5000)))[:, 0]
    # False alarm once in ten thousand runs; the seed is fixed.
    assert chisquare(np.bincount(np.asarray(rows, int), minlength=5)).pvalue > 1e-4


def test_the_regulariser_at_one_half_is_minus_the_divergence_of_a_vae(double: None) -> None:
    rng = np.random.default_rng(0)
    mean, log_scale = (jnp.asarray(rng.normal(size=(3, 4))) for _ in range(2))
    kl = 0.5 * (mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale).sum(axis=-1)
    np.testing.assert_allclose(regulariser(mean, log_scale, 0.5, 0.5), -kl, atol=1e-10)
    # The sign that the slides print would reward large means.
    assert float(regulariser(mean * 10, log_scale, 0.5, 0.0).max()) < float(
        regulariser(mean, log_scale, 0.5, 0.0).min()
    )


def test_a_number_counts_where_it_stands_first() -> None:
    np.testing.assert_array_equal(
        exemplars.once(jnp.asarray([3, 1, 3, 2, 1, 1])), [True, True, False, True, False, False]
    )


def test_what_stands_for_the_sum_is_unbiased_and_below_it(double: None) -> None:
    """Each estimator's mean of p(z), and the order of the logarithms' means: exact, strat, subset; knn misses mass."""
    model = linear()
    z, own = jnp.asarray([[[0.4]]]), jnp.asarray([1])
    of = lambda chosen: exemplars.Candidates(  # noqa: E731
        chosen, exemplars.once(chosen), model.exemplars.means[chosen], model.exemplars.log_scales[chosen]
    )
    whole = float(exemplars.log_mixture("exact", z, own, of(jnp.arange(5)), 5, True)[0, 0])
    assert whole == pytest.approx(float(model.exemplars.log_prob(z[0, 0], without=jnp.asarray(1))), abs=1e-12)
    each = model.exemplars.log_components(z[0, 0])
    # The row itself, which is left out, and the nearest other one, twice.
    nearest = int(jnp.argmax(jnp.where(jnp.arange(5) == 1, -jnp.inf, each)))
    near = of(jnp.asarray([1, nearest, nearest]))

    def strat(key: Any) -> Any:
        rows = jax.random.randint(key, (20,), 0, 5)
        tail = (rows, model.exemplars.means[rows], model.exemplars.log_scales[rows])
        return exemplars.log_mixture("strat", z, own, near, 5, True, tail)[0, 0]

    def subset(key: Any) -> Any:
        # The row itself is never the one, so that every draw leaves it.
        chosen = jax.random.choice(key, jnp.asarray([0, 2, 3, 4]), (1,))
        return exemplars.log_mixture("subset", z, own, of(chosen), 5, True)[0, 0]

    keys = jax.random.split(jax.random.key(0), 10_000)
    logs = {name: np.asarray(jax.jit(jax.vmap(f))(keys)) for name, f in (("strat", strat), ("subset", subset))}
    for values in logs.values():
        p = np.exp(values)
        assert abs(p.mean() - np.exp(whole)) < 4.5 * p.std() / 100
    assert whole > logs["strat"].mean() > logs["subset"].mean()
    knn = float(exemplars.log_mixture("knn", z, own, near, 5, True)[0, 0])
    assert knn == pytest.approx(float(each[nearest] - np.log(4)), abs=1e-12)
    assert knn < whole


def exact(model: GAE, index: np.ndarray, left_out: bool) -> Any:
    """log p(x) of rows by quadrature over z, the mixture made of the present encoder: to be differentiated."""
    grid = jnp.linspace(-8.0, 8.0, 401)
    means, log_scales = exemplars.encoded(model, jnp.asarray(ROWS))
    each = exemplars.log_normal(grid[:, None, None], means, log_scales)

    def one(row: Any) -> Any:
        masked = jnp.where((jnp.arange(5) == row) & left_out, -jnp.inf, each)
        prior = jax.nn.logsumexp(masked, axis=1) - jnp.log(5 - left_out)
        told = jax.vmap(lambda z: model.log_likelihood(jnp.asarray(ROWS)[row], z))(grid[:, None])
        return jax.nn.logsumexp(prior + told) + jnp.log(grid[1] - grid[0])

    return jax.vmap(one)(jnp.asarray(index)).mean()


@pytest.mark.parametrize(("update", "left_out"), [("dreg", True), ("iwae", False), ("em", True)])
def test_gradients_are_those_of_the_likelihood(update: str, left_out: bool, double: None) -> None:
    """With many codes the bound is tight: value and mean gradient are the likelihood's own (EM's of the decoder)."""
    model, index = linear(), np.asarray([0, 3])
    truth, wanted = jax.jit(jax.value_and_grad(lambda m: exact(m, index, left_out)))(model)
    loss = Objective(update, "exact", 500, 5, left_out, (0.0, 0.0))
    part = batch_of(model, jnp.asarray(index))

    def one(key: Any) -> Any:
        scored = jax.value_and_grad(lambda m: _paired(loss(m, part, None, key)), has_aux=True)
        (value, (_, info)), gradient = scored(model)
        return -value, info["bound"], jax.tree.map(lambda a: -a, gradient)

    values, bounds, found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 49))
    np.testing.assert_allclose(values, bounds, atol=1e-12)
    assert abs(float(bounds.mean()) - float(truth)) < 4.5 * float(bounds.std()) / 7 + 1e-3
    for net in ("p",) if update == "em" else ("p", "q"):
        pairs = zip(jax.tree.leaves(getattr(found, net)), jax.tree.leaves(getattr(wanted, net)), strict=True)
        for mine, theirs in pairs:
            assert (np.abs(mine.mean(axis=0) - theirs) < 4.5 * mine.std(axis=0) / 7 + 2e-3).all()


def _paired(found: Any) -> Any:
    loss, carry, info = found
    return loss, (carry, info)


def test_em_with_exact_posteriors_never_lowers_the_likelihood(double: None) -> None:
    """Full batches, many codes: each step of the complete-data likelihood raises the mean of log p(x)."""
    model, index = linear(share=1.0), np.arange(5)
    loss, part = Objective("em", "exact", 2000, 5, True, (0.0, 0.0)), batch_of(model, jnp.arange(5))
    truth = jax.jit(lambda m: exact(m, index, True))
    at = [float(truth(model))]
    step = jax.jit(lambda m, key: jax.grad(lambda m: loss(m, part, None, key)[0])(m))
    for number in range(8):
        gradient = step(model, jax.random.key(number))
        # The decoder's half of the M step, whose exact gradient this is in the mean.
        model = replace(model, p=jax.tree.map(lambda a, g: a - 0.05 * g, model.p, gradient.p))
        at.append(float(truth(model)))
    assert (np.diff(at) > 0).all()


def test_rows_learnt_by_heart_are_told_from_rows_that_share_their_components(double: None) -> None:
    """Narrow components far apart: all of a training row's likelihood is its own; wide ones: next to nothing is."""
    data = data_floor.load({"train": ROWS, "valid": ROWS[:1], "test": ROWS[:2]})
    x, model = jnp.asarray(data.rows("train"), float), fixed_noise(linear(share=1.0))

    def made(log_scale: float, by: float) -> GAE:
        head = model.q.head
        leaves = (jnp.zeros((2, 1)), jnp.full(1, log_scale), by * jnp.ones((2, 1)))
        where = lambda h: (h.log_scale.weight, h.log_scale.bias, h.mean.weight)  # noqa: E731
        again = replace(model, q=replace(model.q, head=eqx.tree_at(where, head, leaves)))
        return replace(again, exemplars=exemplars.Exemplars(*exemplars.encoded(again, x)))

    narrow, wide = made(-3.0, 60.0), made(1.0, 0.1)
    by_heart, findings = memorising.look(narrow, data)
    assert by_heart["own_share"].value > 0.99 and findings[0]["level"] == "problem"
    shared, findings = memorising.look(wide, data)
    assert shared["own_share"].value < 0.3 and findings[0]["level"] == "ok"
    # Left out and put back, by the closed form.
    exact = np.mean([log_p(wide, row) - log_p(wide, row, without=i) for i, row in enumerate(np.asarray(x))])
    assert abs(shared["own_component"].value - exact) < 0.1


def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With components that are refreshed now and then; the battery resumes the exact sum."""
    how: dict[str, Any] = {**gae.TINY, "epochs": 1, "prior": "strat", "drawn_rows": 30, "neighbours": 3, "refresh": 7}
    whole = reverie.train("gae", "digits", run=tmp_path / "whole", **how)
    parts = stopped_in_every_stage(monkeypatch, "gae", "digits", tmp_path / "parts", **how)
    assert_same_weights(whole, parts)
    model, rows = whole.model, whole.data.rows("train")
    assert model.exemplars.size == len(rows) == 1297
    # Closed over all rows by the weights that count.
    for kept, now in zip((model.exemplars.means, model.exemplars.log_scales),
                         exemplars.encoded(model, jnp.asarray(rows[:40])), strict=True):  # fmt: skip
        np.testing.assert_allclose(kept[:40], now, atol=1e-5)
    assert float(model.exemplars.log_scales.min()) >= -3.0 and float(model.exemplars.log_scales.max()) <= 2.0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"latent": 0}, "every width must be at least 1"),
        ({"floor": 2.0}, "must be below"),
        ({"own_share": 0.0}, "is no share"),
        ({"mean_penalty": -1.0}, "rewards what it should hold"),
        ({"samples": 0}, "must be positive"),
        ({"batch": 5000}, "more than the 1297 training rows"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=says) as caught:
        reverie.train("gae", "digits", run=tmp_path / "run", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
