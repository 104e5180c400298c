"""The order of rows: bijections that differ between epochs, look random, and are the same in pieces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from reverie.data.order import batch_indices, row_index


def epochs(n: int, count: int, seed: int = 0) -> np.ndarray:
    """Return the permutations of epochs 0..count-1, shape (count, n)."""
    one = lambda epoch: row_index(seed, epoch, jnp.arange(n), n)  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(count)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 100, 1297, 5000])
def test_each_epoch_visits_every_row_once(n: int) -> None:
    for order in epochs(n, 4, seed=3):
        assert np.array_equal(np.sort(order), np.arange(n))


def test_a_large_number_of_rows_is_a_bijection_too() -> None:
    n = 1_000_003
    order = np.asarray(row_index(5, 2, jnp.arange(n), n))
    assert np.array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [17, 1297])
def test_epochs_and_seeds_differ(n: int) -> None:
    orders = [tuple(order) for seed in (0, 1, 2) for order in epochs(n, 20, seed)]
    assert len(set(orders)) == 60


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_positions_and_neighbours_are_uniform(n: int) -> None:
    """Three chi-squares at 1e-4 for each n: a false alarm for about one seed in 800; this seed passes."""
    count = 20_000
    orders = epochs(n, count)
    for position in (0, n - 1):
        seen = np.bincount(orders[:, position], minlength=n)
        assert chi2.sf(((seen - count / n) ** 2 / (count / n)).sum(), n - 1) > 1e-4
    pairs = np.bincount(orders[:, 0] * n + orders[:, 1], minlength=n * n).reshape(n, n)
    apart = pairs[~np.eye(n, dtype=bool)]
    wanted = count / (n * (n - 1))
    assert chi2.sf(((apart - wanted) ** 2 / wanted).sum(), n * (n - 1) - 1) > 1e-4 or n == 2


def test_rows_do_not_follow_the_file() -> None:
    """Rank correlation of place and row over 40 epochs: standard error 1/sqrt(40 * 1296), six of them allowed."""
    orders = epochs(1297, 40).astype(float)
    place = np.arange(1297.0)
    correlation = np.mean([np.corrcoef(place, order)[0, 1] for order in orders])
    neighbours = np.mean([np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders])
    assert max(abs(correlation), abs(neighbours)) < 6 / np.sqrt(40 * 1296)


# Every example is a compilation of its own.
@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 300), batch=st.integers(1, 50), step=st.integers(0, 1000), seed=st.integers(0, 2**32 - 1))
def test_a_batch_is_a_stretch_of_the_epochs(n: int, batch: int, step: int, seed: int) -> None:
    positions = np.arange(step * batch, (step + 1) * batch)
    alone = [int(row_index(seed, int(p) // n, int(p) % n, n)) for p in positions[[0, -1]]]
    whole = np.asarray(batch_indices(seed, step, batch, n))
    assert whole.dtype == np.int32 and whole.shape == (batch,)
    assert [whole[0], whole[-1]] == alone
    assert (whole >= 0).all() and (whole < n).all()


def test_split_calls_equal_whole_calls() -> None:
    whole = np.asarray(batch_indices(7, 0, 60, 23))
    pieces = [np.asarray(batch_indices(7, step, 12, 23)) for step in range(5)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_it_runs_in_a_compiled_loop_with_a_traced_step_and_seed() -> None:
    @jax.jit
    def visit(seed: jax.Array, steps: jax.Array) -> jax.Array:
        body = lambda s, seen: seen.at[batch_indices(seed, s, 10, 50)].add(1)  # noqa: E731
        return jax.lax.fori_loop(0, steps, body, jnp.zeros(50, jnp.int32))

    assert np.asarray(visit(jnp.uint32(3), jnp.int32(15))).tolist() == [3] * 50


def test_the_last_of_four_thousand_million_rows_seen() -> None:
    """Positions are unsigned words: past 2^31 they still fall into the right epoch."""
    n, batch = 1000, 256
    step = 2**32 // batch - 1
    positions = [step * batch + i for i in (0, batch - 1)]
    found = np.asarray(batch_indices(0, jnp.int32(step), batch, n))
    assert [found[0], found[-1]] == [int(row_index(0, p // n, p % n, n)) for p in positions]
