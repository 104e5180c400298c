"""The engine: one hash for whole, split and single-step runs; players, carries, refreshes and averages."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reverie.data.dataset import Dataset, Rows
from reverie.train.checkpoint import state_hash
from reverie.train.draws import Feed, minibatch
from reverie.train.engine import Engine, State, moved, parameters
from reverie.train.optimise import SCHEDULES, Adam, going_on, schedule
from reverie.train.recipe import Player, Recipe
from reverie.train.replay import first_bad


class Two(eqx.Module):
    """Two vectors for two players."""

    left: jax.Array
    right: jax.Array


def data(rows: int = 23) -> Dataset:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) / (3 * rows)
    return Dataset("toy", "toy", {"train": Rows(x), "valid": Rows(x)}, (3,), "gaussian", "as-is", "0")


def pull(side: str, noise: float = 0.1):
    def objective(model: Two, batch: dict, carry: jax.Array, key: jax.Array):
        target = batch["x"].mean(0) + noise * jax.random.normal(key, (3,))
        loss = ((getattr(model, side) - target) ** 2).sum()
        return loss, carry + 1, {"distance": loss}

    return objective


def recipe(**changes: object) -> Recipe:
    base = Recipe(
        draw=minibatch(data(), 5),
        players=(
            Player(optax.adam(0.05), pull("left"), moves=lambda path: path == "left", repeats=2),
            Player(optax.sgd(0.1, momentum=0.9), pull("right"), moves=lambda path: path == "right"),
        ),
        batch=5,
        carry=jnp.zeros(()),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def engine(seed: int = 0, **changes: object) -> Engine:
    feed = Feed(data().training_source(), jnp.uint32(seed))
    return Engine(Two(jnp.ones(3), -jnp.ones(3)), recipe(**changes), feed, seed)


def after(e: Engine, *stops: int) -> State:
    state = e.init()
    for stop in stops:
        state = e.advance(state, stop)
    return state


@pytest.mark.parametrize("select", ["last", "average"])
def test_whole_split_and_single_steps_have_one_hash(select: str) -> None:
    whole = state_hash(after(engine(select=select), 12))
    assert whole == state_hash(after(engine(select=select), 5, 12))
    assert whole == state_hash(after(engine(select=select), *range(1, 13)))
    assert whole != state_hash(after(engine(1, select=select), 12))


def test_one_executable_serves_every_chunk() -> None:
    e = engine()
    after(e, 1, 4, 9)
    assert e._loop._cache_size() == 1


def test_an_engine_is_let_go_with_its_rows_and_its_program() -> None:
    """A process that trains many times, as a search does, would else run out of memory maps after some hundred."""
    made = engine()
    after(made, 2)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_tables_of_one_shape_share_a_program() -> None:
    """What differs between folds of a cross-validation, rows and scales, goes in as arguments."""

    def program(shift: float) -> str:
        table = replace(data(), shift=np.full(3, shift), scale=np.full(3, 1 + shift))
        arrays, static = eqx.partition(Feed(table.training_source(), jnp.uint32(0)), eqx.is_array)
        draw = minibatch(table, 5)

        def rows(arrays: Feed) -> jax.Array:
            batch, _ = draw(jax.random.key(0), jnp.zeros((), jnp.int32), eqx.combine(arrays, static), None, None)
            return batch["x"]

        drawn.append(np.asarray(rows(arrays)))
        return jax.jit(rows).lower(arrays).as_text()

    drawn: list[np.ndarray] = []
    assert program(0.0) == program(1.0)
    assert (drawn[0] != drawn[1]).any()


def test_the_initial_model_survives_donation() -> None:
    e = engine()
    after(e, 3)
    assert float(e._model.left.sum()) == 3.0
    assert state_hash(after(e, 3)) == state_hash(after(e, 3))


def test_players_move_their_own_leaves_alone() -> None:
    frozen = engine(players=(Player(optax.adam(0.1), pull("left"), moves=lambda path: path == "right"),))
    state = after(frozen, 4)
    assert jnp.array_equal(state.model.left, jnp.ones(3))
    both = after(engine(), 4)
    assert not jnp.array_equal(both.model.left, jnp.ones(3))
    assert not jnp.array_equal(both.model.right, -jnp.ones(3))


def test_repeats_take_fresh_draws_and_count_in_the_carry() -> None:
    state = after(engine(), 6)
    assert float(state.carry) == 6 * 3
    seen = []
    e = engine(players=(Player(optax.sgd(0.0), watch(seen), repeats=3),))
    e.advance(e.init(), 4)
    rows = np.concatenate(seen)
    assert len(rows) == 4 * 3 * 5
    # 60 positions of 23 rows: two whole epochs and a part, each epoch a permutation.
    assert sorted(rows[:23]) == sorted(rows[23:46]) == list(range(23))


def watch(seen: list):
    def objective(model: Two, batch: dict, carry: jax.Array, key: jax.Array):
        jax.debug.callback(lambda index: seen.append(np.asarray(index)), batch["index"], ordered=True)
        return (model.left**2).sum(), carry, {}

    return objective


def test_refresh_renews_the_carry_every_n_steps() -> None:
    renewed = engine(every=(4, lambda model, feed, carry, key: carry * 0 + 100.0))
    assert float(after(renewed, 4).carry) == 100 + 4 * 3
    assert float(after(renewed, 6).carry) == 100 + 2 * 3


def test_average_follows_its_recursion() -> None:
    e = engine(select="average", average=0.5)
    state, expected = e.init(), np.ones(3)
    for step in range(1, 4):
        state = e.advance(state, step)
        expected = 0.5 * expected + 0.5 * np.asarray(state.model.left)
    np.testing.assert_allclose(state.average.left, expected, rtol=1e-6)


def test_supplied_gradients_are_used_without_autograd() -> None:
    def known(model: Two, batch: dict, carry: jax.Array, key: jax.Array):
        return Two(jnp.full(3, 2.0), jnp.zeros(3)), carry, {"energy": jnp.ones(())}

    state = after(engine(players=(Player(optax.sgd(0.5), gradients=known),)), 1)
    np.testing.assert_allclose(state.model.left, 0.0)
    assert float(state.sums["energy"]) == 1.0


def test_the_loop_stops_at_the_first_bad_step_and_the_replay_names_the_leaf() -> None:
    def explode(model: Two, batch: dict, carry: jax.Array, key: jax.Array):
        loss = (model.left**2).sum() + jnp.where(carry >= 7, jnp.log(-jnp.abs(model.right[0])), 0.0)
        return loss, carry + 1, {}

    e = engine(players=(Player(optax.sgd(1e-3), explode),))
    state = e.advance(e.init(), 50)
    assert int(state.step) == 8
    assert not bool(state.good)
    assert first_bad(e, after(e, 3), 7) == "value loss"

    def bad_gradient(model: Two, batch: dict, carry: jax.Array, key: jax.Array):
        zero = jnp.where(carry == 5, 0.0, 1.0)
        return (model.left**2).sum() + jnp.sqrt(zero * model.right[1] ** 2), carry + 1, {}

    e = engine(players=(Player(optax.sgd(1e-3), bad_gradient),))
    state = e.advance(e.init(), 50)
    assert first_bad(e, after(e, 2), int(state.step) - 1) == "gradient right"


def test_parameters_count_each_leaf_once() -> None:
    shared = (Player(optax.sgd(0.1), pull("left")), Player(optax.sgd(0.1), pull("right")))
    assert parameters(Two(jnp.ones(3), jnp.ones(3)), recipe(players=shared)) == 6
    mask = moved(recipe().players[0], Two(jnp.ones(3), jnp.ones(3)))
    assert (mask.left, mask.right) == (True, False)


def test_a_player_has_an_objective_or_gradients() -> None:
    with pytest.raises(ValueError, match="either"):
        Player(optax.sgd(0.1))


def test_schedules_start_at_the_rate_hold_their_last_value_and_never_rise() -> None:
    for name in SCHEDULES:
        rate = schedule(name, 0.01, 1000)
        values = [float(rate(jnp.asarray(s))) for s in (0, 100, 400, 700, 900, 1000, 5000)]
        assert values[0] == pytest.approx(0.01)
        assert values[-1] == pytest.approx(values[-2])
        assert all(b <= a + 1e-9 for a, b in pairwise(values)), name


def test_iwae_stages_are_the_paper_s() -> None:
    rate = schedule("iwae", 1e-3, 3280)
    epochs = np.cumsum([0] + [3**i for i in range(8)])[:-1]
    got = [float(rate(jnp.asarray(int(e)))) for e in epochs]
    np.testing.assert_allclose(got, np.array([1, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1]) * 1e-3, rtol=1e-4)


def test_adam_follows_its_formula_with_a_started_second_moment() -> None:
    rule = Adam(momentum=0.8, epsilon=1e-3, second_moment=0.5, clip_element=1.0)(optax.constant_schedule(0.1))
    params = jnp.array([1.0])
    update, _ = rule.update(jnp.array([3.0]), rule.init(params), params)
    m, v = 0.2 * 1.0 / (1 - 0.8), (0.999 * 0.5 + 0.001 * 1.0) / (1 - 0.999)
    assert float(update[0]) == pytest.approx(-0.1 * m / (np.sqrt(v) + 1e-3), rel=1e-5)


def test_decay_shrinks_weights_and_no_biases_apart_from_the_gradient() -> None:
    rule = Adam(decay=0.5)(optax.constant_schedule(0.1))
    params = {"weight": jnp.full((1, 1), 2.0), "bias": jnp.array([2.0])}
    zero = jax.tree.map(jnp.zeros_like, params)
    update, _ = rule.update(zero, rule.init(params), params)
    assert float(update["weight"][0, 0]) == pytest.approx(-0.1 * 0.5 * 2.0)
    assert float(update["bias"][0]) == 0.0


def test_going_on_keeps_the_moments_and_restarts_the_schedule() -> None:
    rule = Adam()(schedule("cosine", 0.1, 10))
    params = jnp.array([1.0])
    state = rule.init(params)
    for _ in range(5):
        _, state = rule.update(jnp.array([2.0]), state, params)
    joined = going_on(state, rule.init(params))
    leaves = {jax.tree_util.keystr(p): v for p, v in jax.tree_util.tree_leaves_with_path(joined)}
    counts = [int(v) for p, v in leaves.items() if p.endswith("count")]
    assert sorted(counts) == [0, 5]


def test_the_loop_is_compiled_once_for_its_first_state_and_its_own() -> None:
    """A carry of weak type, which the loop gives back strong, would have it compiled again after the first chunk."""
    loop = engine(carry=jnp.asarray(2.0))
    assert loop.recipe.carry.weak_type and not loop.init().carry.weak_type
    loop.advance(loop.advance(loop.init(), 2), 4)
    assert loop._loop._cache_size() == 1
