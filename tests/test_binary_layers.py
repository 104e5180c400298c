"""Layers that hear their own units, and ways to learn through binary draws: against enumeration and quadrature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.enumeration import (
    Enumerated,
    all_dreams,
    all_tuples,
    bound_gradient,
    expected,
    gradients,
    mean_gradient,
    slope,
    some,
    tables,
    theta,
)
from tests.oracles import assert_kills, assert_same
from tests.stops import stopped_in_every_stage

import reverie
from reverie.errors import ReverieError
from reverie.models.directed import helmholtz
from reverie.models.directed._binary import Forecast, Helmholtz
from reverie.models.directed._conditionals import Chained, Conditional, Shared, conditional
from reverie.nn.blocks import Linear
from reverie.nn.laws import bernoulli_log_prob
from reverie.prob import relaxed_surrogates, surrogates
from reverie.prob.relaxed_surrogates import Concrete, StraightThrough
from reverie.prob.score_surrogates import SCORED, score
from reverie.prob.surrogates import Running, RunningMean

X = np.array([1.0, 0.0, 1.0, 1.0])
KINDS = ("sbn", "darn", "nade")
BASELINES = ("leave-one-out", "running-mean", "input", "none")


@pytest.fixture
def double() -> Iterator[None]:
    """Within: float64, and keys that are keys."""
    with jax.enable_x64(True):
        yield


def layer(kind: Any, width: int = 7, beyond: int = 3, seed: int = 0, scale: float = 1.0) -> Conditional:
    """A layer with every weight drawn; 7 units fill no whole number of chunks."""
    rng = np.random.default_rng(seed)
    made = conditional(kind, jax.random.key(seed), beyond, width)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=scale, size=a.shape)), made)


def states(width: int) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=width)))


def log_law(net: Conditional, y: Any) -> Any:
    """Return log p(h | y) of every h."""
    return jax.jit(jax.vmap(lambda h: bernoulli_log_prob(h, net.logits(h, y)).sum()))(jnp.asarray(states(net.width)))


# The law of a layer


@pytest.mark.parametrize("beyond", [3, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_sums_to_one_and_hears_only_units_before(kind: str, beyond: int) -> None:
    with jax.enable_x64(True):
        net, y = layer(kind, beyond=beyond), jnp.asarray([0.3, 1.0, -2.0][:beyond])
        assert float(jnp.exp(log_law(net, y)).sum()) == pytest.approx(1.0, abs=1e-12)
        h = jnp.asarray(np.random.default_rng(1).random(net.width))
        heard = jax.jacobian(lambda own: net.logits(own, y))(h)
        assert float(jnp.abs(jnp.triu(heard)).max()) == 0.0
        assert (float(jnp.abs(heard).max()) > 0.01) == (kind != "sbn")


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_formulas(kind: str) -> None:
    with jax.enable_x64(True):
        net, y = layer(kind), np.array([0.3, 1.0, -2.0])
        for h in states(7)[::17]:
            np.testing.assert_allclose(net.logits(jnp.asarray(h), jnp.asarray(y)), by_loops(net, h, y), atol=1e-12)


def by_loops(net: Any, h: np.ndarray, y: np.ndarray) -> np.ndarray:
    logits = np.zeros(7)
    for j in range(7):
        if isinstance(net, Shared):
            field = net.fields.bias + y @ net.fields.weight + sum((h[i] * net.heard[i] for i in range(j)), np.zeros(3))
            logits[j] = net.units.bias[j] + y @ net.units.weight[:, j] + net.said[j] @ (1 / (1 + np.exp(-field)))
        else:
            logits[j] = net.net.bias[j] + y @ net.net.weight[:, j]
            logits[j] += sum(net.among[j, i] * h[i] for i in range(j)) if isinstance(net, Chained) else 0.0
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_law_they_are_scored_by(kind: str, double: None) -> None:
    """Chi-square of 20,000 draws at a fixed seed; false alarm: a thousandth.  A triangle turned over is caught."""
    from scipy.stats import chisquare

    net, y = layer(kind, width=5), jnp.asarray([0.3, 1.0, -2.0])
    walks = jax.jit(jax.vmap(lambda key: net.draw(key, y)))(jax.random.split(jax.random.key(0), 20_000))
    places = (np.asarray(walks.h) @ 2 ** np.arange(5)[::-1]).astype(int)
    counts = np.bincount(places, minlength=32)

    def check(scored: Conditional) -> None:
        law = np.exp(np.asarray(log_law(scored, y), float))
        kept = law > 1e-4
        wanted = np.append(law[kept], law[~kept].sum()) / law.sum() * 20_000
        assert chisquare(np.append(counts[kept], counts[~kept].sum())[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3

    check(net)
    again = jax.vmap(lambda h: net.logits(h, y))(walks.h)
    np.testing.assert_allclose(again, walks.logits, atol=1e-5)
    if kind != "sbn":
        assert_kills(check, net, Turned(net))


class Turned(Conditional):
    """Scores units as if each heard those after it."""

    net: Conditional

    @property
    def bias(self) -> Any:
        return self.net.bias

    def logits(self, h: Any, y: Any) -> Any:
        turned = jax.tree.map(lambda a: a[..., ::-1] if a.shape == (5, 5) else a, self.net)
        return turned.logits(h[::-1], y)[::-1]


def test_means_are_exact_where_units_are_apart(double: None) -> None:
    y = jnp.asarray([0.3, 1.0, -2.0])
    net = layer("sbn")
    np.testing.assert_allclose(net.mean(y), jax.nn.sigmoid(net.logits(jnp.zeros(7), y)), atol=1e-6)
    # Of the others: each unit's at the means of those before.
    for kind in ("darn", "nade"):
        net = layer(kind)
        mean = net.mean(y)
        np.testing.assert_allclose(mean, jax.nn.sigmoid(net.logits(mean, y)), atol=1e-5)


@pytest.mark.parametrize("kinds", [(("darn",), ("darn",)), (("nade",), ("nade",)), (("nade", "sbn", "darn"), ("sbn",))])
def test_machines_of_any_layers_sum_to_one_and_learn_without_bias(kinds: Any, enumerated: None) -> None:
    p, q = kinds
    latent = (2, 1) if len(p) == 3 else (2,)
    model = some(latent, p_layers=p, q_layers=q)
    assert float(all_dreams(model)[1].sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(all_tuples(model, X, 1)[1].sum()) == pytest.approx(1.0, abs=1e-12)
    plain, key = Helmholtz(**vars(model)), jax.random.key(3)
    drawn = plain.forward(key, jnp.asarray(X))
    assert float(drawn.log_w) == pytest.approx(float(model.log_p(X, drawn.h) - model.log_q(drawn.h, X)), abs=1e-12)
    assert_same(expected(SCORED["vimco"], model, X, 2), bound_gradient(model, X, 2), 1e-12)


def test_cells_that_hear_each_other_are_said_in_their_order(enumerated: None) -> None:
    model = some((2,), p_layers=("darn", "sbn"), ordering=3)
    order = np.asarray(model.data.order)
    assert sorted(order) == list(range(4)) and list(order) != list(range(4))
    y = jnp.asarray([1.0, 0.0])
    heard = jax.jacobian(lambda x: jax.scipy.special.logit(model.data.mean_of(x, y)))(jnp.full(4, 0.4))
    assert float(jnp.abs(jnp.triu(heard[order][:, order])).max()) < 1e-12 < float(jnp.abs(heard).max())


# The score function and its baselines


def scored(baseline: str, level: float = 0.0) -> Callable[..., Any]:
    return partial(score, baseline=baseline, level=level)


def forecasting(model: Enumerated) -> Enumerated:
    rng = np.random.default_rng(5)
    nets = [Linear(jnp.asarray(rng.normal(size=(m, n))), jnp.asarray(rng.normal(size=n))) for m, n in ((4, 3), (3, 1))]
    return replace(model, forecast=Forecast(*nets))


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_baseline_makes_the_score_function_biased(baseline: str, enumerated: None) -> None:
    model = forecasting(some()) if baseline == "input" else some()

    def elbo(m: Enumerated) -> Any:
        log_p, log_q = tables(m, X)
        return jnp.exp(log_q) @ (log_p - log_q)

    truth = slope(elbo, model)

    def check(surrogate: Callable[..., Any]) -> None:
        found = expected(surrogate, model, X, 2)
        assert_same((theta(found), found.q), (theta(truth), truth.q), 1e-12)

    own = lambda m, keys, x, given, k: _own_baseline(m, keys, x, k)  # noqa: E731
    assert_kills(check, scored(baseline, -3.0 if baseline == "running-mean" else 0.0), own, SCORED["rws"])


def _own_baseline(model: Any, keys: Any, x: Any, k: int) -> Any:
    """Compare each draw with the mean of all, itself among them: that scales the gradient."""
    draws = keys[:k]
    log_p, log_q = (jax.vmap(lambda n, f=f: f(model, n))(draws) for f in (
        lambda m, n: m.log_p(x, m.infer(n, x)), lambda m, n: m.log_q(m.infer(n, x), x)))  # fmt: skip
    w = jax.lax.stop_gradient(log_p - log_q)
    return log_p.mean() + ((w - w.mean()) * log_q).mean(), {}


def test_baselines_take_variance_away_and_the_net_learns_what_the_row_is_worth(enumerated: None) -> None:
    model = forecasting(some(scale=1.5))
    draws, mass = all_tuples(model, X, 2)
    keys, rows = jnp.pad(draws, [(0, 0), (0, 1)]), jnp.broadcast_to(jnp.asarray(X), (len(draws), 4))

    def variance(surrogate: Any) -> float:
        each = gradients(surrogate, model, keys, rows, 2)
        spread = lambda g: mass @ (g**2).reshape(len(mass), -1).sum(1) - (jnp.tensordot(mass, g, 1) ** 2).sum()  # noqa: E731
        return float(sum(spread(g) for g in jax.tree.leaves(each.q)))

    log_p, log_q = tables(model, X)
    elbo = float(jnp.exp(log_q) @ (log_p - log_q))
    none, running, others = (variance(scored(*a)) for a in (("none",), ("running-mean", elbo), ("leave-one-out",)))
    assert others < 0.6 * none and running < 0.6 * none
    found = mean_gradient(scored("input"), model, X, 2, (draws, mass)).forecast
    squared = lambda m: -0.5 * jnp.exp(log_q) @ ((log_p - log_q) - m.baseline(jnp.asarray(X))) ** 2  # noqa: E731
    assert_same(found, slope(squared, model).forecast, 1e-12)


def test_the_running_mean_is_of_the_batches_before_and_kept_in_the_carry(double: None) -> None:
    model = Helmholtz(**vars(some()))
    seen: list[float] = []

    def noted(*args: Any, level: Any, **options: Any) -> Any:
        value, info = score(*args, baseline="running-mean", level=level, **options)
        return value, {**info, "level": level}

    step = surrogates.objective("score", 2, known={"score": Running(noted, decay=0.5)})
    carry, total, weight = RunningMean.start(), 0.0, 0.0
    for i in range(3):
        batch = {"x": jnp.asarray(np.eye(4)), "given": None, "step": jnp.asarray(i)}
        _, carry, info = step(model, batch, carry, jax.random.key(i))
        assert float(info["level"]) == pytest.approx(total / weight if weight else 0.0, rel=1e-5)
        seen.append(float(info["elbo"]))
        total, weight = 0.5 * total + 0.5 * seen[-1], 0.5 * weight + 0.5
    assert float(carry.value()) == pytest.approx((seen[0] / 8 + seen[1] / 4 + seen[2] / 2) / (7 / 8), rel=1e-5)


# Relaxed draws


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_a_concrete_unit_has_the_density_it_is_scored_by(temperature: float) -> None:
    """Against the change of variables of logistic noise, and integrating to one."""
    from scipy.stats import logistic

    with jax.enable_x64(True):
        way, logit = Concrete(temperature), 0.7
        y = np.linspace(-400, 400, 200_001)
        density = np.exp(np.asarray(way.log_prob(jnp.asarray(y), jnp.asarray(logit))))
        assert np.trapezoid(density, y) == pytest.approx(1.0, abs=1e-8)
        noise = temperature * y - logit
        np.testing.assert_allclose(density, temperature * logistic.pdf(noise), atol=1e-12)
        assert float(way.scored(jnp.asarray(logit), jnp.asarray(2.0), jnp.asarray(0.0))) == 2.7 / temperature


@pytest.mark.parametrize("way", [Concrete(0.5), StraightThrough()])
def test_gradients_go_back_through_relaxed_draws(way: Any) -> None:
    """Against the derivative of the value with its noise held fixed; one unit's noise is integrated by quadrature."""
    with jax.enable_x64(True):
        model = Helmholtz(**vars(some((1,))))
        key = jax.random.key(0)
        own = jax.random.split(key, 1)[0]
        noise = jax.random.logistic(own, (1,), jnp.float64)

        def by_hand(m: Any) -> Any:
            a, b = m.q[0].net(jnp.asarray(X)), m.top.bias
            if isinstance(way, Concrete):
                y = (a + noise) / 0.5
                s = jax.nn.sigmoid(y)
                density = lambda l: (np.log(0.5) + l - 0.5 * y - 2 * jnp.log1p(jnp.exp(l - 0.5 * y))).sum()  # noqa: E731, E741
            else:
                hard = (a + noise > 0).astype(float)
                s = jax.nn.sigmoid(a) + jax.lax.stop_gradient(hard - jax.nn.sigmoid(a))
                density = lambda l: (s * l - jnp.log1p(jnp.exp(l))).sum()  # noqa: E731, E741
            logits = m.data.law.logits(s)
            return (X * logits - jnp.log1p(jnp.exp(logits))).sum() + density(b) - density(a)

        of_way = lambda m: m.relaxed(key, jnp.asarray(X), None, way).log_w  # noqa: E731
        value, found = jax.value_and_grad(of_way)(model)
        assert float(value) == pytest.approx(float(by_hand(model)), abs=1e-10)
        assert_same(found, jax.grad(by_hand)(model), 1e-10)
        assert float(jnp.abs(found.q[0].net.weight).max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_straight_through_has_the_binary_bound_as_its_value_and_a_biased_slope(kind: str) -> None:
    with jax.enable_x64(True):
        model = Helmholtz(**vars(some((2,), p_layers=("sbn", kind), q_layers=(kind,))))
        drawn = model.relaxed(jax.random.key(1), jnp.asarray(X), None, StraightThrough())
        h = tuple(one.astype(bool) for one in drawn.h)
        assert all(bool((a == b).all()) for a, b in zip(drawn.h, h, strict=True))
        wanted = model.log_p(jnp.asarray(X), h) - model.log_q(h, jnp.asarray(X))
        assert float(drawn.log_w) == pytest.approx(float(wanted), abs=1e-12)


def test_straight_through_is_biased_and_a_cold_concrete_less_so_than_a_warm_one() -> None:
    """One unit, its noise integrated by quadrature: the exact gradient of the bound is a sum of two terms."""
    with jax.enable_x64(True):
        model = some((1,), scale=1.0, seed=2)
        truth = slope(lambda m: jnp.exp(tables(m, X)[1]) @ (tables(m, X)[0] - tables(m, X)[1]), model).q
        nodes = np.linspace(0.0005, 0.9995, 1000)
        noise = jnp.asarray(np.log(nodes / (1 - nodes)))

        def bias(way: Any) -> float:
            def value(m: Any, own: Any) -> Any:
                walk = m.q[0].walk(own[None], jnp.asarray(X), way.decide)
                at = way.scored(walk.logits, own[None], walk.h)
                prior = way.log_prob(at, m.top.bias).sum() - way.log_prob(at, walk.logits).sum()
                return m.data.log_prob(jnp.asarray(X), walk.h) + prior

            found = jax.grad(lambda m: jax.vmap(partial(value, m))(noise).mean())(model).q
            gap = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), found, truth)
            return float(np.sqrt(sum(jax.tree.leaves(gap))))

        warm, cold = bias(Concrete(1.0)), bias(Concrete(0.1))
        assert bias(StraightThrough()) > 0.01 and cold < 0.5 * warm and warm > 0.01


def test_what_relaxed_surrogates_cannot_weigh_is_refused(enumerated: None) -> None:
    model, keys = Helmholtz(**vars(some())), jax.random.split(jax.random.key(0), 3)
    for name, surrogate in relaxed_surrogates.RELAXED.items():
        value, info = surrogate(model, keys, jnp.asarray(X), None, 3)
        assert np.isfinite(float(value))
        assert set(info) == ({"relaxed_bound"} if name == "concrete" else {"bound", "elbo"})
        with pytest.raises(ReverieError, match=r"beta: .*no KL term"):
            surrogate(model, keys, jnp.asarray(X), None, 3, 0.5)
        with pytest.raises(ReverieError, match="penalty"):
            surrogate(model, keys, jnp.asarray(X), None, 3, 1.0, lambda trace: jnp.zeros(()))


# A run


@pytest.mark.parametrize(
    "how",
    [
        {"surrogate": "score", "baseline": "running-mean", "p_layers": ("darn",)},
        {"surrogate": "concrete", "temperature": 0.7, "p_layers": ("nade",), "q_layers": ("nade",)},
    ],
)
def test_every_way_learns_and_a_stopped_run_goes_on_bit_for_bit(
    how: dict, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent columns have -25.3 nats."""
    tiny = {**helmholtz.TINY, **how, "latent": (16,), "epochs": 8, "k": 2, "valid_samples": 20}
    whole = reverie.train("helmholtz", "digits", run=tmp_path / "whole", **tiny)
    cut = stopped_in_every_stage(monkeypatch, "helmholtz", "digits", tmp_path / "cut", **tiny)
    assert_same(jax.tree.leaves(cut.model), jax.tree.leaves(whole.model), 0.0)
    valid = [line["valid"]["value"] for line in whole.journal() if "valid" in line]
    assert max(valid) > valid[0] + 0.3
    x = whole.data.restore(whole.data.rows("test"))[:5]
    for number in (whole.encode(x), whole.sample(3), whole.impute(x, "half", iterations=2), whole.score(x).values):
        assert np.isfinite(number).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"p_layers": ("sbn", "nade")}, "p-layers: sbn,nade for 3 laws"),
        ({"q_layers": ()}, "q-layers: none for 2 laws"),
        ({"p_layers": ("perceptron",)}, "p_layers: 'perceptron' is not one of sbn, darn, nade"),
        ({"baseline": "none"}, "baseline: rws has no such choice"),
        ({"surrogate": "score", "k": 1}, "k: score compares a row's samples"),
        ({"surrogate": "concrete", "temperature": 0.0}, "temperature"),
        ({"surrogate": "vimco", "temperature": 2.0}, "temperature: vimco has no"),
    ],
)
def test_what_makes_no_sense_is_refused(more: dict, words: str, tmp_path: Any) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        reverie.train("helmholtz", np.eye(50, 4), run=tmp_path / "run", latent=(3, 2), batch=10, **more)
    assert "\n" not in str(caught.value)


def test_cells_that_hear_each_other_must_be_binary_and_whole(tmp_path: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ReverieError, match="a nade layer of cells needs binary"):
        reverie.train("helmholtz", rows, run=tmp_path / "run", latent=(3,), p_layers=("nade",), batch=10)
