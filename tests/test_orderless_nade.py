"""Orderless NADE against enumeration: its loss over all orders and splits, its mixtures, its law of missing cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from math import comb
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from tests.autoregressive import ALPHA, frequencies_p, jittered, log_probs, rows, total

import reverie
from reverie.errors import ReverieError
from reverie.evaluate import explicit
from reverie.evaluate.impute import impute
from reverie.models.directed import orderless_nade
from reverie.models.directed.orderless_nade import OrderlessNADE, batch_estimates, row_estimate, split_row, untrained
from reverie.nn.cells import Cells


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def some(width: int, hidden: tuple[int, ...] = (6, 5), orders: int = 1, seed: int = 0, scale: float = 0.8) -> Any:
    return jittered(
        untrained(jax.random.key(seed), Cells.binary(width), jnp.zeros(width), hidden, orders, "tanh"), seed, scale
    )


def of_orders(model: OrderlessNADE, orders: Any) -> OrderlessNADE:
    return replace(model, orders=jnp.asarray(np.asarray(list(orders)), jnp.int32))


def by_hand(model: OrderlessNADE, x: np.ndarray, order: Any) -> float:
    """log p by an order, a whole pass for each cell."""
    found, known = 0.0, np.zeros(len(x), bool)
    for d in order:
        if np.isnan(x[d]):
            continue
        a = float(model.says(jnp.asarray(x), jnp.asarray(known))[d, 0])
        found += x[d] * a - np.logaddexp(0.0, a)
        known[d] = True
    return found


def each_order(model: OrderlessNADE, x: np.ndarray) -> np.ndarray:
    """log p_o of rows (n, D) by each of the model's orders, shape (O, n)."""
    one = lambda r: jax.vmap(lambda i: model.member_log_prob(r, i))(jnp.arange(model.members))  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(x))).T


@pytest.mark.parametrize(("hidden", "orders"), [((7,), 1), ((6, 5), 3)])
def test_it_sums_to_one_for_any_weights_and_orders(hidden: tuple[int, ...], orders: int, double: None) -> None:
    model = some(10, hidden, orders)
    assert abs(total(model, 10) - 1.0) < 1e-10
    x = rows(10)[333]
    for i in range(orders):
        assert float(model.member_log_prob(jnp.asarray(x), i)) == pytest.approx(by_hand(model, x, model.orders[i]))


def test_no_logit_depends_on_a_cell_that_is_not_known(double: None) -> None:
    model, known = some(7), jnp.asarray([True, False, True, False, False, True, False])
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, 7).astype(float))
    found = np.abs(np.asarray(jax.jacrev(lambda row: model.says(row, known)[:, 0])(x)))
    assert found[:, ~np.asarray(known)].max() == 0.0 < 1e-3 < found[:, np.asarray(known)].max()
    blind = np.abs(np.asarray(jax.jacrev(lambda row: model.says(row, known | True)[:, 0])(x)))
    assert blind[:, ~np.asarray(known)].max() > 1e-3  # shown all cells, it would
    hidden = jnp.where(known, x, jnp.nan)
    np.testing.assert_array_equal(model.says(hidden, known), model.says(x, known))


def mean_of_splits(model: OrderlessNADE, x: np.ndarray, weigh: Any) -> float:
    """The loss of a row over all orders and places: 24 times 4 of them at D = 4."""
    found, width = [], len(x)
    for order in permutations(range(width)):
        for before in range(width):
            known = np.isin(np.arange(width), order[:before])
            found.append(float(row_estimate(model, jnp.asarray(x), jnp.asarray(known), weigh(width, before))))
    return float(np.mean(found))


def test_the_loss_is_the_mean_over_all_orders(double: None) -> None:
    model = of_orders(some(4, (5,)), permutations(range(4)))
    x = rows(4)[11]
    exact = each_order(model, x[None]).mean()
    right = lambda width, before: jnp.asarray(width / (width - before))  # noqa: E731
    assert mean_of_splits(model, x, right) == pytest.approx(exact, abs=1e-10)
    # Mutants: no weight at all, and that of d in place of d - 1.
    for wrong in (lambda width, before: jnp.asarray(1.0), lambda width, before: jnp.asarray(width / (before + 1))):
        assert abs(mean_of_splits(model, x, wrong) - exact) > 1e-2


@pytest.mark.parametrize("there", [(True,) * 4, (True, False, True, True)])
def test_splits_are_drawn_evenly(there: tuple[bool, ...]) -> None:
    """Every size of the known part alike, and of a size every set alike.  False alarm: a thousandth."""
    seen = np.asarray(there)
    known, weight = jax.vmap(lambda k: split_row(k, jnp.asarray(seen)))(jax.random.split(jax.random.key(0), 8000))
    known, count = np.asarray(known), int(seen.sum())
    assert not known[:, ~seen].any()
    np.testing.assert_allclose(weight, count / (count - known.sum(1)), rtol=1e-6)
    sets, found = np.unique(known, axis=0, return_counts=True)
    expected = np.asarray([8000 / (count * comb(count, int(s.sum()))) for s in sets])
    assert expected.sum() == pytest.approx(8000)
    assert chisquare(found, expected).pvalue > ALPHA
    flat = chisquare(found, np.full(len(sets), 8000 / len(sets)))
    assert flat.pvalue < 1e-6  # every set alike, which is another loss


def test_estimates_of_a_batch_are_of_that_mean(double: None) -> None:
    """Within four standard errors, at a fixed seed."""
    model = of_orders(some(4, (5,)), permutations(range(4)))
    x = rows(4)[6]
    found = np.asarray(batch_estimates(model, jnp.asarray(np.tile(x, (6000, 1))), jax.random.key(0)))
    assert abs(found.mean() - each_order(model, x[None]).mean()) < 4 * found.std() / np.sqrt(6000)


def test_an_ensemble_is_no_worse_than_its_orders_on_average(double: None) -> None:
    model, x = some(6, (7,), 5), rows(6)
    each = each_order(model, x)
    mixed = log_probs(model, x)
    np.testing.assert_allclose(mixed, np.log(np.exp(each).mean(axis=0)), atol=1e-12)
    assert (mixed >= each.mean(axis=0) - 1e-12).all() and (mixed - each.mean(axis=0)).max() > 1e-2
    np.testing.assert_allclose(log_probs(model.ensemble(2), x), np.log(np.exp(each[:2]).mean(axis=0)), atol=1e-12)
    np.testing.assert_array_equal(model.ensemble(9).orders, some(6, (7,), 9).orders)


def test_draws_are_from_the_mixture() -> None:
    """False alarm: a thousandth, at a fixed seed."""
    model = some(6, (8,), 3, seed=1)
    draws, means = jax.vmap(model.sample)(jax.random.split(jax.random.key(3), 20_000))
    law = np.exp(log_probs(model, rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), law / law.sum()) > ALPHA
    assert ((means > 0) & (means < 1)).all()
    one = np.exp(log_probs(some(6, (8,), 1, seed=2), rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), one / one.sum()) < 1e-6


KNOWN = np.asarray([False, True, False, True, True, False])
X = np.asarray([0.0, 1.0, 0.0, 0.0, 1.0, 0.0])


def conditional(model: OrderlessNADE, known: np.ndarray) -> np.ndarray:
    """p(missing | known) of all rows of missing cells by enumeration: p_o of rows over its sum, known cells first."""
    missing = np.flatnonzero(~known)
    x = np.tile(X, (2 ** len(missing), 1))
    x[:, missing] = rows(len(missing))
    orders = of_orders(model, [[*np.flatnonzero(known), *o] for o in permutations(missing)])
    joint = np.exp(each_order(orders, x))
    return (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)


def test_missing_cells_are_drawn_given_the_known_ones() -> None:
    """False alarm: a thousandth, at a fixed seed."""
    model = some(6, (8,), 1, seed=3)
    keys = jax.random.split(jax.random.key(5), 20_000)
    drawn = np.asarray(jax.vmap(lambda k: model.draw_missing(k, jnp.asarray(X), jnp.asarray(KNOWN)))(keys))
    assert (drawn[:, KNOWN] == X[KNOWN]).all()
    law = conditional(model, KNOWN).astype(float)
    assert frequencies_p(drawn[:, ~KNOWN], law / law.sum()) > ALPHA
    # Mutant: draws of whole rows that are then overwritten have the cells' law given nothing.
    blind = np.asarray(jax.vmap(lambda k: model.draw_missing(k, jnp.asarray(X), jnp.zeros(6, bool)))(keys))
    assert frequencies_p(blind[:, ~KNOWN], law / law.sum()) < 1e-6


def test_means_of_missing_cells_are_those_of_the_law(double: None) -> None:
    """Of each cell the order in which it comes next, by enumeration of whole rows."""
    model = some(6, (8,))
    found = np.asarray(model.complete(jax.random.key(0), jnp.asarray(X), jnp.asarray(KNOWN)))
    missing = np.flatnonzero(~KNOWN)
    x = np.tile(X, (8, 1))
    x[:, missing] = rows(3)
    for j in missing:
        order = [*np.flatnonzero(KNOWN), j, *(k for k in missing if k != j)]
        p = np.exp(each_order(of_orders(model, [order]), x)[0])
        assert found[j] == pytest.approx(float((p * x[:, j]).sum() / p.sum()), abs=1e-10)
    np.testing.assert_array_equal(found[KNOWN], X[KNOWN])


def test_the_verb_gives_means_and_draws_for_any_mask() -> None:
    model = some(6, (8,))
    rng = np.random.default_rng(0)
    x, mask = rng.integers(0, 2, (9, 6)).astype(np.float32), rng.random((9, 6)) < 0.5
    found = impute(model, x, mask, frames=(1, 5))
    known = np.where(mask, x, 0.0)
    want = jax.vmap(model.complete, in_axes=(None, 0, 0))(jax.random.key(0), jnp.asarray(known), jnp.asarray(mask))
    np.testing.assert_allclose(found.filled, want, atol=1e-6)
    assert found.frames.shape == (1, 9, 6) and found.iterations.tolist() == [1]
    assert found.errors[0] == pytest.approx(((np.asarray(want) - x)[~mask] ** 2).mean(), rel=1e-5)
    drawn = impute(model, x, mask, draw=True, seed=1).filled
    assert set(np.unique(drawn)) <= {0.0, 1.0} and (drawn[mask] == x[mask]).all()
    # A row's draw depends on its known cells, its place and the seed; not on what else is in the file.
    np.testing.assert_array_equal(impute(model, x[:5], mask[:5], draw=True, seed=1).filled, drawn[:5])
    alike = impute(model, np.tile(x[:1], (200, 1)), np.tile(mask[:1], (200, 1)), draw=True, seed=1).filled
    free = alike[:, ~mask[0]]
    share = np.asarray(want)[0, ~mask[0]]
    # Each cell's frequency is not the one-pass mean but near it at such weights; of like draws it would be 0 or 1.
    assert len(np.unique(free, axis=0)) > 1 and np.abs(free.mean(axis=0) - share).max() < 0.25
    assert (impute(model, x, mask, draw=True, seed=2).filled != drawn).any()


def test_missing_cells_are_left_out_of_the_likelihood(double: None) -> None:
    model = some(5, (6,))
    x = np.asarray([1.0, np.nan, 0.0, np.nan, 1.0])
    exact = float(model.log_prob(jnp.asarray(x)))
    assert exact == pytest.approx(by_hand(model, x, model.orders[0]), abs=1e-12)
    # It is the sum over what may have been there, by the order in which they come last.
    there = [int(d) for d in model.orders[0] if not np.isnan(x[int(d)])]
    full = np.tile(x, (4, 1))
    full[:, [1, 3]] = rows(2)
    assert exact == pytest.approx(
        float(np.log(np.exp(each_order(of_orders(model, [[*there, 1, 3]]), full)).sum())), abs=1e-12
    )
    value, slope = jax.value_and_grad(lambda m: batch_estimates(m, jnp.asarray(x[None]), jax.random.key(0)).sum(),
                                      allow_int=True)(model)  # fmt: skip
    assert np.isfinite(value) and np.isfinite(slope.flags).all() and np.isfinite(slope.layers[0].weight).all()


def test_it_learns_from_rows_with_missing_cells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cause = rng.integers(0, 2, (400, 1))
    x = np.where(rng.random((400, 5)) < 0.05, 1 - cause, cause).astype(float)
    whole = x.copy()
    x[rng.random(x.shape) < 0.3] = np.nan
    run = reverie.train("orderless-nade", x, run=tmp_path / "run", hidden=(16,), batch=20, rate=1e-2, epochs=30)
    found = run.evaluate(samples=4)["log_likelihood"]
    assert (found.kind, found.estimator, found.note) == ("exact", "exact-4", "equal mixture of 4 orders of the cells")
    assert run.evaluate()["log_likelihood"].note == "equal mixture of 8 orders of the cells"
    assert run.score(x[:5]).record.note == "equal mixture of 8 orders of the cells"
    told = [line["valid"] for line in run.journal() if "valid" in line]
    assert {(line["estimator"], line["note"]) for line in told} == {
        ("exact-1", "one order of the cells alone, where evaluate mixes 8")
    }
    filled = run.impute(x[:100])
    hidden = np.isnan(x[:100])
    assert ((filled[hidden] > 0.5) == (whole[:100][hidden] > 0.5)).mean() > 0.8
    assert set(np.unique(run.impute(x[:20], draw=True))) == {0.0, 1.0}


def test_what_it_cannot_do_is_refused(tmp_path: Path) -> None:
    for more, words in (
        ({"hidden": ()}, "hidden"),
        ({"orderings": 0}, "orderings: 0"),
        ({"valid_rows": 0}, "valid_rows"),
    ):
        with pytest.raises(ReverieError, match=words):
            reverie.train("orderless-nade", np.eye(60, 4), run=tmp_path / "no", **more)
    with pytest.raises(ReverieError, match="samples: 0"):
        explicit.exact(some(3), np.zeros((1, 3), np.float32), samples=0)
    run = reverie.train("vae", "digits", run=tmp_path / "vae", epochs=0.1, latent=(2,), hidden=((4,),))
    with pytest.raises(ReverieError, match="draw: a VAE fills in means alone"):
        run.impute(run.data.restore(run.data.rows("test"))[:2], "half", draw=True)


def test_the_report_says_that_cells_are_filled_in_at_once(tmp_path: Path) -> None:
    run = reverie.train("orderless-nade", "digits", run=tmp_path / "run", **{**orderless_nade.TINY, "epochs": 3})
    page = run.report().read_text(encoding="utf-8")
    assert "has their law given the known ones" in page and "decoding its own guess" not in page
