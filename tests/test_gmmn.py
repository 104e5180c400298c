"""Moment matching: the discrepancy's estimators against loops and closed forms, and the networks that learn by it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tests.games import engine, pixels
from tests.oracles import assert_kills

import reverie
from reverie import settings
from reverie.arrays import named_leaves
from reverie.errors import ReverieError
from reverie.evaluate.mmd import kernel, median_width, mmd2, squared_distances
from reverie.models.implicit import _codes as codes
from reverie.models.implicit import gmmn
from reverie.models.implicit._codes import Coder
from reverie.train.engine import moved
from reverie.train.recipe import Brief
from reverie.training import stages_of

WIDTHS = (0.5, 3.0)


def k(a: np.ndarray, b: np.ndarray, widths: tuple[float, ...] = WIDTHS) -> float:
    return float(sum(np.exp(-((a - b) ** 2).sum() / (2 * s)) for s in widths))


def loops(x: np.ndarray, y: np.ndarray, estimator: str, same: Any = lambda i, j: 1.0) -> float:
    """The definition, pair by pair; `same` weighs a pair of draws numbered through both samples."""
    n, m = len(x), len(y)
    xs, ys = [(i, x[i]) for i in range(n)], [(n + j, y[j]) for j in range(m)]
    if estimator == "linear":
        h = lambda a, b: same(a[0], b[0]) * k(a[1], b[1])  # noqa: E731
        pairs = [(xs[i], xs[i + 1], ys[i], ys[i + 1]) for i in range(0, n - 1, 2)]
        return float(np.mean([h(a, b) + h(c, d) - h(a, d) - h(b, c) for a, b, c, d in pairs]))

    def within(rows: list) -> float:
        kept = [(a, b) for a, b in product(rows, rows) if estimator == "biased" or a[0] != b[0]]
        return sum(same(a[0], b[0]) * k(a[1], b[1]) for a, b in kept) / len(kept)

    cross = sum(same(a[0], b[0]) * k(a[1], b[1]) for a, b in product(xs, ys)) / (n * m)
    return within(xs) - 2 * cross + within(ys)


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_the_discrepancy_is_the_double_loop(estimator: Any) -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(7, 3)), rng.normal(0.5, 2.0, size=(7 if estimator == "linear" else 5, 3))
        wanted = loops(x, y, estimator)

        def check(widths: tuple[float, ...]) -> None:
            assert abs(float(mmd2(jnp.asarray(x), jnp.asarray(y), widths, estimator)) - wanted) < 1e-10

        # Widths are squared lengths, not lengths: exp(-d^2 / (2 s^2)) is another kernel.
        assert_kills(check, WIDTHS, tuple(s**2 for s in WIDTHS), WIDTHS[:1])


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_draws_of_other_classes_do_not_meet(estimator: Any) -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(8, 2)), rng.normal(0.3, size=(8, 2))
        numbers = rng.integers(0, 3, 16)
        given = jax.nn.one_hot(jnp.asarray(numbers), 3, dtype=jnp.float64)
        found = mmd2(jnp.asarray(x), jnp.asarray(y), WIDTHS, estimator, (given[:8], given[8:]))
        wanted = loops(x, y, estimator, lambda i, j: float(numbers[i] == numbers[j]))
        assert abs(float(found) - wanted) < 1e-10 and abs(wanted - loops(x, y, estimator)) > 1e-3


def test_a_sample_is_at_no_distance_from_itself() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)))
        assert abs(float(mmd2(x, x, WIDTHS, "biased"))) < 1e-12
        assert float(mmd2(x, x, WIDTHS, "unbiased")) < -1e-3  # below zero by what the diagonal adds


def expected(gap: float, variance: float) -> float:
    """E k of a difference that is N(gap, variance): of one width s, sqrt(s/(s+v)) exp(-gap^2/(2(s+v)))."""
    return float(sum(np.sqrt(s / (s + variance)) * np.exp(-(gap**2) / (2 * (s + variance))) for s in WIDTHS))


@pytest.mark.parametrize(("gap", "w"), [(0.0, 1.0), (0.7, 1.0), (0.0, 2.5)])
def test_two_normal_laws_are_as_far_apart_as_the_closed_form_says(gap: float, w: float) -> None:
    """Estimates over 400 pairs of 40 draws of N(0, 1) and N(gap, w); |z| < 4.5.  Of equal laws unbiased ones mean 0."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(400, 40, 1)), rng.normal(gap, np.sqrt(w), size=(400, 40, 1))
    wanted = expected(0, 2.0) - 2 * expected(gap, 1.0 + w) + expected(0, 2 * w)
    assert (wanted == 0) == (gap == 0 and w == 1)
    # Pairs of a draw with itself add (K - E k)/n of each law to the biased one.
    bias = (2 * len(WIDTHS) - expected(0, 2.0) - expected(0, 2 * w)) / 40
    for estimator, mean in (("unbiased", wanted), ("linear", wanted), ("biased", wanted + bias)):
        found = np.asarray(jax.vmap(lambda a, b, e=estimator: mmd2(a, b, WIDTHS, e))(x, y), np.float64)
        assert abs(found.mean() - mean) < 4.5 * found.std() / 20
        assert (found.min() >= 0) == (estimator == "biased")


def test_the_gradient_is_that_of_finite_differences() -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        x, y = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.normal(size=(4, 3)))
        for estimator in ("biased", "unbiased"):
            value = lambda moved, e=estimator: mmd2(x, moved, WIDTHS, e)  # noqa: E731
            slope = np.asarray(jax.grad(value)(y))
            for i, j in product(range(4), range(3)):
                step = jnp.zeros((4, 3)).at[i, j].set(1e-6)
                wanted = float(value(y + step) - value(y - step)) / 2e-6
                assert abs(slope[i, j] - wanted) < 1e-8


def test_the_usual_width_is_half_the_median_square() -> None:
    x, y = jnp.asarray([[0.0], [1.0]]), jnp.asarray([[3.0]])
    assert float(median_width(x, y)) == 2.0  # squares 1, 4, 9
    np.testing.assert_allclose(squared_distances(x, y), [[9.0], [4.0]], rtol=1e-6)
    np.testing.assert_allclose(kernel(jnp.asarray([4.0]), (2.0, 1.0)), np.exp(-1) + np.exp(-2), rtol=1e-6)


def test_wrong_samples_get_one_clear_line() -> None:
    one, two = jnp.zeros((1, 2)), jnp.zeros((2, 2))
    with pytest.raises(ReverieError, match="2 or more"):
        mmd2(one, two)
    with pytest.raises(ReverieError, match="as many of both"):
        mmd2(two, jnp.zeros((3, 2)), estimator="linear")
    with pytest.raises(ReverieError, match="biased, unbiased, linear"):
        mmd2(two, two, estimator="cubic")  # type: ignore[arg-type]


SMALL: dict[str, Any] = {"latent": 3, "hidden": (5,), "batch": 20, "code": (), "average": 0.9}


def model_of(data: Any, **more: Any) -> Any:
    return gmmn.recipe(Brief(data, jax.random.key(0), 1.0), **{**SMALL, **more})[0]


def test_the_root_has_a_slope_at_zero() -> None:
    with jax.enable_x64(True):
        assert float(jax.grad(gmmn.root)(jnp.asarray(0.0))) == 1e10
        assert (
            abs(float(jax.grad(gmmn.root)(jnp.asarray(4.0))) - 0.25) < 1e-9
            and float(gmmn.root(jnp.asarray(-1e-9))) == 0.0
        )


def test_the_objective_is_the_root_of_the_discrepancy_of_rows_and_draws() -> None:
    data = pixels(classes=3)
    rows, given = data.rows("train")[:20], np.eye(3, dtype=np.float32)[data.labels("train")[:20]]
    model, key = model_of(data, conditional=True), jax.random.key(3)
    batch = {"x": jnp.asarray(rows), "given": jnp.asarray(given)}
    z = model.latents(key, 20, batch["given"])
    drawn = np.asarray(model.generator(jnp.concatenate([z, given], axis=1)), np.float64)
    assert np.abs(np.asarray(z)).max() <= 1.0
    same = lambda i, j: float(np.argmax(given[i % 20]) == np.argmax(given[j % 20]))  # noqa: E731
    pairs = rows[:, None].astype(float) - rows
    scale = {False: 1.0, True: float((pairs**2).sum(2).mean())}
    for relative in (False, True):
        widths = tuple(scale[relative] * s for s in WIDTHS)
        total = 0.0
        for a, b, sign in ((rows, rows, 1), (rows, drawn, -2), (drawn, drawn, 1)):
            total += sign * np.mean([same(i, j) * k(a[i], b[j], widths) for i, j in product(range(20), range(20))])
        found = gmmn.matching(WIDTHS, relative)(model, batch, None, key)
        np.testing.assert_allclose(found[2]["mmd2"], total, atol=1e-6)
        np.testing.assert_allclose(found[0], np.sqrt(total), rtol=1e-4)


def test_each_stage_moves_what_is_its_own() -> None:
    how = {**SMALL, "code": (5, 2), "autoencoder": {"greedy": 1.0, "epochs": 2.0, "dropout": (0.2, 0.5), "batch": 20}}
    data = pixels()
    model, recipe = gmmn.recipe(Brief(data, jax.random.key(0), 3.0), **settings.bind(gmmn.recipe, how))
    stages = stages_of(model, recipe, data)
    moves = [moved(stage.players[0], model) for stage in stages]
    names = [name for name, _ in named_leaves(model)]
    moving = [{n for n, yes in zip(names, jax.tree.leaves(mask), strict=True) if yes} for mask in moves]
    layer = lambda i: {f"coder.{way}.{i}.{part}" for way in ("up", "down") for part in ("weight", "bias")}  # noqa: E731
    assert moving[:3] == [layer(0), layer(1), layer(0) | layer(1)]
    assert {name.split(".")[0] for name in moving[3]} == {"generator"}
    assert [stage.name for stage in stages] == ["layer 1", "layer 2", "autoencoder", ""]


def test_the_coder_is_sigmoids_up_and_down() -> None:
    coder = Coder.init(jax.random.key(0), (4, 3, 2), False, np.full(4, 0.25))
    sigma = lambda a: 1 / (1 + np.exp(-np.asarray(a, np.float64)))  # noqa: E731
    x = np.random.default_rng(0).uniform(size=4).astype(np.float32)
    code = sigma(sigma(x @ coder.up[0].weight) @ np.asarray(coder.up[1].weight))
    back = sigma(sigma(code @ coder.down[1].weight) @ np.asarray(coder.down[0].weight) + np.log(0.25 / 0.75))
    np.testing.assert_allclose(coder.encode(jnp.asarray(x)), code, rtol=1e-4)
    np.testing.assert_allclose(coder.decode(coder.encode(jnp.asarray(x))), back, rtol=1e-4)
    # A layer alone: through it and back, the ones below standing still.
    batch = {"x": jnp.asarray(x[None])}
    holder = model_of(pixels(width=4), code=(3, 2))
    holder = eqx.tree_at(lambda m: m.coder, holder, coder)
    loss = codes.reconstructing(1, 2, (0.0, 0.0))(holder, batch, None, jax.random.key(0))[0]
    a = sigma(x @ coder.up[0].weight)
    p = sigma(sigma(a @ coder.up[1].weight) @ np.asarray(coder.down[1].weight))
    np.testing.assert_allclose(loss, -(a * np.log(p) + (1 - a) * np.log(1 - p)).sum(), rtol=1e-4)


def test_draws_are_decoded_codes() -> None:
    data = pixels()
    model, e = model_of(data, code=(5, 2)), jnp.asarray([0.3, -1.0, 2.0])
    u = 2 * scipy.stats.norm.cdf(np.asarray(e)) - 1
    code = model.generator(jnp.asarray(u, jnp.float32))
    assert code.shape == (2,) and model.mean(e).shape == (6,)
    np.testing.assert_allclose(model.mean(e), model.coder.decode(code), rtol=1e-4)
    plain = model_of(data)
    np.testing.assert_allclose(plain.mean(e), plain.generator(jnp.asarray(u, jnp.float32)), rtol=1e-4)


def test_the_published_descent_slows_down_after_a_quarter() -> None:
    how, x, wanted, step = gmmn._published(2.0, 8), jnp.asarray(0.0), 0.0, 0.0
    state = how.init(x)
    for i in range(6):
        update, state = how.update(jnp.asarray(1.0), state, x)
        x, step = x + update, (0.99 if i >= 2 else 0.9) * step - (0.2 if i >= 2 else 2.0)
        wanted += step
        assert abs(float(x) - wanted) < 1e-4


def test_told_the_class_it_draws_that_class_and_each_stage_counts_its_own_batches(tmp_path: Path) -> None:
    """Nearest class means of the training rows tell 6 in 10 draws of the class that was asked for."""
    how = {**gmmn.TINY, "conditional": True, "epochs": 60}
    run = reverie.train("gmmn", "digits", run=tmp_path / "run", **how)
    plan, n = run.record["plan"], run.data.size("train")
    assert [stage["steps"] for stage in plan["stages"]] == [round(60 * n / 50), round(60 * n / 100)]
    assert (plan["batch"], plan["steps_per_epoch"]) == (100, n / 100)
    assert abs(run.journal()[-1]["epoch"] - 60) < 0.1
    rows, y = run.data.restore(run.data.rows("train")), run.data.labels("train")
    means = np.stack([rows[y == c].mean(0) for c in range(10)])
    drawn = run.sample(200).reshape(200, -1)
    told = ((drawn[:, None] - means) ** 2).sum(2).argmin(1)
    assert (told == np.arange(200) % 10).mean() > 0.6


def test_eight_normal_laws_on_a_ring_are_all_found(tmp_path: Path) -> None:
    """Every law has a quarter of its share of 2,000 draws, and most draws are within three spreads of one."""
    rng, centres = np.random.default_rng(0), np.exp(2j * np.pi * np.arange(8) / 8) * 2
    at = centres[rng.integers(0, 8, 1000)]
    x = np.stack([at.real, at.imag], axis=1) + 0.1 * rng.normal(size=(1000, 2))
    run = reverie.train("gmmn", x, run=tmp_path / "run", code=(), hidden=(64, 64), latent=4, batch=200, epochs=160,
                        rate=3e-3, widths=(0.01, 0.05, 0.2))  # fmt: skip
    drawn = run.sample(2000) @ np.array([1, 1j])
    gap = np.abs(drawn[:, None] - centres)
    near = np.bincount(gap.argmin(1)[gap.min(1) < 0.3], minlength=8)
    assert near.min() > 2000 / 8 / 4 and near.sum() > 1000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"widths": ()}, "widths"), ({"code": (3, 0)}, "code"), ({"code": (3,), "autoencoder": {"dropout": (0.1, 0.2)}},
     "dropout"), ({"code": (3,), "autoencoder": {"dropout": (1.0,)}}, "dropout"), ({"average": 1.0}, "average"),
     ({"code": (3,), "autoencoder": {"epochs": 0.0}}, "autoencoder")],
)  # fmt: skip
def test_wrong_settings_get_one_clear_line(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        engine("gmmn", pixels(), **settings.bind(gmmn.recipe, {**SMALL, **wrong}))
