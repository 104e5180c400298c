r"""Addressing: where a memory of N slots is read and written.  Pure functions of one example, differentiable.

A weighting is a vector of N numbers that are not negative; it sums to one wherever a machine writes.  A head of a
Neural Turing Machine (Graves et al. 2014) makes one in four stages, each a function of this page:

.. math:: w^c_i = \mathrm{softmax}_i\big(\beta \cos(k, M_i)\big), \quad w^g = g\,w^c + (1 - g)\,w^{t-1}, \quad
          \tilde w_i = \sum_j w^g_j\, s_{i-j \bmod N}, \quad w_i \propto \tilde w_i^\gamma ,

with a key k, a strength :math:`\beta`, a gate g, shifts s over the offsets -r..r, and a sharpness :math:`\gamma`.  It
reads :math:`\sum_i w_i M_i` and writes :math:`M_i \leftarrow M_i (1 - w_i e) + w_i a` (erase e, add a).

Traps: :math:`\tilde w^\gamma` underflows in single precision (a uniform weighting of 128 slots to the power 21 is
5e-45) and gives 0/0, so sharpening is done on logarithms; the smallest norm is kept out of the square root's reach,
whose slope at 0 is infinite, and is a lower limit, not a term added to the vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

#: Below this a weighting's logarithm is not followed, and a vector has no direction.
TINY_WEIGHT, TINY_NORM = 1e-12, 1e-12
_EPSILON = 1e-8
#: The score of a slot that is not there, and the least that weights are divided by where none is.
_NOTHING, _LEAST = -1e30, 1e-30


class Head(NamedTuple):
    """What a controller says of where a head goes, in its final units (``beta >= 0``, ``gamma >= 1``, s a law)."""

    key: Float[Array, " M"]
    beta: Float[Array, ""]
    gate: Float[Array, ""]
    shift: Float[Array, " S"]
    gamma: Float[Array, ""]


def attend(
    scores: Float[Array, " N"], kind: str, there: Bool[Array, " N"] | None = None, empty: Float[Array, ""] | float = 0.0
) -> Float[Array, " N"]:
    """Return weights over slots.

    Args:
        kind: ``softmax``: they sum to one; ``sigmoid``: independent in (0, 1); ``linear``: the scores themselves.
        there: which slots hold something; the others weigh exactly 0, all of them where none does.
        empty: so many further slots hold nothing, with a score of 0, and take their share of a softmax: the weights
            then sum to less than one, and what is missing is how much of the reading is of nothing.
    """
    if kind != "softmax":
        weights = scores if kind == "linear" else jax.nn.sigmoid(scores)
        return weights if there is None else jnp.where(there, weights, 0.0)
    if there is None and isinstance(empty, float) and empty == 0.0:
        return jax.nn.softmax(scores)
    held = scores if there is None else jnp.where(there, scores, _NOTHING)
    # The largest of all scores, nothing's included, so that no exponential overflows.
    largest = jax.lax.stop_gradient(jnp.maximum(held.max(), jnp.where(empty > 0, 0.0, _NOTHING)))
    weights = jnp.exp(held - largest)
    weights = weights if there is None else jnp.where(there, weights, 0.0)
    return weights / jnp.maximum(weights.sum() + empty * jnp.exp(-jnp.maximum(largest, 0.0)), _LEAST)


def read(attention: Float[Array, " N"], slots: Float[Array, "N M"]) -> Float[Array, " M"]:
    r"""Return :math:`\sum_i a_i M_i`."""
    return attention @ slots


def norms(vectors: Float[Array, "... M"]) -> Float[Array, "..."]:
    """Return lengths along the last axis; of what is shorter than 1e-12 that, with no slope."""
    squares = (vectors**2).sum(axis=-1)
    return jnp.sqrt(jnp.maximum(squares, TINY_NORM**2))


def cosine(key: Float[Array, " M"], slots: Float[Array, "N M"]) -> Float[Array, " N"]:
    r"""Return :math:`\cos(k, M_i) = k \cdot M_i / (|k||M_i| + 10^{-8})`."""
    return slots @ key / (norms(key) * norms(slots) + _EPSILON)


def by_content(key: Float[Array, " M"], beta: Float[Array, ""], slots: Float[Array, "N M"]) -> Float[Array, " N"]:
    """Return the weighting of slots like `key`; uniform where the strength `beta` is 0."""
    return attend(beta * cosine(key, slots), "softmax")


def interpolate(gate: Float[Array, ""], new: Float[Array, " N"], old: Float[Array, " N"]) -> Float[Array, " N"]:
    """Return `new` where the gate is 1, `old` where it is 0, and a mixture between."""
    return gate * new + (1.0 - gate) * old


def rotate(weights: Float[Array, " N"], shift: Float[Array, " S"]) -> Float[Array, " N"]:
    r"""Return the circular convolution :math:`\sum_j w_j s_{i-j}`; `shift` has the offsets -r..r, S = 2r + 1.

    A sum of rolls: S is small, and each roll is two slices.
    """
    reach = len(shift) // 2
    return sum((share * jnp.roll(weights, i - reach) for i, share in enumerate(shift)), start=jnp.zeros_like(weights))


def sharpen(weights: Float[Array, " N"], gamma: Float[Array, ""]) -> Float[Array, " N"]:
    r"""Return :math:`w_i^\gamma / \sum_j w_j^\gamma`, on logarithms."""
    return attend(gamma * jnp.log(weights + TINY_WEIGHT), "softmax")


def address(head: Head, slots: Float[Array, "N M"], before: Float[Array, " N"]) -> Float[Array, " N"]:
    """Return a head's weighting, by content and then by location, given the one it had `before`."""
    found = by_content(head.key, head.beta, slots)
    return sharpen(rotate(interpolate(head.gate, found, before), head.shift), head.gamma)


def write(
    slots: Float[Array, "N M"], weights: Float[Array, "W N"], erase: Float[Array, "W M"], add: Float[Array, "W M"]
) -> Float[Array, "N M"]:
    r"""Return the memory after W heads wrote: :math:`M_i \prod_w (1 - w_i e) + \sum_w w_i a`, erases before adds."""
    for weight, gone in zip(weights, erase, strict=True):
        slots = slots * (1.0 - jnp.outer(weight, gone))
    return slots + weights.T @ add
