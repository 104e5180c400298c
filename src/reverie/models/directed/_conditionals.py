r"""Conditional laws of a layer of binary units, to be stacked in P and in Q: :math:`p(h \mid y)`, y the layer beyond.

=====  ==============================================================================================================
sbn    sigmoid belief net: units independent given y, :math:`a_j = b_j + W_j y` (Neal 1992; Saul et al. 1996)
darn   each hears those before it: :math:`a_j = b_j + W_j y + \sum_{i<j} U_{ji} h_i` (Gregor et al. 2014)
nade   through a layer of :math:`H` shared hidden units, biases shifted by y (Larochelle & Murray 2011):
       :math:`a_j = b_j + B_j y + V_j\,\sigma\big(c + C y + \sum_{i<j} G_{\cdot i} h_i\big)`
=====  ==============================================================================================================

with :math:`p(h_j = 1 \mid h_{<j}, y) = \sigma(a_j)`.  The uppermost layer of P has no y: a y of width 0.

All three are walked by one verb, which says unit after unit what `decide` makes of its logit and of a number of its
own: a uniform number gives a draw, the unit itself its logit, none at all its mean.  The walk of a darn goes by chunks:
what a chunk hears from those before it is one matrix product, so that n units take about :math:`2\sqrt n` products
instead of n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.arrays import in_chunks
from reverie.data.dataset import Dataset
from reverie.models.directed._autoregressive import drawn_order, require_binary, require_whole
from reverie.nn.blocks import Linear, glorot_uniform
from reverie.nn.laws import base_logits, bernoulli_log_prob, expectation, log_prob, output_head
from reverie.nn.units import uniform

LayerKind = Literal["sbn", "darn", "nade"]
#: ``decide(logit, own) -> unit``, elementwise.
Decide = Callable[[Array, Array], Array]


class Walk(NamedTuple):
    """What a walk over a layer's units found: each unit and its logit."""

    h: Float[Array, " n"]
    logits: Float[Array, " n"]


def drawn(logit: Array, own: Array) -> Array:
    """Decide by a uniform number: a draw."""
    return (own < jax.nn.sigmoid(logit)).astype(logit.dtype)


def means(logit: Array, own: Array) -> Array:
    """Decide by nothing: p(unit = 1) given the means of the units before it."""
    return jax.nn.sigmoid(logit)


def told(logit: Array, own: Array) -> Array:
    """Decide as one is told."""
    return own


class Conditional(eqx.Module):
    r"""A law of n binary units given y, one example at a time."""

    def walk(self, own: Float[Array, " n"], y: Float[Array, " m"], decide: Decide) -> Walk:
        """Go through the units in turn, each decided from its logit and its number in `own`."""
        raise NotImplementedError

    def logits(self, h: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, " n"]:
        """Return each unit's logit given y and the units before it."""
        return self.walk(h, y, told).logits

    def draw(self, key: PRNGKeyArray, y: Float[Array, " m"]) -> Walk:
        """Draw the units."""
        return self.walk(uniform(key, self.bias), y, drawn)

    def mean(self, y: Float[Array, " m"]) -> Float[Array, " n"]:
        """Return p(unit = 1) given y and the means of the units before: exact for a sigmoid belief net alone."""
        return self.walk(jnp.zeros_like(self.bias), y, means).h

    @property
    def bias(self) -> Float[Array, " n"]:
        """b."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """n."""
        return self.bias.size


class Sigmoids(Conditional):
    """A sigmoid belief net's layer."""

    net: Linear

    @property
    def bias(self) -> Float[Array, " n"]:
        return self.net.bias

    def walk(self, own: Float[Array, " n"], y: Float[Array, " m"], decide: Decide) -> Walk:
        logits = self.net(y)
        return Walk(decide(logits, own), logits)

    def logits(self, h: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, " n"]:
        return self.net(y)


class Chained(Conditional):
    """A darn's layer; of `among` the part below the diagonal alone is used (and counted by nothing else)."""

    net: Linear
    among: Float[Array, "n n"]

    @property
    def bias(self) -> Float[Array, " n"]:
        return self.net.bias

    def logits(self, h: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, " n"]:
        return self.net(y) + jnp.tril(self.among, -1) @ h

    def walk(self, own: Float[Array, " n"], y: Float[Array, " m"], decide: Decide) -> Walk:
        start, numbers, rows = (in_chunks(a) for a in (self.net(y), own, jnp.tril(self.among, -1)))
        chunks, size, _ = rows.shape
        rows = jnp.pad(rows, [(0, 0), (0, 0), (0, chunks * size - self.width)])

        def chunk(h: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            i, b, u, w = at
            inner = jax.lax.dynamic_slice_in_dim(w, i * size, size, axis=1)
            said = _within(b + w @ h, u, inner, decide)
            return jax.lax.dynamic_update_slice_in_dim(h, said.h, i * size, 0), said

        none = jnp.zeros(chunks * size, self.bias.dtype)
        _, said = jax.lax.scan(chunk, none, (jnp.arange(chunks), start, numbers, rows))
        return Walk(*(a.reshape(-1)[: self.width] for a in said))


def _within(field: Array, own: Array, among: Float[Array, "c c"], decide: Decide) -> Walk:
    """Walk over a chunk's units, whose fields hear all units before the chunk already."""

    def unit(h: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        f, u, w, here = at
        logit = f + w @ h
        one = decide(logit, u)
        return h + here * one, (one, logit)

    _, said = jax.lax.scan(unit, jnp.zeros_like(field), (field, own, among, jnp.eye(field.size, dtype=field.dtype)))
    return Walk(*said)


class Shared(Conditional):
    """A conditional NADE.

    Attributes:
        heard: G, a row for each unit.
        said: V, a row for each unit.
        units: y to b + B y.
        fields: y to c + C y.
    """

    heard: Float[Array, "n H"]
    said: Float[Array, "n H"]
    units: Linear
    fields: Linear

    @property
    def bias(self) -> Float[Array, " n"]:
        return self.units.bias

    def walk(self, own: Float[Array, " n"], y: Float[Array, " m"], decide: Decide) -> Walk:
        def unit(a: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            b, u, g, v = at
            logit = b + jax.nn.sigmoid(a) @ v
            h = decide(logit, u)
            return a + h * g, (h, logit)

        # Only the first field of a chunk is kept for the way back: memory grows with the square root of the units.
        chunk = jax.checkpoint(lambda a, at: jax.lax.scan(unit, a, at))
        each = tuple(in_chunks(a) for a in (self.units(y), own, self.heard, self.said))
        _, said = jax.lax.scan(chunk, self.fields(y), each)
        return Walk(*(a.reshape(-1)[: self.width] for a in said))


def conditional(
    kind: LayerKind, key: PRNGKeyArray, beyond: int, width: int, bias: Float[Array, " n"] | None = None
) -> Conditional:
    """Return a layer of `width` units given `beyond` others (0: none), of random weights; biases 0 unless given.

    A nade has as many hidden units as the smaller of its two layers, as the authors of reweighted wake-sleep have it,
    and as many as units where it stands on top.
    """
    first, second, third, fourth = jax.random.split(key, 4)
    net = Linear.init(first, beyond, width, bias)
    if kind == "sbn":
        return Sigmoids(net)
    if kind == "darn":
        return Chained(net, jnp.tril(glorot_uniform(second, width, width), -1))
    hidden = min(beyond, width) or width
    heard, said = (glorot_uniform(k, width, hidden) for k in (second, third))
    return Shared(heard, said, net, Linear.init(fourth, beyond, hidden))


class FreeCells(eqx.Module):
    """p(x | y) with the cells independent given y, of any law of the data."""

    law: eqx.Module
    missing: bool = eqx.field(static=True)

    def log_prob(self, x: Float[Array, " D"], y: Float[Array, " m"]) -> Float[Array, ""]:
        """Return log p(x | y), of the observed cells alone where some are missing."""
        return log_prob(self.law(y), x, self.missing)  # type: ignore[operator]

    def sample(self, key: PRNGKeyArray, y: Float[Array, " m"]) -> Float[Array, " D"]:
        return self.law(y).sample(key).astype(y.dtype)  # type: ignore[operator]

    def mean(self, y: Float[Array, " m"]) -> Float[Array, " D"]:
        """Return E[x | y]."""
        return expectation(self.law(y))  # type: ignore[operator]

    def mean_of(self, x: Float[Array, " D"], y: Float[Array, " m"]) -> Float[Array, " D"]:
        """Return what each cell is expected to be: here the others' values do not matter."""
        return self.mean(y)


class ChainedCells(eqx.Module):
    """p(x | y) with each binary cell given y and those before it in a fixed order."""

    layer: Conditional
    order: Int[Array, " D"]

    def log_prob(self, x: Float[Array, " D"], y: Float[Array, " m"]) -> Float[Array, ""]:
        """Return log p(x | y)."""
        said = x[self.order]
        return bernoulli_log_prob(said, self.layer.logits(said, y)).sum()

    def sample(self, key: PRNGKeyArray, y: Float[Array, " m"]) -> Float[Array, " D"]:
        return self._placed(self.layer.draw(key, y).h)

    def mean(self, y: Float[Array, " m"]) -> Float[Array, " D"]:
        """Return each cell's mean given y and the means of the cells before it: a picture, not E[x | y]."""
        return self._placed(self.layer.mean(y))

    def mean_of(self, x: Float[Array, " D"], y: Float[Array, " m"]) -> Float[Array, " D"]:
        """Return each cell's mean given y and the cells of x before it."""
        return self._placed(jax.nn.sigmoid(self.layer.logits(x[self.order], y)))

    def _placed(self, said: Float[Array, " D"]) -> Float[Array, " D"]:
        return jnp.zeros_like(said).at[self.order].set(said)


def cells(kind: LayerKind, key: PRNGKeyArray, beyond: int, data: Dataset, ordering: int) -> FreeCells | ChainedCells:
    """Return p(x | y) of random weights, x starting at the data's means.

    Raises:
        ReverieError: where cells hear each other, for cells that are not binary, or missing.
    """
    if kind == "sbn":
        return FreeCells(output_head(key, beyond, data), data.missing)
    where = f"a {kind} layer of cells"
    require_binary(data, where)
    require_whole(data, where)
    order = drawn_order(ordering, data.width)
    return ChainedCells(conditional(kind, key, beyond, data.width, base_logits(data.mean)[order]), order)
