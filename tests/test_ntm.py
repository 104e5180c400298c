"""The Neural Turing Machine and the LSTM baseline: copying by hand-made weights, gradients, padding, lessons, runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import reverie
from reverie import data as data_floor
from reverie import listing
from reverie.errors import ReverieError
from reverie.evaluate import steps
from reverie.models.conditional import _sequences, lstm, ntm
from reverie.nn import recurrent
from reverie.nn.blocks import Linear
from reverie.prob.answering import Answering, nats, parted, run
from reverie.report import steps as figure
from reverie.train.draws import Feed
from reverie.train.recipe import Brief

KEY = jax.random.key(0)


def machine(source: str = "copy:3", **settings: Any) -> tuple[Answering, Any, Any]:
    data = data_floor.load(source)
    module = lstm if settings.pop("lstm", False) else ntm
    return (*module.recipe(Brief(data, KEY, 1.0), **settings), data)


def count(model: Answering) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array)))


def test_golden_parameter_counts() -> None:
    """Of our own reckoning: the paper's counts cannot be reproduced from its text."""
    copy, lstm_copy = machine()[0], machine(controller="lstm")[0]
    # The controller, two heads, the answer, where the heads begin, and what was read before the first step.
    assert count(copy) == 30 * 100 + 101 * (2 * 26 + 40) + 121 * 8 + 256 + 20
    assert count(lstm_copy) == (129 + 1) * 400 + 101 * 92 + 121 * 8 + 256 + 20 + 200
    assert count(machine(lstm=True)[0]) == 4 * 256 * (9 + 256 + 1 + 2 * (512 + 1)) + 257 * 8 + 6 * 256


def by_hand(slots: int) -> ntm.NTM:
    """A machine of weights set by hand: its writer moves on at each step; at the delimiter its reader finds the mark.

    Columns of the memory: the vector, a mark at the first slot, and one that is 1 in the first read alone, by which the
    controller knows that it begins.  Nothing is written for a bit that is 0, so that silence writes nothing.
    """
    model, _, _ = machine(units=(10,), slots=slots, width=10)
    first, told, answer = np.zeros((19, 10)), np.zeros((10, 52)), np.zeros((20, 8))
    first[np.arange(9), np.arange(9)] = first[18, 9] = 100.0
    sure = np.full(10, -50.0)
    (reader, writer, add), bias = (0, 16, 42), np.zeros(52)
    bias[[reader + 8, writer + 8]] = 20.0  # The key: the mark.
    bias[[reader + 10, writer + 10, reader + 12, writer + 12]] = 20.0  # Strength and sharpness.
    told[8, reader + 11], bias[writer + 11] = 20.0, -20.0  # The gate is open at the delimiter, and at no other step.
    told[8, [reader + 13, reader + 15]] = 20.0, -20.0  # Back by one there, else on by one.
    bias[[reader + 14, writer + 14, writer + 13]], bias[writer + 15] = -20.0, 20.0
    small = np.arctanh(0.1)
    told[np.arange(8), add + np.arange(8)], bias[add : add + 8] = small / 2, small / 2
    told[9, add + 8], bias[add + 8], bias[32:42] = 10.0, 10.0, -20.0
    answer[10 + np.arange(8), np.arange(8)] = 400.0
    places, before = np.zeros((2, slots)), np.zeros((1, 10))
    places[:, -1], before[0, 9] = 60.0, 20.0
    layer = lambda weight, bias: Linear(jnp.asarray(weight), jnp.asarray(bias))  # noqa: E731
    return replace(
        model, controller=(layer(first, sure),), heads=layer(told, bias), answer=layer(answer, np.full(8, -20.0)),
        places=jnp.asarray(places), first_reads=jnp.asarray(before),
    )  # fmt: skip


def test_weights_set_by_hand_copy_any_length_up_to_the_memory_s_size() -> None:
    lengths = {n: data_floor.load(f"copy:{n}").rows("test", 0, 20) for n in (1, 7, 12, 15)}
    with jax.enable_x64(True):
        model = by_hand(12)
        for n, rows in lengths.items():
            found = jax.jit(jax.vmap(model.judge))(jnp.asarray(rows, float))
            right = found["wrong_bits"] == 0
            # A memory that is too small forgets, and nothing else happens.
            assert right.all() if n <= 12 else not right.any()
            assert jnp.isfinite(found["bits_per_sequence"]).all()
            assert n > 12 or found["bits_per_sequence"].max() < 1e-3
        # What it does is seen: the reader goes where the writer went, one slot a step.
        heard, _ = parted(model, jnp.asarray(lengths[7][:1], float))
        inside = run(model, heard, trace=True).trace
        np.testing.assert_array_equal(inside["writes"][0, :7, 0].argmax(axis=1), np.arange(7))
        np.testing.assert_array_equal(inside["reads"][0, 8:, 0].argmax(axis=1), np.arange(7))


@pytest.mark.parametrize(
    "settings",
    [
        {"units": (4,)},
        {"units": (4, 3), "controller": "lstm", "reads": 2, "writes": 2, "reach": 2},
        {"units": (4,), "read_after_write": False, "reads": 2},
        {"units": (3, 4), "lstm": True},
    ],
)
def test_gradients_of_whole_sequences_are_finite_differences(settings: dict) -> None:
    memory = {} if settings.get("lstm") else {"slots": 5, "width": 3}
    rows = data_floor.load("copy:2").rows("test", 0, 2)
    with jax.enable_x64(True):
        model, recipe, _ = machine("copy:2", **memory, **settings)
        arrays, rest = eqx.partition(model, eqx.is_inexact_array)
        rng = np.random.default_rng(0)
        # Away from the start, where the memory is all but empty and everything is steep.
        flat, back = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a + 0.5 * rng.normal(size=a.shape)), arrays))

        @jax.jit
        def loss(numbers: jax.Array) -> jax.Array:
            batch = {"x": jnp.asarray(rows, float)}
            return _sequences.objective(eqx.combine(back(numbers), rest), batch, recipe.carry, KEY)[0]

        way = jnp.asarray(rng.normal(size=(3, flat.size)))
        slopes = [(loss(flat + 1e-5 * w) - loss(flat - 1e-5 * w)) / 2e-5 for w in way]
        np.testing.assert_allclose(way @ jax.grad(loss)(flat), slopes, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"slots": 8, "width": 4}, {"slots": 8, "controller": "lstm"}, {"lstm": True}])
def test_padding_and_neighbours_change_nothing(settings: dict) -> None:
    model, recipe, data = machine("copy:1-4", units=(10,), **settings)
    rows = jnp.asarray(data.rows("train", 0, 8))
    padded = jnp.pad(rows.reshape(8, *data.shape), ((0, 0), (0, 15), (0, 0)), constant_values=jnp.nan).reshape(8, -1)
    cost = jax.jit(lambda model, x: jax.value_and_grad(
        lambda m: _sequences.objective(m, {"x": x}, recipe.carry, KEY)[0])(model))  # fmt: skip
    (plain, slope), (longer, same) = cost(model, rows), cost(model, padded)
    # To rounding: a sum over more numbers, the others zero, is added up in another order.
    np.testing.assert_allclose(plain, longer, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    heard, answers = parted(model, rows)
    together = nats(run(model, heard).logits, answers).sum(axis=(1, 2))
    for row, both in [*zip(rows, together, strict=True)][:2]:
        own = row.reshape(data.shape)
        alone = own[~jnp.isnan(own[:, 0])].ravel()
        np.testing.assert_allclose(model.judge(alone)["bits_per_sequence"] * np.log(2), both, rtol=1e-5)


def test_an_lstm_is_its_equations_in_numpy() -> None:
    layer = recurrent.LSTM.init(KEY, 3, 4)
    state, h, c = layer.begin, np.zeros(4), np.zeros(4)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    for x in np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32):
        state = layer(state, jnp.asarray(x))
        i, f, g, o = np.split(np.concatenate([x, h]) @ np.asarray(layer.gates.weight) + np.asarray(layer.gates.bias), 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(state.h, h, atol=1e-6)
    np.testing.assert_array_equal(layer.gates.bias, np.repeat([0, 1, 0, 0], 4))


def draw_of(source: str, batch: int = 6) -> Callable[[int, float], np.ndarray]:
    model, recipe, data = machine(source)
    draw = jax.jit(lambda key, step, most: recipe.draw(key, step, Feed(data.training_source(), jnp.uint32(0)), model,
                   recipe.carry._replace(most=most))[0]["x"])  # fmt: skip
    return lambda step, most: np.asarray(
        draw(jax.random.fold_in(KEY, step), step, jnp.asarray(most, jnp.float32))
    ).reshape(-1, *data.shape)[:batch]


def test_training_draws_fresh_sequences_of_one_size_a_batch_no_longer_than_the_lesson() -> None:
    draw = draw_of("copy")
    sizes = set()
    for step in range(12):
        rows = draw(step, 5.0)
        steps = (~np.isnan(rows[:, :, 0])).sum(axis=1)
        assert len(set(steps)) == 1 and steps[0] <= 11
        assert not np.array_equal(rows[0, :1, :8], rows[1, :1, :8]) or not np.array_equal(rows[0], rows[2])
        sizes.add(int(steps[0]))
    assert len(sizes) >= 3
    np.testing.assert_array_equal(draw(0, 5.0), draw(0, 5.0))
    assert max((~np.isnan(draw(step, np.inf)[0, :, 0])).sum() for step in range(20)) > 31


def test_lessons_grow_when_they_are_mastered_and_not_before() -> None:
    model, recipe, data = machine("copy")
    assert recipe.carry.most == 3 and machine("copy", grow=False)[1].carry.most == np.inf
    batch = {"x": jnp.asarray(data.rows("train", 0, 4))}
    hard = _sequences.objective(model, batch, recipe.carry._replace(cost=jnp.asarray(0.11)), KEY)[1]
    assert hard.most == 3 and hard.cost > 0.11
    easy = _sequences.objective(model, batch, recipe.carry._replace(cost=jnp.asarray(0.0)), KEY)[1]
    assert easy.most == 5 and np.isclose(easy.cost, 0.2)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    place = tmp_path_factory.mktemp("runs") / "copy"
    return reverie.train("ntm", "copy:1-3", run=place, units=(50,), slots=16, width=10, epochs=16, rate=1e-3)


def test_a_small_machine_learns_to_copy_and_is_judged_at_any_length(learnt: reverie.Run) -> None:
    found = learnt.evaluate()
    record = found["bits_per_sequence"]
    assert record.unit == "bits" and record.kind == "exact" and record.n == 500
    assert record.value < 4.0 and found["wrong_bits"].value < 1.0
    longer = learnt.evaluate(data="copy:12")
    assert longer["bits_per_sequence"].value > record.value and longer["bits_per_sequence"].split == "copy-12"
    kept = learnt.folder.evaluations()
    assert {"test/network", "copy-12/network"} <= set(kept)
    with pytest.raises(ReverieError, match="channels"):
        learnt.evaluate(data="repeat-copy")


def test_ngrams_stand_beside_the_best_that_can_be_foretold(tmp_path: Path) -> None:
    run = reverie.train("lstm", "dynamic-ngrams", run=tmp_path / "run", units=(8,), steps=5)
    found = run.evaluate(rows=20)
    assert found["optimal_bits"].value < found["bits_per_sequence"].value and found["optimal_bits"].n == 20


def test_a_task_of_one_s_own_is_learnt_from_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (300, 4, 1))
    np.savez(tmp_path / "not.npz", inputs=x, targets=1 - x)
    small = {"units": (20,), "slots": 4, "width": 4, "epochs": 15, "rate": 3e-3}
    run = reverie.train("ntm", str(tmp_path / "not.npz"), run=tmp_path / "run", **small)
    # Four coins would cost 4 bits.
    assert run.evaluate()["bits_per_sequence"].value < 0.5


@pytest.mark.parametrize("settings", [{"units": ()}, {"slots": 0}, {"reads": 0}, {"rate": 0.0}, {"reach": -1}])
def test_settings_that_make_no_machine_are_refused(settings: dict) -> None:
    with pytest.raises(ReverieError, match=next(iter(settings))):
        machine(**settings)


def test_what_a_machine_does_is_shown_step_by_step(learnt: reverie.Run) -> None:
    found = learnt.memory()
    assert found["heard"].shape == (7, 9) and found["writes"].shape == (7, 1, 16) and found["got"].shape == (7, 10)
    np.testing.assert_allclose(found["writes"].sum(axis=2), 1, atol=1e-5)
    rows = learnt.data.rows("test")
    row = rows[int(np.isnan(rows).sum(axis=1).argmin())]
    cost = learnt.model.judge(jnp.asarray(row))["bits_per_sequence"]
    p, y = np.asarray(found["answers"], float), found["targets"]
    told = -np.log2(np.where(y > 0.5, p, 1 - p))[~np.isnan(y)].sum()
    np.testing.assert_allclose(told, cost, rtol=1e-3, atol=1e-3)
    assert (learnt.path / "memory.png").read_bytes()[:4] == b"\x89PNG"
    page = learnt.report().read_text()
    assert "read weightings" in page and 'id="memory"' in page


def test_the_mechanism_of_copying_is_found_where_it_is_and_nowhere_else() -> None:
    with jax.enable_x64(True):
        rows = data_floor.load("copy:7").rows("test", 0, 3)
        found = steps.watch(by_hand(12), np.asarray(rows, float))
        told = steps.mechanism(found)
        assert told["write_stride"] == told["read_stride"] == told["agreement"] == 1 and told["sharpness"] > 0.999
        still = {**found, "writes": found["writes"][:, :, [3] * 12], "reads": found["reads"][:, :, ::-1]}
        assert steps.mechanism(still)["agreement"] < 0.3
        few = {**found, "writes": np.eye(12)[[11, 0, 1] * 5][:, None], "reads": np.eye(12)[[0, 0, 0] * 5][:, None]}
        assert figure.used(few) == (11, 3)


def test_runs_are_listed_with_what_their_task_says() -> None:
    bits, wrong = {"estimator": "network", "value": 3.5, "n": 5, "unit": "bits"}, {"value": 1.0, "n": 5}
    found = {"test/network": {"weights": "0f", "bits_per_sequence": bits, "wrong_bits": wrong}}
    assert listing.best(found) == bits
    assert listing.best({"test/parzen-10": {"parzen": {"estimator": "parzen-10", "value": 3.0, "n": 5}}}) is None
