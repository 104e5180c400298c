r"""How machines of word counts are trained: no autograd, the gradient is known.

With :math:`u = 1`, or :math:`u = 1/N` where documents count alike whatever their length,

.. math:: \nabla_W = \langle u\, n\, h^\top\rangle_{data} - \langle\cdot\rangle_{model}, \quad
          \nabla_b = \langle u\, n\rangle_{data} - \langle\cdot\rangle_{model}, \quad
          \nabla_c = \langle u N h\rangle_{data} - \langle\cdot\rangle_{model}.

The second choice is the gradient of the mean of :math:`\frac1N \log p`, log perplexity.  Centred, with the words'
frequencies o and mean activities a,

.. math:: \nabla_W = \langle u (n - N o)(h - a)^\top\rangle_{data} - \langle\cdot\rangle_{model},

and :math:`\nabla_W a` is taken from :math:`\nabla_b`, :math:`\nabla_W^\top o` from :math:`\nabla_c`: a change of the
search direction alone, as for machines of one length, since both averages have documents of the same lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.models.undirected._chains import sweeps_at
from reverie.models.undirected._learning import FOLLOW, Sparsity, require
from reverie.prob.chains import sweeps


@dataclass(frozen=True)
class Counting:
    """How a machine of counts learns; the recipe tells what each of these is."""

    chain: Literal["cd", "pcd"] = "pcd"
    sweeps: int = 1
    grow: float = 0.0
    chains: int = 100
    length_normalise: bool = True
    centred: bool = True
    decay: float = 2e-4
    sparsity: Sparsity = field(default_factory=Sparsity)
    batch: int = 100

    def check(self, hidden: int) -> None:
        """Refuse numbers that make no sense."""
        named = {"hidden": hidden, "sweeps": self.sweeps, "chains": self.chains, "batch": self.batch}
        for name, value in named.items():
            require(name, value, 1)
        require("grow", self.grow, 0)
        if self.decay < 0:
            raise ReverieError(f"decay: {self.decay:g} would make weights grow; give 0 or more")


class Carry(NamedTuple):
    """What training keeps besides the weights: the chains' states (none of ``cd``), and the offset of the units."""

    states: Any
    active: Float[Array, " F"]


class Side(NamedTuple):
    """One side of a gradient: documents (B, K), means of the hidden units (B, F), and what each document counts."""

    rows: Float[Array, "B K"]
    means: Float[Array, "B F"]
    share: Float[Array, " B"]


def starting(how: Counting, model: Any, key: PRNGKeyArray) -> Carry:
    """Return chains at draws of the base law."""
    count = how.chains if how.chain == "pcd" else 1
    states = jax.vmap(model.draw_base)(jax.random.split(key, count))
    if how.chain == "cd":
        states = jax.tree.map(lambda s: s[:0], states)
    return Carry(states, jnp.full(model.topics.size, 0.5))


def side(how: Counting, model: Any, rows: Float[Array, "B K"]) -> Side:
    """Return documents with what the gradient needs of them."""
    means = jax.vmap(model.encode)(rows)
    share = 1.0 / jnp.maximum(model.lengths_of(rows), 1.0) if how.length_normalise else jnp.ones(len(rows))
    return Side(rows, means, share)


def average_gradient(model: Any, data: Side, chains: Side, active: Float[Array, " F"], centred: bool) -> Any:
    """Return the gradient of the documents' mean log-likelihood (of a word, where documents count alike)."""
    offset = jnp.exp(model.base) if centred else jnp.zeros_like(model.base)
    at = active if centred else jnp.zeros_like(active)

    def averages(s: Side) -> tuple[Array, Array, Array]:
        words = s.share[:, None] * s.rows
        total = words.sum(axis=1, keepdims=True)
        product = (words - total * offset).T @ (s.means - at)
        return product / len(words), words.mean(axis=0), (total * s.means).mean(axis=0)

    weights, words, topics = jax.tree.map(jnp.subtract, averages(data), averages(chains))
    zero = jnp.zeros_like
    return replace(
        model, weights=weights, words=words - weights @ at, topics=topics - weights.T @ offset, base=zero(model.base),
        lengths=zero(model.lengths),
    )  # fmt: skip


def negative(
    model: Any, key: PRNGKeyArray, states: Any, count: int | Int[Array, ""]
) -> tuple[Float[Array, "M K"], Any]:
    """Return documents of the chains after `count` sweeps, and the chains' states."""
    before, last, draw = jax.random.split(key, 3)
    states = sweeps(model, before, states, 0, count - 1)
    chains = states[1].shape[0]
    rows = jax.vmap(model.draw_visible)(jax.random.split(last, chains), states)
    return rows, jax.vmap(model.draw_state)(jax.random.split(draw, chains), rows)


def gradients(how: Counting, epoch_steps: float) -> Callable[..., tuple[Any, Carry, dict[str, Array]]]:
    """Return what a player needs: ``(model, batch, carry, key) -> (gradients of the loss, carry, what is logged)``."""

    def found(
        model: Any, batch: dict[str, Any], carry: Carry, key: PRNGKeyArray
    ) -> tuple[Any, Carry, dict[str, Array]]:
        first, second = jax.random.split(key)
        rows = batch["x"]
        count = sweeps_at(how, batch["step"], epoch_steps)
        states = carry.states
        if how.chain == "cd":
            states = jax.vmap(model.draw_state)(jax.random.split(first, len(rows)), rows)
        drawn, states = negative(model, second, states, count)
        data, chains = side(how, model, rows), side(how, model, drawn)
        up = average_gradient(model, data, chains, carry.active, how.centred)
        activity = data.means.mean(axis=0)
        pull = how.sparsity.cost * (how.sparsity.target - activity)
        loss = replace(up, weights=how.decay * model.weights - up.weights, words=-up.words, topics=-(up.topics + pull))
        kept = carry.states if how.chain == "cd" else states
        return loss, Carry(kept, carry.active + FOLLOW * (activity - carry.active)), _logged(model, data, chains)

    return found


def _logged(model: Any, data: Side, chains: Side) -> dict[str, Array]:
    """Return what is shown of a step: none of it is the likelihood, and only validation chooses by one."""

    def free(s: Side) -> Array:
        # Per word, so that the lengths of a batch do not show.
        own = s.rows @ model.words + jax.nn.softplus(s.rows @ (model.weights + model.topics)).sum(axis=1)
        return -(own / jnp.maximum(model.lengths_of(s.rows), 1.0)).mean()

    back = jax.nn.log_softmax(model.words + data.means @ model.weights.T, axis=1)
    per_word = (data.rows * back).sum(axis=1) / jnp.maximum(model.lengths_of(data.rows), 1.0)
    return {
        "reconstruction_error": -per_word.mean(),
        "active": data.means.mean(),
        "loss": free(data) - free(chains),
    }
