"""Players of a recipe, each alone on the board: what they move, and how often they have their turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie import models
from reverie.arrays import named_leaves
from reverie.data.dataset import Dataset, Rows
from reverie.train.draws import Feed
from reverie.train.engine import Engine, State
from reverie.train.recipe import Brief


def pixels(
    n: int = 60,
    width: int = 6,
    classes: int = 0,
    likelihood: str = "bernoulli",
    shape: tuple[int, ...] = (),
    **more: Any,
) -> Dataset:
    """Rows in [0, 1], brighter where the class is higher."""
    width = int(np.prod(shape)) if shape else width
    rng, labels = np.random.default_rng(0), np.arange(n) % max(classes, 1)
    x = np.clip(rng.uniform(size=(n, width)) * 0.5 + 0.5 * labels[:, None] / max(classes, 1), 0, 1).astype(np.float32)
    rows = Rows(x, labels if classes else None)
    names = tuple(str(i) for i in range(classes)) or None
    fields = {"binarisation": "means", "hash": "0", "class_names": names, "likelihood": likelihood, **more}
    return Dataset("toy", "toy", {"train": rows, "valid": rows, "test": rows}, shape or (width,), **fields)


def engine(name: str, data: Dataset, players: slice = slice(None), epochs: float = 10.0, **settings: Any) -> Engine:
    """Return the engine of a model's first stage, with some of its players alone."""
    model, recipe = models.load_module(name).recipe(Brief(data, jax.random.key(0), epochs), **settings)
    return Engine(
        model, replace(recipe, players=recipe.players[players]), Feed(data.training_source(), jnp.uint32(0)), 0
    )


def moved_after(found: Engine, steps: int = 2) -> set[str]:
    """Return the names of the model's parts that are not what they were before so many steps."""
    before = {name: np.array(leaf) for name, leaf in named_leaves(found.init().model)}
    after = dict(named_leaves(found.advance(found.init(), steps).model))
    return {name.split(".")[0] for name, leaf in before.items() if not np.array_equal(leaf, after[name])}


def turns(state: State) -> list[int]:
    """Return how often each player's optimiser has moved."""
    counts = lambda s: isinstance(s, optax.ScaleByScheduleState | optax.ScaleByAdamState)  # noqa: E731
    return [next(int(s.count) for s in jax.tree.leaves(one, is_leaf=counts) if counts(s)) for one in state.optimisers]
