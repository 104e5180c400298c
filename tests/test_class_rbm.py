"""The classification machine against enumeration: its laws, its gradients, its sweeps, and what a run does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2
from tests.oracles import assert_kills, assert_same

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.evaluate.chains import clamped_sweep
from reverie.evaluate.classification import wilson
from reverie.models.undirected import _learning as learning
from reverie.models.undirected import class_rbm as module
from reverie.models.undirected._layered import initial
from reverie.models.undirected.class_rbm import ClassRBM
from reverie.nn.units import Binary, OneHot
from reverie.prob import partition
from reverie.train.draws import Feed
from reverie.train.recipe import Brief

D, F, C = 4, 3, 3
#: Sums of squares beyond this come once in 10,000 seeds.
RARE = 1e-4


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def machine(seed: int = 0, widths: tuple[int, ...] = (D, F, C)) -> ClassRBM:
    rng = np.random.default_rng(seed)
    start = initial(jax.random.key(seed), widths, Binary(), rng.uniform(size=widths[0]), 100, 1.0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    weights = tuple(draw(*w.shape) for w in start["weights"])
    return ClassRBM(**{**start, "weights": weights, "biases": tuple(draw(n) for n in widths), "base": draw(widths[0])})


def bits(n: int) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=n)))


def joint(model: ClassRBM, beta: float = 1.0) -> np.ndarray:
    """log f_beta of every (v, y, h), by NumPy from the page's first formula; shape (2^D, C, 2^F)."""
    (w, u), (b, c, d) = (tuple(np.asarray(a) for a in part) for part in (model.weights, model.biases))
    v, h = bits(b.size), bits(c.size)
    inner = (v @ b)[:, None, None] + (h @ c)[None, None] + d[None, :, None] + (v @ w @ h.T)[:, None] + (h @ u).T[None]
    return (1 - beta) * (v @ np.asarray(model.base))[:, None, None] + beta * inner


def lse(a: np.ndarray, axis: Any = None) -> np.ndarray:
    top = a.max()
    return np.log(np.exp(a - top).sum(axis=axis)) + top


def shifted(model: ClassRBM, by: Any) -> ClassRBM:
    return replace(model, weights=(model.weights[0], by * model.weights[1]))


@pytest.mark.usefixtures("double")
def test_class_given_row_and_row_with_class_are_the_enumerated_ones() -> None:
    model, log_f = machine(), joint(machine())
    rows = jnp.asarray(bits(D))

    def check(turn: Callable[[ClassRBM], ClassRBM]) -> None:
        m = turn(model)
        told = jax.vmap(m.log_classes)(rows)
        np.testing.assert_allclose(told, lse(log_f, 2) - lse(log_f, (1, 2))[:, None], atol=1e-10)
        np.testing.assert_allclose(jax.vmap(m.log_unnormalised)(rows), lse(log_f, (1, 2)), atol=1e-10)
        for y in range(C):
            # Of one class: an ordinary machine, whose p*(v) is f(v, y) but for d_y.
            ours = jax.vmap(m.of_class(y).log_unnormalised)(rows) + m.biases[2][y]
            np.testing.assert_allclose(ours, lse(log_f, 2)[:, y], atol=1e-10)

    forgets = lambda m: replace(m, biases=(*m.biases[:2], jnp.zeros(C)))  # noqa: E731
    assert_kills(check, lambda m: m, lambda m: shifted(m, -1.0), forgets)
    h_of = np.exp(log_f - lse(log_f, (1, 2))[:, None, None]).sum(axis=1) @ bits(F)
    codes = np.asarray(jax.vmap(model.encode)(rows))
    np.testing.assert_allclose(codes[:, :F], h_of, atol=1e-10)
    np.testing.assert_allclose(codes[:, F:].sum(axis=1), 1.0)


@pytest.mark.usefixtures("double")
def test_log_z_is_the_sum_over_rows_classes_and_hidden_units_from_either_side() -> None:
    model = machine(1)
    assert partition.enumerated(model) == pytest.approx(lse(joint(model)), abs=1e-9)
    over_rows = jax.nn.logsumexp(jax.vmap(model.log_unnormalised)(jnp.asarray(bits(D))))
    assert float(over_rows) == pytest.approx(lse(joint(model)), abs=1e-9)
    assert float(model.base_log_partition()) == pytest.approx(lse(joint(model, 0.0)), abs=1e-9)
    every = jnp.asarray(bits(F))
    for beta in (0.0, 0.3, 1.0):
        found = jax.vmap(lambda h, beta=beta: model.log_marginal((h,), beta))(every)
        np.testing.assert_allclose(found, lse(joint(model, beta), (0, 1)), atol=1e-10)


def assert_law(found: np.ndarray, p: np.ndarray) -> None:
    """Chi-square, cells of fewer than five expected put together; false once in 10,000."""
    n, counts = found.size, np.bincount(found, minlength=p.size)
    large = p * n >= 5
    pairs = [*zip(counts[large], p[large] * n, strict=True), (counts[~large].sum(), p[~large].sum() * n)]
    statistic = sum((s - w) ** 2 / w for s, w in pairs if w > 0)
    assert statistic < chi2.ppf(1 - RARE, max(len(pairs) - 1, 1)), statistic


def number(states: Any) -> np.ndarray:
    return (np.asarray(states) @ (2 ** np.arange(np.shape(states)[1])[::-1])).astype(int)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_a_sweep_leaves_the_law(beta: float) -> None:
    model, n = machine(2), 20_000
    p = np.exp(lse(joint(model, beta), (0, 1)))
    p /= p.sum()
    start = jnp.asarray(bits(F)[np.random.default_rng(0).choice(p.size, n, p=p)])

    def check(other: ClassRBM) -> None:
        (after,) = jax.vmap(lambda k, h: other.sweep(k, (h,), beta))(jax.random.split(jax.random.key(1), n), start)
        assert_law(number(after), p)

    # Near the base law a wrong sign of U is too little to be seen in one sweep.
    assert_kills(check, model, *([shifted(model, -1.0)] if beta == 1.0 else []))


@pytest.mark.usefixtures("double")
def test_draws_given_a_row_and_completions_with_the_class_unknown_have_their_law() -> None:
    model, n, log_f = machine(3), 20_000, joint(machine(3))
    row = 5
    (h,) = jax.vmap(lambda k: model.draw_state(k, jnp.asarray(bits(D)[row])))(jax.random.split(jax.random.key(0), n))
    given = np.exp(lse(log_f[row], 0))
    assert_law(number(h), given / given.sum())
    # Two cells held: h after clamped sweeps from draws of its law given them has that law still.
    known, x = jnp.asarray([True, True, False, False]), jnp.asarray(bits(D)[row])
    agree = (bits(D)[:, :2] == bits(D)[row, :2]).all(axis=1)
    p = np.exp(lse(log_f[agree], (0, 1)))
    p /= p.sum()
    start = jnp.asarray(bits(F)[np.random.default_rng(0).choice(p.size, n, p=p)])
    keys = jax.random.split(jax.random.key(2), n)
    (after,) = jax.vmap(lambda k, h: clamped_sweep(model, k, (h,), x, known))(keys, start)
    assert_law(number(after), p)


@pytest.mark.usefixtures("double")
def test_the_discriminative_gradient_is_that_of_log_p_of_the_class() -> None:
    model = machine(4)
    rng = np.random.default_rng(0)
    rows, given = jnp.asarray(rng.integers(0, 2, (7, D)) * 1.0), jax.nn.one_hot(rng.integers(0, C, 7), C)
    value, truth = jax.value_and_grad(lambda m: (jax.vmap(m.log_classes)(rows) * given).sum(axis=1).mean())(model)
    assert_kills(
        lambda m: assert_same(module.discriminative(m, rows, given)[:2], (truth, value)), model, shifted(model, 1.1)
    )


def expected(model: ClassRBM, seen: list[tuple[float, int, int]]) -> ClassRBM:
    """The exact gradient from weighted (v, y): the data's side, against the model's own law; h in expectation."""

    def layers(row: int, y: int) -> dict[int, Any]:
        x = {0: jnp.asarray(bits(D)[row]), 2: jnp.eye(C)[y]}
        return jax.tree.map(lambda a: a[None], {**x, **model.means(model.odd, x)})

    p = np.exp(lse(joint(model), 2) - lse(joint(model)))
    none = tuple(jnp.zeros(n) for n in (D, F, C))
    # The gradient is a difference of two averages, so that of one state each, weighted, is exact.
    total = jax.tree.map(jnp.zeros_like, model)
    anchor = layers(0, 0)
    sides = [(w, layers(row, y)) for w, row, y in seen]
    sides += [(-p[row, y], layers(row, y)) for row in range(2**D) for y in range(C)]
    for weight, one in sides:
        part = learning.average_gradient(model, one, anchor, none, False)
        total = jax.tree.map(lambda t, g, weight=weight: t + weight * g, total, part)
    return total


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("known", [True, False])
def test_the_generative_gradient_is_that_of_the_joint_law_or_of_the_row_alone(known: bool) -> None:
    model, row, y = machine(5), 6, 1
    x, h = jnp.asarray(bits(D)[row]), jnp.asarray(bits(F))

    def exact(m: ClassRBM) -> Any:
        log_z = jax.nn.logsumexp(jax.vmap(lambda s: m.log_marginal((s,)))(h))
        return m.log_unnormalised(x) + (m.log_classes(x)[y] if known else 0.0) - log_z

    # Of a row without its class, `posterior` draws the class from p(y | x): in expectation, these weights.
    seen = [(1.0, row, y)] if known else [(float(jnp.exp(model.log_classes(x)[k])), row, k) for k in range(C)]
    assert_same(expected(model, seen), jax.grad(exact)(model))


@pytest.mark.usefixtures("double")
def test_classes_that_may_not_be_looked_at_are_drawn_given_the_row() -> None:
    model, n = machine(6), 20_000
    rows, wrong = jnp.tile(jnp.asarray(bits(D)[9]), (n, 1)), jnp.tile(jnp.eye(C)[0], (n, 1))
    layers, _ = module.posterior(model, rows, wrong, jnp.zeros(n, bool), jax.random.key(0))
    assert_law(np.asarray(layers[2]).argmax(axis=1), np.exp(np.asarray(model.log_classes(rows[0]))))
    layers, (h,) = module.posterior(model, rows, wrong, jnp.ones(n, bool), jax.random.key(0))
    assert (np.asarray(layers[2]).argmax(axis=1) == 0).all()
    assert np.abs(np.asarray(h).mean(axis=0) - np.asarray(layers[1][0])).max() < 4.5 * 0.5 / np.sqrt(n)


@pytest.mark.usefixtures("double")
def test_one_hot_units_add_up() -> None:
    field = jnp.asarray([0.3, -1.0, 2.0])
    units = OneHot()
    assert units.log_partition(field).shape == (1,)
    assert float(units.log_partition(field)[0]) == pytest.approx(float(np.log(np.exp(np.asarray(field)).sum())))
    assert_same(jax.grad(lambda f: units.log_partition(f).sum())(field), units.mean(field))
    draws = jax.vmap(lambda k: units.sample(k, field))(jax.random.split(jax.random.key(0), 20_000))
    assert (np.asarray(draws).sum(axis=1) == 1).all()
    assert_law(np.asarray(draws).argmax(axis=1), np.asarray(units.mean(field)))


def test_the_hybrid_loss_is_the_sum_of_its_parts_and_decays_weights_alone() -> None:
    digits = data_floor.load("digits")
    model, recipe = module.recipe(Brief(digits, jax.random.key(0), 1.0), hidden=5, learn="hybrid", alpha=0.5, batch=20)
    feed = Feed(digits.training_source(), jnp.int32(0))
    batch, carry = recipe.draw(jax.random.key(1), jnp.int32(0), feed, model, recipe.carry)
    assert_same(batch["taught"][0], batch["x"])

    def down(learn: Any, alpha: float, decay: float) -> ClassRBM:
        how = learning.Learning(batch=20, decay=decay)
        return module.gradients(learn, alpha, how, 10.0)(model, batch, carry, jax.random.key(2))[0]

    parts = jax.tree.map(
        lambda a, b: a + 0.5 * b, down("discriminative", 0.0, 0.0), down("generative", 0.0, 0.0)
    )  # fmt: skip
    assert_same(down("hybrid", 0.5, 0.0), parts, 1e-6)
    decay = jax.tree.map(jnp.subtract, down("hybrid", 0.5, 0.1), parts)
    assert_same(decay.weights, tuple(0.1 * w for w in model.weights), 1e-6)
    assert_same(decay.biases, tuple(0.0 * b for b in model.biases), 1e-6)


def test_few_labels_are_as_many_of_each_class_and_the_only_ones_looked_at() -> None:
    digits = data_floor.load("digits")
    model, recipe = module.recipe(Brief(digits, jax.random.key(0), 1.0), hidden=5, labels=20, batch=400)
    feed = Feed(digits.training_source(), jnp.int32(0))
    seen = set()
    for step in range(4):
        batch, _ = recipe.draw(jax.random.key(step), jnp.int32(step), feed, model, recipe.carry)
        seen |= set(np.asarray(batch["index"])[np.asarray(batch["known"])].tolist())
        classes = np.asarray(batch["taught"][1]).argmax(axis=1)
        assert (np.bincount(classes, minlength=10) == 40).all()
    assert len(seen) == 20
    assert (np.bincount(np.asarray(digits.labels("train"))[sorted(seen)], minlength=10) == 2).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    place = tmp_path_factory.mktemp("runs") / "run"
    return reverie.train("class-rbm", "digits", run=place, hidden=12, learn="generative", batch=50, epochs=40, rate=0.1)  # type: ignore[return-value]


def test_a_run_is_judged_by_the_rows_and_by_the_classes(run: reverie.Run) -> None:
    found = run.evaluate()
    assert list(found) == ["log_likelihood", "classification_error", "cross_entropy"]
    assert found["log_likelihood"].kind == "exact" and found["log_likelihood"].value > -26
    error = found["classification_error"]
    assert error.kind == "exact" and error.unit == "fraction" and error.value < 0.3
    low, high = wilson(round(error.value * 300), 300)
    assert f"{low:.4f} to {high:.4f}" in (error.note or "")
    rows, truth = run.data.restore(run.data.rows("test")), run.data.labels("test")
    p = run.encode(rows)[:, 12:]
    assert error.value == pytest.approx(np.mean(p.argmax(axis=1) != truth))
    assert found["cross_entropy"].value == pytest.approx(-np.log(p[np.arange(300), truth]).mean(), rel=1e-4)


def test_draws_and_completions_of_a_class_are_of_that_class(run: reverie.Run) -> None:
    for label in ("0", "7"):
        p = run.encode(run.sample(60, label=label, sweeps=300))[:, 12:]
        # A tiny machine confuses some; one that ignored the class would be right for 6 of 60.
        assert (p.argmax(axis=1) == int(label)).sum() > 25
    x = run.data.restore(run.data.rows("test"))[:5]
    mask = np.random.default_rng(0).random(x.shape) < 0.5
    filled = [run.impute(x, mask, iterations=20, label=label).reshape(x.shape) for label in (None, "3")]
    for one in filled:
        np.testing.assert_array_equal(one[mask], x[mask])
    assert not np.allclose(*filled)
    with pytest.raises(ReverieError, match="eleven"):
        run.sample(1, label="eleven")


def test_data_without_classes_are_refused_in_one_line(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 2, (50, 6))
    for more, words in (({}, "no classes"), ({"likelihood": "gaussian"}, "binary")):
        with pytest.raises(ReverieError, match=words) as caught:
            reverie.train("class-rbm", x, run=tmp_path / "run", steps=2, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_learnt_to_tell_classes_weights_are_chosen_by_telling_them(tmp_path: Path) -> None:
    how: dict[str, Any] = {"hidden": 12, "learn": "discriminative", "batch": 50, "epochs": 20}
    run = reverie.train("class-rbm", "digits", run=tmp_path / "run", **how)
    valid = [line["valid"] for line in run.journal() if "valid" in line]  # type: ignore[union-attr]
    assert {one["estimator"] for one in valid} == {"accuracy"} and valid[-1]["value"] > 0.8
    # What is not learnt stays where it was.
    assert np.array_equal(run.model.biases[0], run.model.base)  # type: ignore[union-attr]
