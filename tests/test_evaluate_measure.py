"""Annealing over rows, and the doors that join estimators with a data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from tests.toys import dataset, linear, rows_of

from reverie.data.dataset import Rows
from reverie.errors import ReverieError
from reverie.evaluate.annealed import annealed, simulated_gap
from reverie.evaluate.likelihood import importance
from reverie.evaluate.measure import evaluate, gather, score, view

PLAN: dict[str, Any] = {"chains": 8, "temperatures": 40, "leapfrog": 5, "pilot": 40}


def test_annealing_comes_close_to_the_truth_from_below() -> None:
    """Four standard errors of the estimator above the truth: a false alarm once in 30,000."""
    model, rows = linear(1.5), rows_of(24)
    found = annealed(model, rows, start="prior", **PLAN)
    error = np.sqrt(found.variances.sum()) / len(rows)
    gap = found.values.mean() - model.truth(rows).mean()
    assert -0.2 < gap < 4 * error
    assert found.estimator == "ais-8x40" and (found.info["acceptance"] > 0.3).all()
    exact = eqx.tree_at(lambda m: m.weight, linear(1.0), jnp.asarray([[1.0, 0], [1.0, 0], [0, 0.5], [0, -0.5]]))
    np.testing.assert_allclose(annealed(exact, rows, **PLAN).values, exact.truth(rows), atol=1e-4)


def test_annealing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model, rows, kept = linear(1.5), rows_of(24), tmp_path / "partial.npz"
    whole = annealed(model, rows, start="prior", block=24, **PLAN)
    part = annealed(model, rows, start="prior", block=6, minutes=1e-9, resume=kept, **PLAN)
    assert part.indices.size == 6
    again = annealed(model, rows, start="prior", block=6, resume=kept, **PLAN)
    np.testing.assert_allclose(again.values, whole.values, atol=1e-4)
    np.testing.assert_array_equal(again.values[part.indices], part.values)


def test_the_gap_on_simulated_rows_holds_the_truth() -> None:
    """The gap's expectation is positive, about 0.2 here; four standard errors on both sides, over 32 rows."""
    found = simulated_gap(linear(1.5), n=32, start="prior", **PLAN)
    low, high, gap = found["bracket"].low, found["bracket"].high, found["gap"]
    assert low is not None and high is not None and gap.value == pytest.approx(high - low)
    assert -4 * gap.standard_error < gap.value < 0.25 + 4 * gap.standard_error
    assert gap.kind == "upper_bound" and gap.standard_error < 0.2
    conditional = simulated_gap(linear(1.5, classes=2), n=2, class_prior=np.array([0.2, 0.8]), **PLAN)
    assert np.isfinite(conditional["gap"].value)


def test_the_plan_of_annealing_is_checked() -> None:
    with pytest.raises(ReverieError, match="unexpected keyword argument 'chain'"):
        annealed(linear(), rows_of(2), chain=3)
    with pytest.raises(ReverieError, match="temperatures: 0"):
        annealed(linear(), rows_of(2), temperatures=0)
    with pytest.raises(ReverieError, match="n: 1 simulated"):
        simulated_gap(linear(), n=1)


@pytest.mark.parametrize("estimator", ["importance", "elbo", "ais"])
def test_evaluate_gives_a_certified_record(estimator: str) -> None:
    more = {k: v for k, v in PLAN.items() if k != "chains"} if estimator == "ais" else {}
    data = dataset(scale=2.0)
    records, result = evaluate(linear(1.2), data, "test", estimator=estimator, samples=8, rows=20, **more)
    record = records["log_likelihood"]
    assert (record.n, record.rows_of, record.split, record.kind) == (20, 60, "test", "lower_bound")
    assert record.value == pytest.approx(result.values.mean()) and result.units == "file"
    exact = linear().truth(data.rows("test")[result.indices]) - 4 * np.log(2.0)
    assert abs(result.values - exact).mean() < 1.0


def test_fewer_rows_are_some_of_more_rows() -> None:
    few = evaluate(linear(), dataset(), samples=4, rows=10)[1]
    many = evaluate(linear(), dataset(), samples=4, rows=30)[1]
    where = np.searchsorted(many.indices, few.indices)
    np.testing.assert_array_equal(many.indices[where], few.indices)
    np.testing.assert_array_equal(many.values[where], few.values)


def test_a_class_conditional_model_is_evaluated_three_ways() -> None:
    records, result = evaluate(linear(1.2, classes=2), dataset(), samples=20)
    assert set(records) == {"log_likelihood", "conditional_log_likelihood", "classification_error"}
    assert result.by_class is not None and result.by_class.shape == (60, 2)
    assert 0 <= records["classification_error"].value <= 1


def test_rows_are_gathered_from_blocks_as_the_whole_would_give_them() -> None:
    data = dataset(90)
    index = np.array([0, 3, 4, 50, 89])
    np.testing.assert_array_equal(gather(data, "test", index, block=7), data.rows("test")[index])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"estimator": "importence"}, "did you mean 'importance'"),
        ({"rows": 0}, "rows: 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReverieError, match=message):
        evaluate(linear(), dataset(), **arguments)


def test_scores_of_own_rows_are_in_their_units_and_know_no_order() -> None:
    data, rows = dataset(scale=np.array([2.0, 0.5, 3.0, 1.0]), shift=1.0), rows_of(12, 7)
    values, record = score(linear(1.2), data, rows, samples=50)
    inside = importance(linear(1.2), (rows - 1.0) / np.array([2.0, 0.5, 3.0, 1.0]), samples=50)
    np.testing.assert_allclose(values, inside.values - np.log(3.0), atol=1e-4)
    assert record.value == pytest.approx(values.mean()) and record.n == 12 and record.split is None
    again, _ = score(linear(1.2), data, rows[::-1], samples=50)
    np.testing.assert_array_equal(again[::-1], values)


def test_own_grey_rows_are_binarised_by_their_content() -> None:
    data = dataset(likelihood="bernoulli", binarisation="dynamic")
    grey = np.random.default_rng(0).random((30, 4)).astype(np.float32)
    seen = view(data, grey)
    assert set(np.unique(seen)) <= {0.0, 1.0}
    np.testing.assert_array_equal(view(data, grey[::-1])[::-1], seen)
    assert abs(view(data, np.tile(np.linspace(0.3, 0.31, 400)[:, None], 4)).mean() - 0.3) < 0.06, "1,600 draws, 5 sd"


def test_a_score_that_is_no_number_is_refused() -> None:
    rows = rows_of(3)
    rows[1, 1] = np.nan
    with pytest.raises(ReverieError, match="first: row 2"):
        score(linear(), dataset(), rows, samples=2)


def test_a_set_read_from_disk_is_sampled_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reverie.evaluate.measure.MOST_ROWS", 15)
    monkeypatch.setattr("reverie.data.dataset.Dataset.resident", property(lambda self: False))
    record = evaluate(linear(), dataset(), samples=2)[0]["log_likelihood"]
    assert (record.n, record.rows_of) == (15, 60)


def test_evaluation_never_reads_the_other_splits() -> None:
    """The test set is never looked at on validation, nor the other way round: garbage there changes nothing."""
    data = dataset()
    spoilt = dataclasses.replace(data, splits={**data.splits, "valid": Rows(np.full((60, 4), 1e9, np.float32))})
    a = evaluate(linear(), data, samples=3)[1].values
    np.testing.assert_array_equal(evaluate(linear(), spoilt, samples=3)[1].values, a)


def test_an_argument_of_another_estimator_is_named() -> None:
    with pytest.raises(ReverieError, match=r"tolerance: importance of a .* does not take it"):
        evaluate(linear(), dataset(), rows=5, tolerance=0.1)
    with pytest.raises(ReverieError, match="'exact' is not one of importance, elbo, ais"):
        evaluate(linear(), dataset(), rows=5, estimator="exact")
