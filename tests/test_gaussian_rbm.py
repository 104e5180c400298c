"""Gaussian-Bernoulli machines whose hidden states are counted and rows integrated: laws, gradients, samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, norm
from tests.oracles import assert_kills

import reverie
from reverie import data as data_floor
from reverie import models
from reverie.errors import ReverieError
from reverie.evaluate import energy
from reverie.models.undirected import _chains, _langevin
from reverie.models.undirected import _learning as learning
from reverie.models.undirected import _pretrain as layerwise
from reverie.models.undirected._langevin import Langevin
from reverie.models.undirected._pretrain import Pretrain
from reverie.models.undirected.dbm import DBM
from reverie.models.undirected.gaussian_rbm import GaussianRBM
from reverie.nn.units import Gaussian
from reverie.prob import partition
from reverie.train.recipe import Brief

#: Sums of squares beyond this come once in 10,000 seeds.
RARE = 1e-4


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


exactly = pytest.mark.usefixtures("double")


def machine(widths: tuple[int, ...], seed: int = 0, kind: Any = GaussianRBM, least: float = 0.05) -> Any:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    weights = tuple(draw(*pair) for pair in pairwise(widths))
    visible = Gaussian(0.5 * draw(widths[0]) - 0.5, least=least)
    return kind(weights, tuple(0.7 * draw(n) for n in widths), visible, draw(widths[0]))


def bits(n: int) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=n)))


def grid(width: int, points: int, end: float = 9.0) -> tuple[np.ndarray, float]:
    """Points of a grid (n, width), and the volume of each."""
    axis = np.linspace(-end, end, points)
    return np.stack(np.meshgrid(*[axis] * width), axis=-1).reshape(-1, width), float((axis[1] - axis[0]) ** width)


def minus_energy(model: Any, v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """-E(v, h) of the page, the code's constant added, by NumPy."""
    mu, c = (np.asarray(b) for b in model.biases)
    s2, w = np.exp(np.asarray(model.visible.log_variance)) + model.visible.least, np.asarray(model.weights[0])
    return (-((v - mu) ** 2) / (2 * s2) + mu**2 / (2 * s2)).sum(-1) + ((v / s2) @ w * h).sum(-1) + h @ c


def mixture(model: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares, means and standard deviations of the mixture that the machine is."""
    every = bits(model.biases[1].size)
    mu, s2 = np.asarray(model.biases[0]), np.asarray(model.visible.variance)
    means = mu + every @ np.asarray(model.weights[0]).T
    log_p = every @ np.asarray(model.biases[1]) + (means**2 / (2 * s2)).sum(axis=1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    return p, means, np.sqrt(s2)


def exact(model: Any, n: int, seed: int) -> tuple[Any, Any]:
    """Draws of (v, h) by way of the mixture."""
    rng = np.random.default_rng(seed)
    p, means, s = mixture(model)
    k = rng.choice(len(p), n, p=p)
    return jnp.asarray(means[k] + s * rng.normal(size=(n, len(s)))), jnp.asarray(bits(model.biases[1].size)[k])


# Laws


@exactly
@pytest.mark.parametrize(("width", "points"), [(1, 4001), (2, 301)])
def test_log_z_by_counting_is_quadrature_and_rows_integrate_to_one(width: int, points: int) -> None:
    model = machine((width, 3), seed=1)
    v, volume = grid(width, points, 14.0)
    states = bits(3)
    joint = np.stack([minus_energy(model, v, np.broadcast_to(h, (len(v), 3))) for h in states], axis=1)
    truth = np.logaddexp.reduce(joint.ravel()) + np.log(volume)

    def check(found: Callable[[Any], float]) -> None:
        assert found(model) == pytest.approx(truth, abs=1e-6)

    other = lambda m: partition.enumerated(replace(m, visible=replace(m.visible, least=0.0)))  # noqa: E731
    half = lambda m: partition.enumerated(m) - 0.5 * float(jnp.log(m.visible.variance).sum())  # noqa: E731
    assert_kills(check, partition.enumerated, other, half)
    free = np.asarray(jax.vmap(model.log_unnormalised)(jnp.asarray(v)))
    np.testing.assert_allclose(free, np.logaddexp.reduce(joint, axis=1), atol=1e-9)
    assert np.exp(free - partition.enumerated(model)).sum() * volume == pytest.approx(1, abs=1e-6)
    # Conditionals, by summing the joint.
    p = np.exp(joint - joint.max())
    on = jax.vmap(lambda x: model.means(model.odd, {0: x})[1])(jnp.asarray(v[:: points // 5]))
    np.testing.assert_allclose(on, ((p / p.sum(axis=1, keepdims=True)) @ states)[:: points // 5], atol=1e-9)
    for i, h in enumerate(states):
        share = p[:, i] / p[:, i].sum()
        np.testing.assert_allclose(model.mean((jnp.asarray(h),)), share @ v, atol=1e-6)
        np.testing.assert_allclose(model.visible.variance, share @ v**2 - (share @ v) ** 2, atol=1e-5)


@exactly
def test_annealing_brackets_what_is_counted() -> None:
    model = machine((2, 5), seed=2)
    rows = np.asarray(exact(model, 60, 0)[0], np.float32)
    found = energy.annealed_energy(model, rows, exact=False, temperatures=300, most=300)
    truth = partition.enumerated(model)
    assert float(found.info["low"][0]) - 0.1 < truth < float(found.info["high"][0]) + 0.1
    assert energy.annealed_energy(model, rows).kind == "exact"


# Gradients


@exactly
def test_the_gradient_is_that_of_the_energy_in_every_parameter() -> None:
    model = machine((3, 2), seed=3)
    v, h = jnp.asarray([0.3, -1.2, 2.0]), jnp.asarray([1.0, 0.3])
    zero = {0: jnp.zeros((1, 3)), 1: jnp.zeros((1, 2))}
    found = learning.average_gradient(model, {0: v[None], 1: h[None]}, zero, (v, h), False)
    truth = jax.grad(lambda m: -m.energy({0: v, 1: h}))(model)
    s2 = model.visible.variance
    np.testing.assert_allclose(found.weights[0], s2[:, None] * truth.weights[0], atol=1e-12)
    np.testing.assert_allclose(found.biases[1], truth.biases[1], atol=1e-12)
    np.testing.assert_allclose(found.biases[0], s2 * truth.biases[0], atol=1e-12)
    np.testing.assert_allclose(found.visible.log_variance, truth.visible.log_variance, atol=1e-12)
    assert float(jnp.abs(truth.visible.log_variance).min()) > 0.01


@exactly
@pytest.mark.parametrize("centred", [False, True])
def test_the_gradient_from_exact_draws_is_that_of_the_log_likelihood(centred: bool) -> None:
    """Within 4.5 standard errors everywhere; centred, it is the same after its own change of parameters."""
    model, n = machine((2, 3), seed=4), 60_000
    rows, _ = exact(machine((2, 3), seed=5), 50, 1)

    def log_likelihood(m: Any) -> Any:
        log_z = jax.nn.logsumexp(jax.vmap(lambda h: m.log_marginal((h,)))(jnp.asarray(bits(3))))
        return jax.vmap(m.log_unnormalised)(rows).mean() - log_z

    truth, s2 = jax.grad(log_likelihood)(model), np.asarray(model.visible.variance)
    data = {0: rows, **jax.vmap(lambda x: model.means(model.odd, {0: x}))(rows)}
    v, _ = exact(model, n, 6)
    chains = {0: v, **jax.vmap(lambda x: model.means(model.odd, {0: x}))(v)}
    centre, lam = np.asarray(rows.mean(axis=0)), np.full(3, 0.5)
    at = (centre / s2, lam) if centred else (np.zeros(2), np.zeros(3))
    gw, gb, gc = (np.asarray(g) for g in (truth.weights[0], truth.biases[0], truth.biases[1]))
    gw = s2[:, None] * (gw - np.outer(gb, at[1]) - np.outer(at[0], gc))
    wanted = {"w": gw, "b": s2 * gb - gw @ at[1], "c": gc - gw.T @ at[0], "z": truth.visible.log_variance}

    def check(sign: float) -> None:
        up = learning.average_gradient(model, data, chains, (jnp.asarray(centre), jnp.asarray(lam)), centred)
        found = {"w": up.weights[0], "b": up.biases[0], "c": up.biases[1], "z": up.visible.log_variance}
        for name, value in found.items():
            np.testing.assert_allclose(np.asarray(value), sign * wanted[name], atol=0.08)

    assert_kills(check, 1.0, -1.0)


# Samplers


def moments(v: Any, h: Any) -> np.ndarray:
    return np.concatenate([v, h, v**2, v[:, :1] * h], axis=1)


def assert_same_law(before: tuple[Any, Any], after: tuple[Any, Any]) -> None:
    """Two samples' moments of {v, h, v^2, v h}: |z| < 4.5 each."""
    a, b = moments(*map(np.asarray, before)), moments(*map(np.asarray, after))
    z = (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert np.abs(z).max() < 4.5, z


@exactly
def test_gibbs_and_adjusted_langevin_keep_the_joint_law_and_a_large_free_step_does_not() -> None:
    model, n = machine((2, 3), seed=7), 40_000
    (v, h), fresh = exact(model, n, 1), exact(model, n, 2)
    keys, others = (jax.random.split(jax.random.key(i), n) for i in (0, 9))
    layers, (states,) = _chains.negative(model, jax.random.key(1), (h,), 1)
    assert_same_law(fresh, (layers[0], states))

    def check(adjusted: bool) -> None:
        for given in (h, None):
            move = lambda k, x, y: _langevin.step(model, k, x, y, 0.9, adjusted=adjusted)  # noqa: E731
            new = jax.vmap(move, in_axes=(0, 0, None if given is None else 0))(keys, v, given)
            on = h if given is not None else jax.vmap(lambda k, x: model.draw(k, model.odd, {0: x})[1])(others, new)
            assert_same_law(fresh, (new, on))

    assert_kills(check, True, False)


@exactly
@pytest.mark.parametrize("marginal", [False, True])
def test_one_whole_gibbs_langevin_sweep_keeps_every_joint_moment(marginal: bool) -> None:
    """Geweke (2004): exact joint draws against a row that one sweep has moved and its h drawn: 15 moments, |z| < 4.5.

    The sweep of another machine is noticed, and one that corrects no step.
    """
    model, n = machine((2, 3), seed=11), 10_000
    v, h = exact(model, n, 21)
    start, _ = exact(model, n, 22)

    def of(rows: Any, on: Any) -> np.ndarray:
        v, h = np.asarray(rows), np.asarray(on)
        products = (v[:, :, None] * h[:, None, :]).reshape(len(v), -1)
        return np.concatenate([v, h, v**2, products, v[:, :1] * v[:, 1:], minus_energy(model, v, h)[:, None]], axis=1)

    truth = of(v, h)

    @partial(jax.jit, static_argnums=2)
    def swept(law: GaussianRBM, rows: Any, adjusted: int) -> tuple[Any, Any]:
        how = Langevin(steps=3, size=0.9, adjusted=adjusted, marginal=marginal)
        rows = _langevin.walked(law, jax.random.key(0), rows, 1, how)
        keys = jax.random.split(jax.random.key(9), n)
        return rows, jax.vmap(lambda k, x: law.draw(k, law.odd, {0: x})[1])(keys, rows)

    def check(law: GaussianRBM, adjusted: int) -> None:
        found = of(*swept(law, start, adjusted))
        z = (truth.mean(0) - found.mean(0)) / np.sqrt(truth.var(0) / n + found.var(0) / n)
        assert truth.shape[1] == 15 and np.abs(z).max() < 4.5, z

    check(model, 1)
    other = replace(model, weights=(0.8 * model.weights[0],))
    # Walks with h summed out share the correction; they need not be compiled once more without it.
    for law, adjusted in ((other, 1), *([] if marginal else [(model, 0)])):
        with pytest.raises(AssertionError):
            check(law, adjusted)


@exactly
def test_adjusted_langevin_leaves_the_histogram_of_a_column_and_a_wrong_ratio_does_not() -> None:
    """Chi-square over 20 cells of equal probability; false once in 10,000."""
    model, n = machine((1, 2), seed=8), 20_000
    p, means, s = mixture(model)
    cdf = lambda x: (p * norm.cdf((x[:, None] - means[:, 0]) / s[0])).sum(axis=1)  # noqa: E731
    v, _ = exact(model, n, 3)

    def check(adjusted: bool) -> None:
        keys = jax.random.split(jax.random.key(5), 10)
        new = v
        for key in keys:
            move = lambda k, x: _langevin.step(model, k, x, None, 1.2, adjusted=adjusted)  # noqa: E731
            new = jax.vmap(move)(jax.random.split(key, n), new)
        counts = np.bincount((20 * cdf(np.asarray(new)[:, 0])).astype(int).clip(0, 19), minlength=20)
        assert ((counts - n / 20) ** 2 / (n / 20)).sum() < chi2.ppf(1 - RARE, 19)

    assert_kills(check, True, False)


@exactly
def test_chains_from_noise_arrive_and_persistent_ones_go_on() -> None:
    """The mean of v over 2,000 chains from N(0, 1), whose modes are at hand: within 0.15 of the law's own."""
    model = machine((2, 3), seed=9)
    p, means, _ = mixture(model)
    for persistent in (False, True):
        how = learning.Learning("langevin", chains=2000, langevin=Langevin(5, 0.3, 10, persistent=persistent))
        kept = _chains.starting(how, model, jax.random.key(0))
        assert kept.states[0].shape == (2000 if persistent else 0, 2)
        layers, kept = _chains.negative_phase(how, model, jax.random.key(1), (), kept, 40, jnp.int32(0))
        np.testing.assert_allclose(layers[0].mean(axis=0), p @ means, atol=0.15)
        assert not persistent or (np.asarray(kept.states[0]) == np.asarray(layers[0])).all()


# Real-valued deep machines


@exactly
def test_the_mean_field_bound_of_real_rows_is_below_the_truth() -> None:
    model = machine((2, 3, 2), seed=10, kind=DBM)
    flat = machine((2, 3), seed=10)
    flat = replace(flat, weights=model.weights[:1], biases=model.biases[:2], visible=model.visible)
    second = bits(2) @ np.asarray(model.biases[2])
    for v in np.random.default_rng(0).normal(size=(5, 2)):
        joint = [minus_energy(flat, v, h1) + h1 @ np.asarray(model.weights[1]) @ h2 + own
                 for h1 in bits(3) for h2, own in zip(bits(2), second, strict=True)]  # fmt: skip
        truth = np.logaddexp.reduce(joint)
        assert float(model.log_counted(jnp.asarray(v))) == pytest.approx(truth, abs=1e-9)
        assert truth - 1.0 < float(model.log_bound(jnp.asarray(v))) <= truth + 1e-9
    rows, volume = grid(2, 161, 12.0)
    total = np.logaddexp.reduce(np.asarray(jax.vmap(model.log_counted)(jnp.asarray(rows)))) + np.log(volume)
    assert partition.enumerated(model) == pytest.approx(total, abs=1e-4)


@exactly
def test_the_first_layers_own_gradient_goes_with_the_columns_units() -> None:
    """Rows, weights and biases in other units: their steps are in those units too, so that one rate serves all."""
    model = machine((3, 4, 2), seed=12, kind=DBM, least=0.0)
    s = np.sqrt(np.asarray(model.visible.variance))
    model = replace(model, weights=(0.3 * s[:, None] * model.weights[0], model.weights[1]))
    plain = replace(
        model, visible=Gaussian(jnp.zeros(3)), weights=(model.weights[0] / s[:, None], model.weights[1]),
        biases=(model.biases[0] / s, *model.biases[1:]),
    )  # fmt: skip
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)))
    found = layerwise._layer_gradients(Pretrain(1, decay=0.0), 1, 5.0)
    batch = lambda x: {"x": x, "step": jnp.int32(0)}  # noqa: E731
    here, there = (found(m, batch(x), (), jax.random.key(3))[0] for m, x in ((model, rows * s), (plain, rows)))
    assert np.abs(np.asarray(there.weights[0])).min() > 1e-4
    np.testing.assert_allclose(here.weights[0], s[:, None] * there.weights[0], rtol=1e-6)
    np.testing.assert_allclose(here.biases[0], s * there.biases[0], rtol=1e-6)
    np.testing.assert_allclose(here.biases[1], there.biases[1], rtol=1e-6)
    # Variances are learnt too, by the slope of the rows less that of the chains; it has no units.
    slope = np.asarray(here.visible.log_variance)
    np.testing.assert_allclose(slope, there.visible.log_variance, rtol=1e-6)
    assert np.abs(slope).min() > 1e-4


# People's data


def factors(n: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (n, 2)) @ np.array([[4.0, 0, 9, 0], [0, 30.0, 9, 0]]) + rng.normal(size=(n, 4))
    return np.concatenate([x, np.full((n, 1), 7.0)], axis=1)


@pytest.mark.parametrize("name", ["gaussian-rbm", "dbm"])
def test_a_table_with_a_column_that_never_changes(name: str, tmp_path: Path) -> None:
    x = factors()
    shallow = name == "gaussian-rbm"
    more: dict[str, Any] = {"hidden": 6, "epochs": 60} if shallow else {"hidden": (6, 3), "epochs": 2}
    run = reverie.train(name, x, run=tmp_path / "run", batch=50, **more)
    values = run.score(x[:50]).values
    assert np.isfinite(values).all()
    drawn = run.sample(200)
    assert (drawn[:, 4] == 7.0).all()
    np.testing.assert_allclose(drawn[:, :4].mean(axis=0), x[:, :4].mean(axis=0), atol=0.5 * x[:, :4].std(axis=0).max())
    assert run.encode(x[:3]).shape == (3, 6 if shallow else 9)
    mask = np.ones((20, 5), bool)
    mask[:, 2] = False
    filled = run.impute(x[:20], mask, iterations=50)
    np.testing.assert_allclose(filled[mask].reshape(20, 4), x[:20][:, [0, 1, 3, 4]], rtol=1e-4)
    # The third column is told by the others, 9 for each factor that is on; 20 steps teach a deep machine nothing.
    assert np.isfinite(filled).all()
    assert not shallow or np.abs(filled[:, 2] - x[:20, 2]).mean() < 0.7 * np.abs(x[:20, 2] - x[:, 2].mean()).mean()


def test_what_cannot_be_learnt_is_refused_in_one_line() -> None:
    binary, real = data_floor.load(bits(6)), data_floor.load(factors(), likelihood="gaussian")
    holed = factors()
    holed[0, 0] = np.nan
    recipe = models.load_module("gaussian-rbm").recipe
    brief = lambda data: Brief(data, jax.random.key(0), 1.0)  # noqa: E731
    for data, more, words in (
        (binary, {}, "likelihood gaussian"),
        (data_floor.load(holed, likelihood="gaussian"), {}, "missing cells"),
        (real, {"least_variance": 0.0}, "least_variance"),
        (real, {"langevin": Langevin(size=2.5)}, "langevin.size"),
    ):
        with pytest.raises(ReverieError, match=words) as caught:
            recipe(brief(data), **more)
        assert "\n" not in str(caught.value)
    with pytest.raises(ReverieError, match="multi-prediction"):
        models.load_module("dbm").recipe(brief(real), learn="multi-prediction")


def test_variances_are_learnt_or_stay() -> None:
    real = data_floor.load(factors(), likelihood="gaussian")
    module = models.load_module("gaussian-rbm")
    free, how = module.recipe(Brief(real, jax.random.key(0), 1.0))
    still, fixed = module.recipe(Brief(real, jax.random.key(0), 1.0), learn_variance=False)
    assert how.players[0].moves("visible.log_variance") and not fixed.players[0].moves("visible.log_variance")
    assert fixed.players[0].moves("weights.0") and not fixed.players[0].moves("base")
    np.testing.assert_array_equal(still.visible.variance, 1.0)
    np.testing.assert_allclose(free.visible.variance[:4], 1.0, atol=0.05)
