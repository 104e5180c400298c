r"""Missing cells of a model of one order, by particles: sequential importance sampling with resampling.

A particle goes through the cells in the order o.  A cell that is missing it draws from
:math:`p(x_{o_d} \mid x_{o_{<d}})`; one that is known multiplies its weight by the likelihood of what is known there,

.. math:: w \leftarrow w\, p(x_{o_d} \mid x_{o_{<d}}),

so that weighted particles stand for :math:`p(x_{miss} \mid x_{known})` of the law of whole rows, the better the more
of them there are; :math:`\frac1K \sum w` has the mean :math:`p(x_{known})`.  Where the weights of few count alone (an
effective number below half), particles are drawn anew by their weights (systematically), which loses no mean.  Of a
mixture each law has particles of its own, weighed together.

References: Liu & Chen, *Sequential Monte Carlo methods for dynamic systems*, 1998; Doucet & Johansen 2009.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reverie.nn.cells import Cells

#: Particles, of all laws of a mixture together.
PARTICLES = 256


def particles(
    model: Any, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], count: int = PARTICLES
) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
    """Return rows that agree with x where it is known, and the logarithms of their weights.

    Args:
        model: says cells in order (`_autoregressive.InOrder`).
        count: K, or a little more: as many for each law of a mixture.
    """
    each = -(-count // model.members)
    keys = jax.random.split(key, model.members)
    one = lambda own: _of_member(model, own[0], own[1], x, known, each)  # noqa: E731
    rows, log_weights = jax.lax.map(one, (keys, jnp.arange(model.members)))
    return rows.reshape(-1, x.size), log_weights.reshape(-1)


def _of_member(
    model: Any, key: PRNGKeyArray, member: Int[Array, ""], x: Float[Array, " D"], known: Bool[Array, " D"], count: int
) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
    cells, order = model.cells, model.order_of(member)
    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), model.begin())

    def step(now: tuple[Any, Array, Array], own: tuple[Array, Array]) -> tuple[tuple[Any, Array, Array], None]:
        state, rows, log_w = now
        own_key, cell = own
        again, draws = jax.random.split(own_key)
        said = jax.vmap(lambda s: model.told(s, member, cell))(state)
        drawn = jax.vmap(lambda k, s: cells.draw(k, s, cell))(jax.random.split(draws, count), said)
        value = jnp.where(known[cell], x[cell], drawn)
        log_w = log_w + jnp.where(known[cell], cells.log_prob(said, value, cell), 0.0)
        state = jax.vmap(lambda s, v: model.grown(s, cell, v))(state, value)
        rows = rows.at[:, cell].set(value)
        chosen, log_w = resampled(again, log_w)
        return (*jax.tree.map(lambda a: a[chosen], (state, rows)), log_w), None

    begun = (start, jnp.zeros((count, x.size), x.dtype), jnp.zeros(count, x.dtype))
    (_, rows, log_w), _ = jax.lax.scan(step, begun, (jax.random.split(key, order.size), order))
    return rows, log_w


def resampled(key: PRNGKeyArray, log_w: Float[Array, " K"]) -> tuple[Int[Array, " K"], Float[Array, " K"]]:
    """Return which particles go on and their log-weights: all as they are, or drawn anew at their mean weight."""
    count = log_w.size
    share = jax.nn.softmax(log_w)
    points = (jnp.arange(count) + jax.random.uniform(key)) / count
    drawn = jnp.clip(jnp.searchsorted(jnp.cumsum(share), points), 0, count - 1)
    few = 2.0 / (share**2).sum() < count
    mean = jax.nn.logsumexp(log_w) - jnp.log(float(count))
    return jnp.where(few, drawn, jnp.arange(count)), jnp.where(few, mean, log_w)


def weighted_mean(cells: Cells, rows: Float[Array, "K D"], log_weights: Float[Array, " K"]) -> Float[Array, " D"]:
    """Return the mean of each cell, of categories the most probable one."""
    share, most = jax.nn.softmax(log_weights), max(max(cells.kinds), 1)
    votes = jnp.einsum("k,kdl->dl", share, (rows[..., None] == jnp.arange(most)).astype(rows.dtype))
    return jnp.where(jnp.asarray(cells.kinds) > 0, votes.argmax(-1).astype(rows.dtype), share @ rows)
