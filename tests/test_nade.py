"""NADE against enumeration: it sums to one, looks back alone, draws from its own law; its gradient; what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.autoregressive import ALPHA, frequencies_p, jittered, log_probs, rows, slopes, total

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.evaluate import explicit, measure
from reverie.models.directed import nade
from reverie.models.directed._autoregressive import drawn_order
from reverie.models.directed.nade import NADE, batch_log_probs, says_in_order, untrained
from reverie.nn.blocks import ACTIVATIONS
from reverie.nn.cells import Cells
from reverie.nn.laws import base_logits


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def some(width: int, hidden: int = 5, ordering: int = 1, seed: int = 0) -> NADE:
    return jittered(untrained(jax.random.key(seed), Cells.binary(width), jnp.zeros(width), hidden, ordering), seed)


def by_hand(model: NADE, x: np.ndarray) -> np.ndarray:
    """The definition, cell by cell."""
    w, v, c, b, o = (np.asarray(a, float) for a in
                     (model.weight, model.output, model.hidden_bias, model.cell_bias, model.order))  # fmt: skip
    found, before = np.zeros(len(x)), []
    for d in o.astype(int):
        h = 1 / (1 + np.exp(-(c + sum((w[i] * x[i] for i in before), start=np.zeros_like(c)))))
        found[d] = v[d] @ h + b[d]
        before.append(d)
    return found


@pytest.mark.parametrize("ordering", [0, 1, 7])
@pytest.mark.parametrize("width", [1, 2, 5, 10])
def test_it_sums_to_one_for_any_weights_and_order(width: int, ordering: int, double: None) -> None:
    model = some(width, ordering=ordering, seed=width)
    assert abs(total(model, width) - 1.0) < 1e-10
    x = rows(width)[-2 % 2**width]
    np.testing.assert_allclose(model.says(jnp.asarray(x))[:, 0], by_hand(model, x), atol=1e-12)


class Peeks(NADE):
    """A mutant: the field has the cell itself in it already (a triangle with its diagonal)."""

    def batch_says(self, x: Any) -> Any:
        o = self.order
        a = self.hidden_bias + jnp.cumsum(x[:, o, None] * self.weight[o], axis=1)
        said = (jax.nn.sigmoid(a) * self.output[o]).sum(-1)
        return (jnp.zeros_like(said).at[:, o].set(said) + self.cell_bias)[..., None]


class OtherWay(NADE):
    """A mutant: it looks at the cells after each one."""

    def batch_says(self, x: Any) -> Any:
        return replace(NADE(**vars(self)), order=self.order[::-1]).batch_says(x)


def test_a_logit_depends_on_the_cells_before_it_alone(double: None) -> None:
    model = some(9, ordering=3)
    order = np.asarray(model.order)
    before, others = slopes(lambda x: model.says(x)[:, 0], order)
    assert others == 0.0 < 1e-3 < before
    for mutant in (Peeks, OtherWay):
        wrong = mutant(**vars(model))
        assert slopes(lambda x, m=wrong: m.says(x)[:, 0], order)[1] > 1e-3
    # A triangle with its diagonal is no law any more; the other way round it is one, of another order.
    assert abs(total(Peeks(**vars(model)), 9) - 1.0) > 1e-3
    assert abs(total(OtherWay(**vars(model)), 9) - 1.0) < 1e-10


def test_draws_are_from_its_own_law() -> None:
    """False alarm: a thousandth, at a fixed seed."""
    model = jittered(some(6, ordering=2), 5, 1.0)
    draws, means = jax.vmap(model.sample)(jax.random.split(jax.random.key(1), 20_000))
    law = np.exp(log_probs(model, rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), law / law.sum()) > ALPHA
    np.testing.assert_allclose(means, jax.nn.sigmoid(jax.vmap(model.says)(draws)[..., 0]), atol=1e-5)
    other = np.exp(log_probs(replace(model, order=model.order[::-1]), rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), other / other.sum()) < 1e-6


@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (4, 6)])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("width", [1, 4, 7, 16])
def test_the_written_gradient_is_the_derivative(
    width: int, activation: str, features: int, outputs: int, double: None
) -> None:
    """Against automatic differentiation of the definition; chunks of cells that divide their number and that do not."""
    rng = np.random.default_rng(width)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    at = (draw(width, features, 3), draw(width, outputs, 3), draw(3), draw(5, width, features))
    mix = draw(5, width, outputs)

    def plain(weight: Any, output: Any, bias: Any, x: Any) -> Any:
        own = jnp.einsum("bdf,dfh->bdh", x, weight)
        before = jnp.cumsum(own, axis=1) - own
        return jnp.einsum("bdh,dph->bdp", ACTIVATIONS[activation](bias + before), output)

    np.testing.assert_allclose(says_in_order(activation, *at), plain(*at), atol=1e-12)
    ours, theirs = (jax.grad(lambda *a, f=f: (mix * f(*a)).sum(), argnums=(0, 1, 2, 3))(*at)
                    for f in (partial(says_in_order, activation), plain))  # fmt: skip
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


def test_extreme_logits_stay_finite(double: None) -> None:
    model = jittered(some(8), 0, 1e3)
    value, slope = jax.value_and_grad(lambda m: batch_log_probs(m, jnp.asarray(rows(8)[:20])).sum(), allow_int=True)(
        model
    )
    assert np.isfinite(value) and np.isfinite(slope.weight).all() and np.isfinite(slope.hidden_bias).all()


def test_the_order_is_that_of_its_number_and_the_width_alone() -> None:
    first, second = (np.asarray(drawn_order(n, 30)) for n in (1, 2))
    assert sorted(first.tolist()) == list(range(30)) and not np.array_equal(first, second)
    np.testing.assert_array_equal(first, drawn_order(1, 30))
    np.testing.assert_array_equal(drawn_order(0, 4), [0, 1, 2, 3])
    assert np.array_equal(some(30, seed=0).order, some(30, seed=1).order)


def test_an_untrained_one_is_near_independent_columns_and_as_large_as_it_says(double: None) -> None:
    mean = np.asarray([0.1, 0.5, 0.9])
    model = replace(untrained(jax.random.key(0), Cells.binary(3), base_logits(mean), 4, 1), output=jnp.zeros((3, 4)))
    x = np.asarray([1.0, 0.0, 1.0])
    assert float(model.log_prob(jnp.asarray(x))) == pytest.approx(np.log(0.1 * 0.5 * 0.9), abs=1e-5)
    assert (
        reverie.arrays.count(untrained(jax.random.key(0), Cells.binary(784), jnp.zeros(784), 500, 1))
        == 2 * 784 * 500 + 784 + 500
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    return reverie.train("nade", "digits", run=tmp_path_factory.mktemp("nade") / "run", **nade.TINY)


def test_every_verb_has_its_number(run: reverie.Run) -> None:
    found = run.evaluate()["log_likelihood"]
    assert (found.kind, found.estimator, found.monte_carlo_error) == ("exact", "exact", 0.0)
    x = run.data.restore(run.data.rows("test"))
    scores = run.score(x)
    assert scores.record.kind == "exact" and scores.record.monte_carlo_error == 0.0
    assert scores.values.mean() == pytest.approx(found.value, abs=1e-5)
    # A row alone scores as it does among others, to the last bit.
    assert run.score(x[5:6]).values[0] == scores.values[5]
    np.testing.assert_allclose(scores.values[:4], log_probs(run.model, run.data.rows("test")[:4]), atol=1e-4)
    assert run.journal()[-1]["valid"]["estimator"] == "exact"
    assert run.encode(x[:3]).shape == (3, 16)


def test_what_it_cannot_do_is_refused_with_what_can(run: reverie.Run) -> None:
    x = run.data.restore(run.data.rows("test"))[:2]
    with pytest.raises(ReverieError, match=r"reconstruct: a nade cannot; it can: .*score.*impute"):
        run.reconstruct(x)
    with pytest.raises(ReverieError, match="estimator: 'importance' is not one of exact"):
        run.evaluate(estimator="importance")
    with pytest.raises(ReverieError, match="temperatures: exact of a NADE"):
        run.evaluate(temperatures=5)
    with pytest.raises(ReverieError, match="'ais' is not one of exact"):
        run.evaluate(estimator="ais", variance=0.1)


@pytest.mark.parametrize(
    ("x", "more", "words"),
    [
        (np.eye(50, 4), {"components": 0}, "components: 0"),
        (np.eye(50, 4), {"floor": 1.5}, "floor: 1.5"),
        (np.eye(50, 4) + 1, {"likelihood": "counts"}, "word counts have no order"),
        (np.eye(50, 4), {"hidden": 0}, "hidden: 0"),
        (np.eye(50, 4), {"ordering": -1}, "ordering: -1"),
        (np.eye(50, 4), {"batch": 500}, "batch: 500"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(x: np.ndarray, more: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=words):
        reverie.train("nade", x, run=tmp_path / "run", **more)


def test_the_report_tells_how_it_draws(run: reverie.Run) -> None:
    page = run.report().read_text(encoding="utf-8")
    assert "cells are drawn one after the other" in page and "codes h are drawn" not in page
    assert "exact" in page


class Toy(explicit.Explicit):
    """Two classes of independent columns, each class a formula."""

    logits: jax.Array
    classes: int = 2
    conditional: bool = True

    def log_prob(self, x: Any, given: Any = None) -> Any:
        a = given @ self.logits
        return (x * a - jnp.logaddexp(0.0, a)).sum()


def test_a_class_conditional_formula_gets_its_marginal() -> None:
    logits = np.asarray([[1.0, -2.0], [0.5, 3.0]])
    x = rows(2).astype(np.float32)
    each = np.stack([(x * a - np.logaddexp(0, a)).sum(1) for a in logits], axis=1)
    found = explicit.exact(Toy(jnp.asarray(logits)), x, class_prior=np.asarray([0.25, 0.75]))
    np.testing.assert_allclose(found.values, np.log(np.exp(each) @ [0.25, 0.75]), atol=1e-5)
    assert found.kind == "exact" and found.by_class is not None and found.by_class.shape == (4, 2)
    with pytest.raises(ReverieError, match="samples: 0"):
        explicit.exact(Toy(jnp.asarray(logits)), x, samples=0)


def test_samples_of_one_formula_are_said_to_change_nothing(run: reverie.Run) -> None:
    plain, asked = (run.evaluate(rows=20, **how)["log_likelihood"] for how in ({}, {"samples": 64}))
    assert (plain.value, plain.estimator, plain.note) == (asked.value, "exact", None)
    assert asked.estimator == "exact" and str(asked.note).startswith("samples change nothing")
    assert str(plain).endswith("(exact, n=20 of 300)"), "exact is not said twice"


def test_an_evaluation_that_was_stopped_goes_on(run: reverie.Run, tmp_path: Path) -> None:
    data = data_floor.load("digits")
    part, _ = measure.evaluate(run.model, data, minutes=1e-9, resume=tmp_path / "partial.npz")
    assert 0 < part["log_likelihood"].n < data.size("test") and part["log_likelihood"].kind == "exact"
    whole, _ = measure.evaluate(run.model, data, resume=tmp_path / "partial.npz")
    assert whole["log_likelihood"].value == pytest.approx(run.evaluate()["log_likelihood"].value, abs=1e-9)
