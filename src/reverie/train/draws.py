"""Draws: how a step gets its batch.  Pure functions of (key, step, feed, model, carry)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from reverie.data import drawn
from reverie.data.dataset import Dataset, Source
from reverie.data.order import batch_indices
from reverie.data.tasks import Task
from reverie.train.recipe import Draw


class Feed(eqx.Module):
    """The training rows and the seed of their order, as the compiled loop is given them."""

    source: Source
    seed: Array

    def rows(self, step: Int[Array, ""], batch: int) -> tuple[Array, Array | None, Array]:
        """Return stored rows, classes and row numbers of positions [step * batch, (step + 1) * batch)."""
        indices = batch_indices(self.seed, step, batch, self.source.size)
        stored, labels = self.source.take(indices)
        return stored, labels, indices


def minibatch(data: Dataset, batch: int, conditional: bool = False) -> Draw:
    """Return the ordinary draw: the next `batch` rows of the shuffled epochs, binarised afresh if dynamic.

    The batch has ``x`` (batch, D) in the model's units, ``given`` (one-hot classes or None), ``index`` and ``step``.
    """
    classes = data.classes

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        stored, labels, index = feed.rows(step, batch)
        given = jax.nn.one_hot(labels, classes) if conditional else None
        return {"x": feed.source.prepare(key, stored), "given": given, "index": index, "step": jnp.asarray(step)}, carry

    return draw


def sequences(task: Task, batch: int) -> Draw:
    """Return the draw of fresh sequences of a task, those of a batch of one size; the training rows are not used.

    The carry's ``most``, where it is less, is the largest size drawn.  The batch is as of `minibatch`.
    """

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        first, second = jax.random.split(key)
        chosen = drawn.sizes(first, task, carry.most)
        rows = jax.vmap(lambda k: drawn.sequence(k, task, chosen).ravel())(jax.random.split(second, batch))
        return {"x": rows, "given": None, "index": jnp.arange(batch), "step": jnp.asarray(step)}, carry

    return draw
