"""The one engine: a compiled loop of steps in which players take turns.

Training is a pure function of (state, rows, seed, step): whole, split and single-step runs give the same bytes.
One compiled `while_loop` with a traced bound serves every chunk length.  Keys are folded from
(seed, step, player, repeat); none is carried.  This file holds no file, clock or signal; `train/fit.py` does.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from reverie.arrays import is_trainable
from reverie.nn.blocks import is_statistic
from reverie.train.draws import Feed
from reverie.train.recipe import Player, Recipe

#: Folded into the run's key before the step, so that the loop's draws never meet those of initialisation.
_LOOP, _REFRESH = 1, 2**31 - 1
#: Numbers that a player moves, from which on copying them costs more than ordering their updates.
_MANY = 50_000


class State(eqx.Module):
    """All that training changes.

    Attributes:
        model: the weights as they move.
        optimisers: one state per player.
        carry: the recipe's own (chains, baselines).
        average: exponential average of the weights, or None.
        sums: each logged value summed since the journal's last line; `count` steps went in.
        step: steps done.
        good: False from the first step whose loss was not finite.
    """

    model: PyTree
    optimisers: tuple[optax.OptState, ...]
    carry: PyTree
    average: PyTree
    sums: dict[str, Float[Array, ""]]
    count: Float[Array, ""]
    step: Int[Array, ""]
    good: Bool[Array, ""]


def moved(player: Player, model: PyTree) -> PyTree:
    """Return, for every leaf, whether `player` moves it; normalisation statistics are nobody's to move."""

    def moves(path: Any, leaf: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return is_trainable(leaf) and not is_statistic(name) and player.moves(name)

    return jax.tree_util.tree_map_with_path(moves, model)


class Engine:
    """Compiles a recipe and moves its state.

    Args:
        model: a model of the right structure (its weights are the start of `init`).
        recipe: what to do.
        feed: the training rows.
        seed: of everything random in the loop.
        mesh: devices over which each batch is split, or None for one device.
    """

    def __init__(self, model: PyTree, recipe: Recipe, feed: Feed, seed: int, mesh: Mesh | None = None) -> None:
        self.recipe, self.mesh = recipe, mesh
        self.masks = tuple(moved(player, model) for player in recipe.players)
        place = (lambda tree: tree) if mesh is None else (lambda tree: replicate(tree, mesh))
        self.feed, self.key = place(feed), place(jax.random.fold_in(jax.random.key(seed), _LOOP))
        self._place, self._model = place, model
        self._static: PyTree = None
        self._loop = jax.jit(self._advance, donate_argnums=0)

    def init(self) -> State:
        """Return the state before the first step."""
        given, rest = eqx.partition((self._model, self.recipe.carry), eqx.is_array)
        kept: list[State] = []

        def first(given: PyTree) -> PyTree:
            arrays, static = eqx.partition(self._first(*eqx.combine(given, rest)), eqx.is_array)
            kept.append(static)
            return arrays

        # Not `filter_jit`, which would hold on to this engine, its rows and its program for ever.
        state = eqx.combine(jax.jit(first)(given), kept[0])
        names = jax.eval_shape(lambda: self._turns(state, self.feed, self.key)[1])
        return self._place(eqx.tree_at(lambda s: s.sums, state, {name: jnp.zeros(()) for name in names}))

    def _first(self, model: PyTree, carry: PyTree) -> State:
        """Return the first state but for the names of its sums; compiled whole, not leaf by leaf."""
        # A copy: buffers are donated to the loop, and the caller's model must outlive it.  Of types that are not weak,
        # as the loop gives back none, and would be compiled a second time for its own state.
        copied = lambda a: jnp.array(a, a.dtype) if eqx.is_array(a) else a  # noqa: E731
        model, carry = jax.tree.map(copied, model), jax.tree.map(copied, carry)
        optimisers = tuple(
            jax.tree.map(copied, player.optimiser.init(eqx.filter(model, mask)))
            for player, mask in zip(self.recipe.players, self.masks, strict=True)
        )
        average = jax.tree.map(copied, eqx.filter(model, eqx.is_array)) if self._averages else None
        return State(model, optimisers, carry, average, {}, jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.ones((), bool))

    def advance(self, state: State, until: int) -> State:
        """Return the state after the step numbered `until`, or after the first step that is not finite.

        The buffers of `state` are given up to the result.
        """
        arrays, self._static = eqx.partition(state, eqx.is_array)
        feed_arrays, self._feed_static = eqx.partition(self.feed, eqx.is_array)
        return eqx.combine(self._loop(arrays, feed_arrays, self.key, until), self._static)

    def _advance(self, arrays: PyTree, feed: PyTree, key: PRNGKeyArray, until: Array) -> PyTree:
        feed = eqx.combine(feed, self._feed_static)

        def body(arrays: PyTree) -> PyTree:
            state = self.step(eqx.combine(arrays, self._static), feed, key)
            return eqx.filter(state, eqx.is_array)

        return jax.lax.while_loop(lambda s: (s.step < until) & s.good, body, arrays)

    def step(self, state: State, feed: Feed, key: PRNGKeyArray) -> State:
        """Return the state after one step: every player's turns, in order."""
        state, info = self._turns(state, feed, key)
        sums = {name: state.sums[name] + value for name, value in info.items()}
        good = jnp.isfinite(info["loss"])
        average = state.average
        if self._averages:
            keep = self.recipe.average
            mix = lambda old, new: keep * old + (1 - keep) * new if is_trainable(new) else new  # noqa: E731
            average = jax.tree.map(mix, average, eqx.filter(state.model, eqx.is_array))
        return State(state.model, state.optimisers, state.carry, average, sums, state.count + 1, state.step + 1, good)

    def _turns(self, state: State, feed: Feed, key: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        recipe, model, carry = self.recipe, state.model, state.carry
        key = jax.random.fold_in(key, state.step)
        if recipe.every is not None:
            carry = self._refresh(key, state, feed)
        infos: dict[str, Array] = {}
        optimisers = list(state.optimisers)
        for p, player in enumerate(recipe.players):
            info: dict[str, Array] = {}
            for turn in range(player.repeats):
                own = jax.random.split(jax.random.fold_in(key, p << 16 | turn))
                batch, carry = self._draw(player, own[0], state.step * player.repeats + turn, feed, model, carry)
                gradients, carry, info = self.gradients(p, model, batch, carry, own[1])
                model, optimisers[p] = self._move(p, model, gradients, optimisers[p])
            infos |= info if p == 0 else {f"{name}_{p}": value for name, value in info.items()}
        infos = {name: jnp.asarray(value, jnp.float32) for name, value in infos.items()}
        # A step is good when every player's loss is.
        losses = [value for name, value in infos.items() if name == "loss" or name.startswith("loss_")]
        infos["loss"] = sum(losses, start=jnp.zeros(()))
        moved_on = State(
            model, tuple(optimisers), carry, state.average, state.sums, state.count, state.step, state.good
        )
        return moved_on, infos

    def gradients(
        self, p: int, model: PyTree, batch: PyTree, carry: PyTree, key: PRNGKeyArray
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        """Return player p's gradients (of the leaves it moves), the carry, and what is logged, with ``loss``."""
        player = self.recipe.players[p]
        mine, rest = eqx.partition(model, self.masks[p])
        if player.gradients is not None:
            gradients, carry, info = player.gradients(model, batch, carry, key)
            return eqx.filter(gradients, self.masks[p]), carry, {"loss": jnp.zeros(()), **info}

        def loss_of(mine: PyTree) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
            loss, after, info = player.objective(eqx.combine(mine, rest), batch, carry, key)  # type: ignore[misc]
            return loss, (after, {**info, "loss": loss})

        gradients, (carry, info) = jax.grad(loss_of, has_aux=True)(mine)
        return gradients, carry, info

    def draw(self, p: int, state: State) -> PyTree:
        """Return the batch of player p's first turn at the present step (for looking into a step)."""
        player, keys = self.recipe.players[p], self.turn_keys(p, state)
        return self._draw(player, keys[0], state.step * player.repeats, self.feed, state.model, state.carry)[0]

    def turn_keys(self, p: int, state: State) -> PRNGKeyArray:
        """Return the two keys, of draw and objective, of player p's first turn at the present step."""
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(self.key, state.step), p << 16))

    def _draw(
        self, player: Player, key: PRNGKeyArray, step: Array, feed: Feed, model: PyTree, carry: PyTree
    ) -> tuple[PyTree, PyTree]:
        draw = player.draw or self.recipe.draw
        batch, carry = draw(key, step, feed, model, carry)
        return batch if self.mesh is None else self._split(batch), carry

    def _split(self, batch: PyTree) -> PyTree:
        assert self.mesh is not None
        rows, size = NamedSharding(self.mesh, PartitionSpec("data")), self.recipe.batch

        def place(a: Array) -> Array:
            return jax.lax.with_sharding_constraint(a, rows) if a.ndim and a.shape[0] == size else a

        return jax.tree.map(place, batch)

    def _move(
        self, p: int, model: PyTree, gradients: PyTree, optimiser: optax.OptState
    ) -> tuple[PyTree, optax.OptState]:
        mine, rest = eqx.partition(model, self.masks[p])
        gradients = _all_before_any(gradients)
        updates, optimiser = self.recipe.players[p].optimiser.update(gradients, optimiser, mine)
        return eqx.combine(optax.apply_updates(mine, updates), rest), optimiser

    def _refresh(self, key: PRNGKeyArray, state: State, feed: Feed) -> PyTree:
        n, refresh = self.recipe.every  # type: ignore[misc]
        renew = lambda carry: refresh(state.model, feed, carry, jax.random.fold_in(key, _REFRESH))  # noqa: E731
        return jax.lax.cond(state.step % n == 0, renew, lambda carry: carry, state.carry)

    @property
    def _averages(self) -> bool:
        return self.recipe.select == "average"


def _all_before_any(gradients: PyTree) -> PyTree:
    """Return the gradients, each made to wait for all of them.

    Weights are then updated where they lie.  Otherwise XLA copies all of them at every step, a tenth of a VAE's time,
    as an update may come before another gradient that still reads the old weights; a barrier is dropped too early.
    Few weights are copied faster than waited for.
    """
    leaves = [leaf for leaf in jax.tree.leaves(gradients) if is_trainable(leaf)]
    if sum(leaf.size for leaf in leaves) < _MANY:
        return gradients
    # Zero, but not so that a compiler could know; what is not a number is not kept to itself.
    zero = sum((jnp.minimum(jnp.abs(leaf.ravel()[0]), 0.0) for leaf in leaves if leaf.size), start=jnp.zeros(()))
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype) if is_trainable(leaf) else leaf, gradients)


def parameters(model: PyTree, *recipes: Recipe) -> int:
    """Return how many numbers the players of all stages move, each counted once."""
    masks = [moved(player, model) for recipe in recipes for player in recipe.players]
    any_of = jax.tree.map(lambda *flags: any(flags), *masks)
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, any_of)))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return `tree` with a full copy of every array on every device of `mesh`, in every process.

    Every process holds the same values already; each gives its own devices theirs.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def place(a: Array) -> Array:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(a)))
        host = np.asarray(a)
        return jax.make_array_from_callback(host.shape, whole, lambda index: host[index])

    return jax.tree.map(lambda leaf: place(leaf) if eqx.is_array(leaf) else leaf, tree)
