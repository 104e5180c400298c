"""The ladder network: its limits, its denoising functions, batch statistics, and what unlabelled rows are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tests.oracles import assert_kills, assert_same, gauss_hermite

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.models.conditional import _ladder, ladder
from reverie.train.draws import Feed
from reverie.train.recipe import Brief
from reverie.train.statistics import exact_statistics

WIDTHS = (6, 5, 4, 3)


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def net(costs: tuple[float, ...] = (10.0, 1.0, 0.5, 0.2), combinator: str = "gauss", seed: int = 0) -> _ladder.Ladder:
    """Random weights everywhere, the denoising functions' too."""
    rng = np.random.default_rng(seed)
    made = _ladder.untrained(jax.random.key(seed), WIDTHS, costs, combinator)
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a) + 0.3 * rng.normal(size=a.shape)), made)


def batch_of(rows: int = 8, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, taught = (jnp.asarray(rng.uniform(size=(rows, WIDTHS[0]))) for _ in range(2))
    return {"x": x, "taught": taught, "given": jnp.eye(3)[jnp.asarray(rng.integers(0, 3, rows))], "step": 0}


def by_numpy(model: _ladder.Ladder, batch: dict[str, Any], key: Any, noise: float) -> float:
    """The cost of spec 8.1, pass by pass and layer by layer."""
    passes = (*batch["taught"].shape[:1],)
    drawn = np.asarray(noise * jax.random.normal(key, (3, *passes, sum(WIDTHS)), batch["x"].dtype))
    parts = np.split(drawn, np.cumsum(WIDTHS)[:-1], axis=-1)
    scaled = lambda a: ((a - a.mean(0)) / np.sqrt(a.var(0) + 1e-10), a.mean(0), np.sqrt(a.var(0) + 1e-10))  # noqa: E731

    def up(x: Any, which: int | None) -> Any:
        added = lambda layer: 0.0 if which is None else parts[layer][which]  # noqa: E731
        h = np.asarray(x) + added(0)
        z, stats, fields = [h], [(0.0, 1.0)], h
        for number, layer in enumerate(model.layers, 1):
            normal, mean, deviation = scaled(h @ np.asarray(layer.weight))
            z.append(normal + added(number))
            stats.append((mean, deviation))
            fields = (z[-1] + np.asarray(layer.norm.shift)) * (np.asarray(layer.norm.scale) if number == 3 else 1.0)
            h = np.maximum(fields, 0)
        return z, stats, fields

    taught, noisy, clean = up(batch["taught"], 0), up(batch["x"], 1), up(batch["x"], None)
    p = np.exp(taught[2]) / np.exp(taught[2]).sum(axis=1, keepdims=True)
    total = -(np.log(p) * np.asarray(batch["given"])).sum(axis=1).mean()
    above = np.exp(noisy[2]) / np.exp(noisy[2]).sum(axis=1, keepdims=True)
    for number in (3, 2, 1, 0):
        rung = model.rungs[number]
        u = scaled(above if rung.weight is None else above @ np.asarray(rung.weight))[0]
        a = np.asarray(rung.combine.a).reshape(10, -1)  # type: ignore[union-attr]
        s = lambda t: 1 / (1 + np.exp(-t))  # noqa: E731
        mean = a[0] * s(a[1] * u + a[2]) + a[3] * u + a[4]
        share = a[5] * s(a[6] * u + a[7]) + a[8] * u + a[9]
        above = (noisy[0][number] - mean) * share + mean
        m, d = clean[1][number]
        total += model.costs[number] / WIDTHS[number] * ((clean[0][number] - (above - m) / d) ** 2).sum(axis=1).mean()
    return float(total)


def test_the_cost_is_the_papers(double: None) -> None:
    model, batch, key = net(), batch_of(), jax.random.key(3)
    found, _, shown = jax.jit(ladder.objective(0.3))(model, batch, None, key)
    assert float(found) == pytest.approx(by_numpy(model, batch, key, 0.3), rel=1e-9)
    assert float(shown["cross_entropy"] + shown["denoising"]) == pytest.approx(float(found), rel=1e-12)


def test_without_costs_it_is_the_noisy_supervised_net(double: None) -> None:
    batch, key = batch_of(), jax.random.key(0)
    supervised = net((0.0,) * 4)
    assert supervised.rungs == ()

    def plain(layers: Any) -> Any:
        noise = 0.3 * jax.random.normal(key, (1, 8, sum(WIDTHS)), batch["x"].dtype)[0]
        parts = jnp.split(noise, np.cumsum(WIDTHS)[:-1], axis=1)
        h = fields = batch["taught"] + parts[0]
        for layer, more in zip(layers, parts[1:], strict=True):
            pre = h @ layer.weight
            fields = (pre - pre.mean(0)) / jnp.sqrt(pre.var(0) + 1e-10) + more + layer.norm.shift
            fields = layer.norm.scale * fields if layer is layers[-1] else fields
            h = jax.nn.relu(fields)
        return -(jax.nn.log_softmax(fields) * batch["given"]).sum(axis=1).mean()

    ours = lambda layers: ladder.objective(0.3)(replace(supervised, layers=layers), batch, None, key)[0]  # noqa: E731
    found, wanted = (jax.jit(jax.value_and_grad(one))(supervised.layers) for one in (ours, plain))
    assert_same(found, wanted, 1e-10)


def test_without_noise_both_ways_up_are_one_and_the_identity_costs_nothing(double: None) -> None:
    model, batch = net(), batch_of()
    up = model.up(jnp.stack([batch["taught"], batch["x"], batch["x"]]))
    assert_same(up.of(1), up.of(2), 0)
    # g = z~: a share of one and no mean; the input is then given back as it came.
    same = replace(model.rungs[0], combine=_ladder.Gaussian(jnp.zeros((2, 5, 6)).at[1, 4].set(1.0)))
    model = replace(model, rungs=(same, *model.rungs[1:]))
    costs = model.denoising_costs(up.of(2), up.of(1))
    assert float(costs[0]) == 0.0 and all(float(cost) > 0 for cost in costs[1:])


def test_each_pass_has_statistics_of_its_own(double: None) -> None:
    model, batch = net(), batch_of()
    up = model.up(jnp.stack([batch["taught"], 5.0 + 3.0 * batch["x"]]))
    for z in up.z[1:]:
        np.testing.assert_allclose(z.mean(axis=1), 0.0, atol=1e-9)
    alone = model.up(batch["taught"][None])
    assert_same(alone.of(0), up.of(0), 1e-12)


@pytest.mark.parametrize("combinator", ["gauss", "sig"])
def test_denoising_functions_have_the_gradients_they_should(combinator: str, double: None) -> None:
    combine = net(combinator=combinator).rungs[1].combine
    rng = np.random.default_rng(0)
    z, u = jnp.asarray(rng.normal(size=(4, 5))), jnp.asarray(rng.normal(size=(4, 5)))
    arrays = lambda tree: jax.tree.map(jnp.asarray, tree)  # noqa: E731
    told = jax.jit(lambda c, z, u: jnp.sin(jax.vmap(c)(z, u)).sum())
    check_grads(lambda *of: told(*arrays(of)), (combine, z, u), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    start = _ladder.untrained(jax.random.key(0), WIDTHS, (1.0,) * 4, combinator).rungs[1].combine
    if combinator == "sig":
        np.testing.assert_allclose(
            jax.vmap(start)(z, u), z + jax.nn.sigmoid(z), rtol=1e-6
        )  # a2 = c2 = b1 = 1, the rest 0
    else:
        np.testing.assert_array_equal(jax.vmap(start)(z, u), 0.0)


def test_of_normal_layers_the_best_function_is_linear(double: None) -> None:
    """z ~ N(c u, s^2), z~ = z + N(0, n^2): no slope of the expected cost is left at the share s^2/(s^2 + n^2)."""
    c, s, n = 0.7, 0.9, 0.4
    grid, mass = gauss_hermite(3, 12)
    u = jnp.asarray(grid[:, :1])
    z = c * u + s * grid[:, 1:2]
    noisy = z + n * grid[:, 2:]

    def slope(share: float) -> Any:
        a = jnp.zeros((2, 5, 1)).at[0, 3].set(c).at[1, 4].set(share).at[:, 1].set(1.0)
        cost = lambda a: jnp.asarray(mass) @ ((jax.vmap(_ladder.Gaussian(a))(noisy, u) - z) ** 2)[:, 0]  # noqa: E731
        return jax.grad(cost)(a)

    def check(share: float) -> None:
        assert float(jnp.abs(slope(share)).max()) < 1e-9

    assert_kills(check, s**2 / (s**2 + n**2), s / (s + n), 1.0)


def test_rows_are_told_by_statistics_of_all_training_rows(double: None) -> None:
    data = data_floor.load("digits", binarisation="means")
    model, made = ladder.recipe(Brief(data, jax.random.key(0), 1.0), hidden=(7, 5))
    done = made.finish(model, data, jax.random.key(0))  # type: ignore[misc]
    assert made.finish is exact_statistics
    rows = jnp.asarray(data.rows("train"))
    whole = model.up(rows[None])
    np.testing.assert_allclose(jax.vmap(done.logits)(rows), whole.logits[0], atol=2e-4)
    assert np.abs(jax.vmap(model.logits)(rows) - whole.logits[0]).max() > 0.1
    p = jax.vmap(done.encode)(rows[:5])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
    found = done.judge(rows[0], jnp.eye(10)[3])
    assert float(found["cross_entropy"]) == pytest.approx(-float(jnp.log(p[0, 3])), rel=1e-4)


def test_labelled_rows_are_the_chosen_ones_and_all_rows_are_learnt_from() -> None:
    from reverie.evaluate.classification import balanced

    data = data_floor.load("digits", binarisation="means")
    draw = ladder.drawing(data, 100, 50, 1)
    feed = Feed(data.training_source(), jnp.uint32(0))
    few = balanced(np.asarray(data.labels("train")), 50, 1)
    batches = [draw(jax.random.key(0), jnp.asarray(step), feed, None, None)[0] for step in range(13)]
    rows, y = data.rows("train"), np.asarray(data.labels("train"))
    for batch in batches[:2]:
        # Each of the fifty stands twice in a hundred, with its own class.
        at = [int(np.flatnonzero((rows[few] == x).all(axis=1))[0]) for x in np.asarray(batch["taught"])]
        assert (np.bincount(at, minlength=50) == 2).all()
        np.testing.assert_array_equal(np.asarray(batch["given"]).argmax(axis=1), y[few][at])
    seen = np.concatenate([np.asarray(batch["index"]) for batch in batches])
    assert len(np.unique(seen)) == 1297


def test_rungs_reach_down_to_the_lowest_cost(double: None) -> None:
    assert [net(costs).lowest for costs in ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))] == [
        0,
        2,
        3,
    ]
    gamma = net((0.0, 0.0, 0.0, 2.0))
    assert len(gamma.rungs) == 1 and gamma.rungs[0].weight is None
    cost, _, shown = jax.jit(ladder.objective(0.3))(gamma, batch_of(), None, jax.random.key(0))
    assert float(shown["denoising"]) > 0 and np.isfinite(float(cost))
    data = data_floor.load("digits", binarisation="means")
    asked = lambda **how: ladder.recipe(Brief(data, jax.random.key(0), 1.0), hidden=(7, 5), **how)[0].costs  # noqa: E731
    assert asked() == (1000.0, 10.0, 0.1, 0.1) and asked(costs=(5000.0, 0.0)) == (5000.0, 0.0, 0.0, 0.0)
    assert asked(costs=(0.0,), top_cost=0.5) == (0.0, 0.0, 0.0, 0.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The digits preset, and the same net taught by its fifty labelled rows alone."""
    place = tmp_path_factory.mktemp("runs")
    ours = reverie.train("ladder", "digits", run=place / "ladder", preset="digits")
    alone = reverie.train("ladder", "digits", run=place / "alone", preset="digits", costs=(0.0,), noise=0.5)
    return ours, alone


def test_unlabelled_rows_lower_the_error(pair: Any) -> None:
    ours, alone = (run.evaluate() for run in pair)
    assert ours["classification_error"].value < alone["classification_error"].value - 0.03
    assert list(ours) == ["classification_error", "cross_entropy"] and "Wilson" in ours["classification_error"].note
    run = pair[0]
    p = run.encode(run.data.restore(run.data.rows("test")))
    wrong = (p.argmax(axis=1) != np.asarray(run.data.labels("test"))).mean()
    assert wrong == pytest.approx(ours["classification_error"].value, abs=1e-9)
    assert "lassification error" in run.report().read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hidden": ()}, "widths"),
        ({"costs": (1.0,) * 9, "hidden": (5,)}, "costs"),
        ({"costs": (-1.0,)}, "costs"),
        ({"noise": -0.1}, "noise"),
        ({"rate": 0.0}, "rate"),
        ({"labels": 3}, "labels"),
        ({"data": np.random.default_rng(0).normal(size=(20, 3))}, "classes"),
    ],
)
def test_wrong_input_gets_one_line(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        reverie.train("ladder", **{"data": "digits", "run": tmp_path / "run", "steps": 2, **arguments})
    assert "\n" not in str(caught.value)
