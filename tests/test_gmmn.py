"""Moment matching: the discrepancy's estimators against loops and closed forms, and the networks that learn by it."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import assert_kills

from reverie.errors import ReverieError
from reverie.evaluate.mmd import kernel, median_width, mmd2, squared_distances

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
