"""Loops that benchmarks time: the engine's, one written by hand, and a step's matrix products alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _report import Run

from reverie.data.dataset import Binarisation, Dataset, Rows
from reverie.train.draws import Feed
from reverie.train.engine import Engine, moved
from reverie.train.recipe import Brief, Recipe

#: Of x (rows, a) and weights (a, b): x w forward, d w' back to the inputs (rows, b), x' d the gradient of weights.
Kind = Literal["forward", "back", "weights"]
#: Everything that a layer costs where its inputs are learnt too, and where they are data.
INNER: tuple[Kind, ...] = ("forward", "weights", "back")
FIRST: tuple[Kind, ...] = ("forward", "weights")
#: Which products, rows, a and b.
Layer = tuple[Sequence[Kind], int, int, int]


def grey(rows: int = 10_000, binarisation: Binarisation = "dynamic") -> Dataset:
    """Return grey rows of MNIST's size; what they show does not change a step's time."""
    return _of(np.random.default_rng(0).integers(0, 256, (rows, 784), dtype=np.uint8), "grey", binarisation, 255.0)


def binary(rows: int = 10_000) -> Dataset:
    """Return rows of MNIST's size and share of ones."""
    x = np.random.default_rng(0).integers(0, 256, (rows, 784), dtype=np.uint8) < 33
    return _of(x.astype(np.uint8), "binary", "as-is", 1.0)


def _of(x: np.ndarray, name: str, binarisation: Binarisation, scale: float) -> Dataset:
    parts = {"train": Rows(x), "valid": Rows(x[:100]), "test": Rows(x[:100])}
    return Dataset(name, name, parts, (28, 28), "bernoulli", binarisation, "0", scale=scale)


def built(module: Any, data: Dataset, epochs: float = 100.0, **settings: Any) -> tuple[Any, Recipe, Feed]:
    """Return a model, its recipe and its rows."""
    model, recipe = module.recipe(Brief(data, jax.random.key(0), epochs), **settings)
    return model, recipe, Feed(data.training_source(), jnp.uint32(0))


def steps(engine: Engine) -> Run:
    """Return a function that advances an engine n steps."""
    state = [engine.init()]

    def run(n: int) -> None:
        state[0] = jax.block_until_ready(engine.advance(state[0], int(state[0].step) + n))

    return run


def bare(model: Any, recipe: Recipe, feed: Feed) -> Run:
    """Return a function that runs n steps of a loop written by hand: draws, gradients and updates of every player."""
    arrays, static = eqx.partition(model, eqx.is_array)
    players = [(player, moved(player, model)) for player in recipe.players]
    key = jax.random.key(1)

    def turn(player: Any, mask: Any, model: Any, optimiser: Any, step: Any, own: Any) -> tuple[Any, Any]:
        batch, _ = (player.draw or recipe.draw)(own, step, feed, None, None)
        mine, rest = eqx.partition(model, mask)
        slopes = jax.grad(lambda mine: player.objective(eqx.combine(mine, rest), batch, None, own)[0])(mine)
        updates, optimiser = player.optimiser.update(slopes, optimiser, mine)
        return eqx.combine(optax.apply_updates(mine, updates), rest), optimiser

    @jax.jit
    def run(n: int, arrays: Any, optimisers: Any, start: Any) -> Any:
        def body(step: int, now: Any) -> Any:
            model, optimisers = eqx.combine(now[0], static), list(now[1])
            for p, (player, mask) in enumerate(players):
                for repeat in range(player.repeats):
                    own = jax.random.fold_in(jax.random.fold_in(key, step), p << 16 | repeat)
                    at = step * player.repeats + repeat
                    model, optimisers[p] = turn(player, mask, model, optimisers[p], at, own)
            return eqx.filter(model, eqx.is_array), tuple(optimisers)

        return jax.lax.fori_loop(start, start + n, body, (arrays, optimisers))

    now = [(arrays, tuple(player.optimiser.init(eqx.filter(model, mask)) for player, mask in players)), 0]

    def advance(n: int) -> None:
        now[0] = jax.block_until_ready(run(n, *now[0], now[1]))
        now[1] += n

    return advance


def products(layers: Sequence[Layer]) -> Run:
    """Return a function that runs the matrix products of these layers n times."""
    key = jax.random.key(0)

    def drawn(layer: Layer) -> dict[str, Any]:
        _, rows, a, b = layer
        sizes = {"w": (a, b), "x": (rows, a), "d": (rows, b)}
        return {name: 0.01 * jax.random.normal(key, size) for name, size in sizes.items()}

    def pair(kind: Kind, m: dict[str, Any], drift: Any) -> tuple[Any, Any]:
        if kind == "forward":
            return m["x"] + drift, m["w"]
        return (m["d"] + drift, m["w"].T) if kind == "back" else ((m["x"] + drift).T, m["d"])

    @jax.jit
    def run(n: int, matrices: Any) -> Any:
        def body(_: int, total: Any) -> Any:
            for (kinds, *_rest), m in zip(layers, matrices, strict=True):
                for kind in kinds:
                    # Each waits for the last, so that none is hoisted out of the loop or merged with another.
                    total += jnp.dot(*pair(kind, m, 1e-30 * total))[0, 0]
            return total

        return jax.lax.fori_loop(0, n, body, jnp.zeros(()))

    matrices = [drawn(layer) for layer in layers]
    return lambda n: jax.block_until_ready(run(n, matrices))
