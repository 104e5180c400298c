"""Log-likelihoods against closed forms: bounds below the truth, errors that cover it, nothing lost, no order felt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm
from tests.toys import WEIGHT, Linear, dataset, linear, rows_of

from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate import classes, likelihood
from reverie.evaluate.certify import certify, certify_classes, class_frequencies, log_scales, summary_of_seeds
from reverie.evaluate.likelihood import elbo, importance, validator
from reverie.evaluate.rows import RowResult, row_words, visiting_order, write_npz


def test_the_interval_of_importance_sampling_covers_the_truth() -> None:
    """Three sets, 99.9 % intervals: a false alarm once in 300 seeds; this seed passes."""
    model = linear()
    for seed in range(3):
        rows = rows_of(100, seed)
        found = importance(model, rows, samples=500, seed=seed)
        gap = found.values.mean() - model.truth(rows).mean()
        error = np.sqrt(found.variances.sum()) / len(rows)
        # Jensen's gap at k = 500 is half the variance of a row's value, under a tenth of this error.
        assert abs(gap) < norm.ppf(0.9995) * error + found.variances.mean()
        assert (found.ess > 100).all() and (found.ess <= 500).all()
        assert found.estimator == "importance-500" and found.values.dtype == np.float64


def test_more_samples_bring_the_bound_up_to_the_truth() -> None:
    """The steps between k = 1, 5, 50 are ten standard errors and more."""
    model, rows = linear(2.5), rows_of(400)
    bounds = [importance(model, rows, samples=k).values.mean() for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] - 0.2 < bounds[2] - 0.2 < model.truth(rows).mean()
    single = elbo(model, rows, samples=1)
    np.testing.assert_allclose(single.values, importance(model, rows, samples=1).values, rtol=1e-6)


def test_an_exact_posterior_gives_the_exact_likelihood() -> None:
    rows = rows_of(20)
    orthogonal = eqx.tree_at(lambda m: m.weight, linear(1.0), jnp.asarray([[1.0, 0], [1.0, 0], [0, 0.5], [0, -0.5]]))
    for found in (importance(orthogonal, rows, samples=7), elbo(orthogonal, rows, samples=7)):
        np.testing.assert_allclose(found.values, orthogonal.truth(rows), atol=2e-5)
        np.testing.assert_allclose(found.variances, 0.0, atol=1e-6)


def test_the_streamed_elbo_is_the_mean_of_log_weights() -> None:
    model, rows = linear(), rows_of(9)
    found = elbo(model, rows, samples=300)
    words = jnp.asarray(row_words(likelihood.as_rows(rows)))
    key = likelihood.row_key(jnp.uint32(0), words[3])
    from reverie.prob.bounds import log_weights

    dense = np.asarray(log_weights(model, key, jnp.asarray(rows[3]), None, 300), np.float64)
    assert found.values[3] == pytest.approx(dense.mean(), abs=1e-5)
    assert found.variances[3] == pytest.approx(dense.var(ddof=1) / 300, rel=1e-4)


def test_a_row_does_not_feel_its_order_or_company() -> None:
    model, rows = linear(), rows_of(70)
    whole = importance(model, rows, samples=20, block=16)
    shuffle = np.random.default_rng(5).permutation(70)
    np.testing.assert_array_equal(importance(model, rows[shuffle], samples=20, block=16).values, whole.values[shuffle])
    np.testing.assert_array_equal(importance(model, rows[30:37], samples=20, block=16).values, whole.values[30:37])
    strangers = np.concatenate([rows[:5], 10 * rows_of(40, 9)])
    np.testing.assert_array_equal(importance(model, strangers, samples=20, block=16).values[:5], whole.values[:5])
    other = importance(model, rows, samples=20, block=16, seed=1)
    assert (other.values != whole.values).all()


def test_a_mutant_that_takes_keys_by_position_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    by_place = lambda rows: np.stack([np.arange(len(rows)), np.zeros(len(rows))], 1).astype(np.uint32)  # noqa: E731
    monkeypatch.setattr("reverie.evaluate.rows.row_words", by_place)
    with pytest.raises(AssertionError):
        test_a_row_does_not_feel_its_order_or_company()


class Kill(Exception):
    pass


def test_an_interrupted_evaluation_goes_on_to_exactly_the_same_values(tmp_path: Path) -> None:
    model, rows, kept = linear(), rows_of(50), tmp_path / "partial.npz"
    whole = importance(model, rows, samples=30, block=8)

    def kill_at(limit: int) -> Any:
        def watch(done: int, value: float) -> None:
            if done >= limit:
                raise Kill

        return watch

    scored = []
    for limit in (10, 30):
        with pytest.raises(Kill):
            importance(model, rows, samples=30, block=8, resume=kept, progress=kill_at(limit))
    again = importance(model, rows, samples=30, block=8, resume=kept, progress=lambda done, value: scored.append(done))
    np.testing.assert_array_equal(again.values, whole.values)
    np.testing.assert_array_equal(again.variances, whole.variances)
    assert scored == [40, 48, 50], "what was done is not done again"
    importance(model, rows, samples=30, block=8, resume=kept, progress=lambda done, value: pytest.fail("done already"))


@pytest.mark.parametrize("what", ["model", "rows", "samples", "seed", "damage", "empty"])
def test_partial_results_of_something_else_are_not_taken(tmp_path: Path, what: str) -> None:
    model, rows, kept = linear(), rows_of(20), tmp_path / "partial.npz"
    importance(model, rows, samples=5, resume=kept)
    samples, seed = 5, 0
    if what == "model":
        model = linear(1.6)
    elif what == "rows":
        rows = rows_of(20, 1)
    elif what == "samples":
        samples = 6
    elif what == "seed":
        seed = 1
    else:
        kept.write_bytes(b"" if what == "empty" else kept.read_bytes()[:-40])
    again = importance(model, rows, samples=samples, seed=seed, resume=kept)
    np.testing.assert_array_equal(again.values, importance(model, rows, samples=samples, seed=seed).values)


def test_a_stop_leaves_a_random_part_and_says_so() -> None:
    model, rows = linear(), rows_of(40)
    part = importance(model, rows, samples=5, block=4, minutes=1e-9)
    np.testing.assert_array_equal(part.indices, np.sort(visiting_order(40, 0)[:4]))
    whole = importance(model, rows, samples=5, block=4)
    np.testing.assert_array_equal(part.values, whole.values[part.indices])
    record = certify(part, dataset(), "test")
    assert (record.n, record.rows_of) == (4, 40)
    assert certify(whole, dataset(), "test").rows_of is None


def test_a_random_part_is_without_bias() -> None:
    """A mean over 400 seeds of 5 rows of 40; four standard errors, a false alarm once in 16,000."""
    values = np.sort(np.random.default_rng(0).normal(size=40))
    means = [values[visiting_order(40, seed)[:5]].mean() for seed in range(400)]
    assert abs(np.mean(means) - values.mean()) < 4 * np.std(means) / 20


def test_the_marginal_of_a_class_conditional_model_is_bayes_rule() -> None:
    """T24: two labelled Gaussians.  The errors allowed are 4 standard errors (a false alarm once in 16,000)."""
    model, rows, prior = linear(1.0, classes=2), rows_of(60), np.array([0.3, 0.7])
    model = eqx.tree_at(lambda m: m.weight, model, jnp.asarray([[1.0, 0], [1.0, 0], [0, 0.5], [0, -0.5]]))
    by_class = np.stack([model.truth(rows, jnp.eye(2)[y]) for y in (0, 1)], axis=1)
    exact = logsumexp(by_class + np.log(prior), axis=1)
    found = importance(model, rows, samples=3, class_prior=prior, block=7)
    np.testing.assert_allclose(found.values, exact, atol=3e-5)
    np.testing.assert_allclose(found.by_class, by_class, atol=3e-5)
    wide = importance(eqx.tree_at(lambda m: m.wide, model, jnp.asarray(1.4)), rows, samples=200, class_prior=prior)
    assert abs(wide.values.mean() - exact.mean()) < 4 * np.sqrt(wide.variances.sum()) / 60 + wide.variances.mean()
    own = importance(model, rows, samples=3, given=np.eye(2, dtype=np.float32)[np.arange(60) % 2])
    np.testing.assert_allclose(own.values, by_class[np.arange(60), np.arange(60) % 2], atol=3e-5)


def test_a_mutant_that_forgets_the_class_prior_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = classes.marginal
    monkeypatch.setattr(classes, "marginal", lambda found, prior: real(found, np.ones_like(prior)))
    with pytest.raises(AssertionError):
        test_the_marginal_of_a_class_conditional_model_is_bayes_rule()


def test_classes_share_their_random_numbers() -> None:
    """Two classes with the same law get the same value, to the last bit."""
    same = eqx.tree_at(lambda m: m.offset, linear(classes=2), jnp.ones((2, 4)))
    found = importance(same, rows_of(11), samples=10, block=4)
    np.testing.assert_array_equal(found.by_class[:, 0], found.by_class[:, 1])


def test_the_classification_error_and_the_conditional_likelihood() -> None:
    data, model = dataset(), linear(1.2, classes=2)
    np.testing.assert_allclose(prior := class_frequencies(data), [0.5, 0.5])
    found = importance(model, data.rows("test"), samples=200, class_prior=prior)
    records = certify_classes(found, data, "test", prior)
    by_class = np.stack([model.truth(data.rows("test"), jnp.eye(2)[y]) for y in (0, 1)], axis=1)
    truth = data.labels("test")
    error = (by_class.argmax(axis=1) != truth).mean()
    assert abs(records["classification_error"].value - error) <= 1 / 60, "one row near the border may fall either way"
    assert records["classification_error"].unit == "fraction"
    exact = by_class[np.arange(60), truth].mean()
    record = records["conditional_log_likelihood"]
    assert abs(record.value - exact) < 4 * record.monte_carlo_error + 0.02


def test_a_density_is_reported_in_the_units_of_the_file() -> None:
    data = dataset(scale=np.array([2.0, 0.5, 3.0, 1.0]), shift=1.0)
    model = linear()
    found = importance(model, data.rows("test"), samples=50)
    record = certify(found, data, "test")
    assert record.value == pytest.approx(found.values.mean() - np.log(3.0))
    assert (record.measure, record.kind, record.data_hash, record.split) == ("density", "lower_bound", "abc", "test")
    mass = certify(found, dataset(likelihood="bernoulli", scale=2.0), "test")
    assert mass.value == pytest.approx(found.values.mean()) and mass.measure == "mass"


def test_missing_cells_are_left_out_of_the_change_of_units() -> None:
    data = dataset(scale=np.array([2.0, 0.5, 3.0, 1.0]), missing=True)
    rows = np.array([[1, 1, 1, 1], [np.nan, 1, 1, 1], [1, 1, np.nan, np.nan]])
    np.testing.assert_allclose(log_scales(data, rows), [np.log(3.0), np.log(1.5), np.log(1.0)])


def test_low_effective_samples_are_told() -> None:
    record = certify(importance(linear(30.0), rows_of(60), samples=50), dataset(), "test")
    assert record.note and "effective sample size" in record.note
    assert certify(importance(linear(1.1), rows_of(60), samples=50), dataset(), "test").note is None


def test_values_that_are_no_numbers_name_their_row() -> None:
    rows = rows_of(10)
    rows[7, 2] = np.nan
    with pytest.raises(ReverieError, match=r"1 of 10 rows \(first: row 8\)"):
        certify(importance(linear(), rows, samples=2), dataset(), "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": np.zeros(4)}, "rows: shape"),
        ({"rows": np.zeros((0, 4))}, "rows: shape"),
        ({"rows": np.array([["a", "b"]])}, "not numbers"),
        ({"samples": 0}, "samples: 0"),
        ({"block": 0}, "block: 0"),
        ({"minutes": 0}, "minutes: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"given": np.eye(2)}, "not class-conditional"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReverieError, match=message) as caught:
        importance(linear(), **{"rows": rows_of(3), **arguments})
    assert "\n" not in str(caught.value)


def test_a_class_conditional_model_refuses_wrong_classes() -> None:
    with pytest.raises(ReverieError, match="given: shape"):
        importance(linear(classes=2), rows_of(3), given=np.eye(3))
    with pytest.raises(ReverieError, match="class_prior: give 2"):
        importance(linear(classes=2), rows_of(3), class_prior=np.array([0.5, 0.6]))


def test_memory_does_not_grow_with_samples() -> None:
    """The compiler's own count of temporary bytes, at 100 and at 50,000 samples of a wide model."""
    wide = eqx.tree_at(lambda m: (m.weight, m.offset), linear(), (jnp.ones((2000, 2)), jnp.zeros(2000)))
    sizes = []
    for samples in (100, 50_000):
        chunk, block = likelihood.block_shape(wide, 2000, samples)
        one = lambda x, m=wide, k=samples, c=chunk: likelihood.stream_log_likelihood(  # noqa: E731
            m, jax.random.key(0), x, None, k, c
        )
        compiled = jax.jit(jax.vmap(one)).lower(jnp.zeros((block, 2000))).compile()
        sizes.append(compiled.memory_analysis().temp_size_in_bytes)
    assert max(sizes) < likelihood.BUDGET
    assert sizes[1] < 2 * sizes[0]


def test_the_validator_is_compiled_once_and_uses_common_numbers() -> None:
    data, compiled = dataset(), []
    validate = validator(samples=3, rows=20)

    class Counted(Linear):
        def infer(self, key, x, given=None):
            compiled.append(1)
            return super().infer(key, x, given)

    weights = [jnp.asarray(w) for w in (1.1, 1.2, 1.3)]
    model = Counted(WEIGHT, jnp.zeros(4), jnp.asarray(0.7), weights[0])
    first = validate(model, data, jax.random.key(0))
    traced = len(compiled)
    for w in weights[1:]:
        validate(eqx.tree_at(lambda m: m.wide, model, w), data, jax.random.key(1))
    # The footprint is looked at by an abstract evaluation each time; nothing is traced for compilation anew.
    assert len(compiled) <= traced + 2
    assert validate(model, data, jax.random.key(2)) == first
    assert (first.n, first.rows_of, first.split, first.estimator) == (20, 60, "valid", "importance-3")


def test_a_class_conditional_model_is_validated_given_its_classes() -> None:
    record = validator(samples=50)(linear(1.1, classes=2), dataset(), None)
    data = dataset()
    by_class = np.stack([linear(classes=2).truth(data.rows("valid"), jnp.eye(2)[y]) for y in (0, 1)], axis=1)
    exact = by_class[np.arange(60), data.labels("valid")]
    assert abs(record.value - np.mean(exact)) < 4 * record.monte_carlo_error + 0.02
    assert "given its class" in str(record.note)


def test_seeds_are_summarised_by_their_own_spread() -> None:
    one = Estimate(-1.0, 0.1, 0.01, 10, "lower_bound", "importance-5")
    record = summary_of_seeds([one, dataclasses.replace(one, value=-2.0)])
    assert record.value == -1.5 and record.standard_error == pytest.approx(0.5)
    with pytest.raises(ReverieError, match="differently"):
        summary_of_seeds([one, dataclasses.replace(one, estimator="elbo-1")])


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReverieError, match="cannot be written"):
        write_npz(tmp_path / "file" / "x.npz", a=np.zeros(1))


def test_results_hold_what_the_run_folder_stores() -> None:
    found = importance(linear(classes=2), rows_of(5), samples=2)
    assert isinstance(found, RowResult)
    assert {n: a.shape for n, a in found.arrays().items()} == {
        "values": (5,), "variances": (5,), "ess": (5,), "indices": (5,), "by_class": (5, 2),
    }  # fmt: skip
