r"""Kinds of units of an energy model: what each contributes to the energy, and its law given a field.

A layer x with sufficient statistic t(x), base measure m(x) and field f (its bias plus what its neighbours send) has

.. math:: p(x \mid f) = m(x)\, e^{f \cdot t(x) - A(f)}, \qquad A(f) = \log \textstyle\sum_x m(x)\, e^{f \cdot t(x)}.

Summing a layer out of an energy turns it into A of its field; that is all that marginals, free energies and annealing
need to know of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Bool, Float, PRNGKeyArray

#: Words drawn at once.
_WORDS = 64


class Units(eqx.Module):
    """A layer's units; every verb takes one example, its last axis the units."""

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return t(x), what the layer's neighbours see."""
        raise NotImplementedError

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """Return log m(x)."""
        raise NotImplementedError

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " k"]:
        """Return the terms of A(f), apart."""
        raise NotImplementedError

    def log_partition_rise(self, start: Float[Array, " n"], stop: Float[Array, " n"]) -> Float[Array, " k"]:
        """Return the terms of A(stop) - A(start), apart: differences between near fields then keep their digits."""
        return self.log_partition(stop) - self.log_partition(start)

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return E[x | f]."""
        raise NotImplementedError

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """Draw x given f."""
        raise NotImplementedError

    def cells(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return x with 0 for what is no part of the layer, where data hold nothing (NaN)."""
        return x

    def natural(self, gradient: Float[Array, " n *m"]) -> Float[Array, " n *m"]:
        """Return a gradient in what adds to the field divided by the field's Fisher information, row by row.

        Left as it is where that information is bounded, and steps in the field mean much the same everywhere.
        """
        return gradient

    def own_gradient(self, x: Float[Array, " n"], field: Float[Array, " n"]) -> Units:
        r"""Return the gradient of :math:`f \cdot t(x) + \log m(x)` in the units' own parameters, f held fixed."""
        return jax.tree.map(jnp.zeros_like, self)

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        """Return the field at which the units alone have a data set's means, smoothed where a rate could be 0 or 1."""
        raise NotImplementedError


class Binary(Units):
    r"""Units in {0, 1}: :math:`t(x) = x`, :math:`A(f) = \sum_i \log(1 + e^{f_i})`."""

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.zeros((), x.dtype)

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.softplus(field)

    def log_partition_rise(self, start: Float[Array, " n"], stop: Float[Array, " n"]) -> Float[Array, " n"]:
        # One logarithm for two, and of what is near 1 only its distance.
        low, high = jnp.exp(-jnp.abs(start)), jnp.exp(-jnp.abs(stop))
        return jnp.maximum(stop, 0.0) - jnp.maximum(start, 0.0) + jnp.log1p((high - low) / (1.0 + low))

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.sigmoid(field)

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return (uniform(key, field) < jax.nn.sigmoid(field)).astype(field.dtype)

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        # As if one row more of each value had been seen.
        rate = (np.asarray(mean, np.float64) * rows + 1.0) / (rows + 2.0)
        return np.asarray(np.log(rate) - np.log1p(-rate), np.float32)


class OneHot(Units):
    r"""One of n values, written as n numbers of which one is 1: :math:`A(f) = \log \sum_i e^{f_i}`, a single term."""

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.zeros((), x.dtype)

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " one"]:
        return jax.nn.logsumexp(field, keepdims=True)

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.softmax(field)

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.one_hot(jax.random.categorical(key, field), field.size, dtype=field.dtype)

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        # As if one row more of each value had been seen.
        share = np.asarray(mean, np.float64) * rows + 1.0
        return np.asarray(np.log(share / share.sum()), np.float32)


class Gaussian(Units):
    r"""Real units of variance :math:`s^2 = e^z + s_0^2`: :math:`t(x) = x/s^2`, :math:`m(x) = e^{-\sum x^2/2s^2}`.

    .. math:: x \mid f \sim \mathcal N(f, s^2), \qquad A(f) = \sum_i \tfrac12 \log 2\pi s_i^2 + f_i^2/2s_i^2.

    The field is the mean itself: with bias b and weights W it is b + W h, the form of Cho et al. (2011), in which the
    weights do not change their meaning with the variance.

    Attributes:
        log_variance: z.
        seen: which columns there are; the others (NaN in the data, as they never change) have no energy and no
            density.  None where all are.
        least: :math:`s_0^2`, below which no variance falls: a column that the features explain entirely would have an
            infinite density, and gradients to match.
    """

    log_variance: Float[Array, " n"]
    seen: Bool[Array, " n"] | None = None
    least: float = eqx.field(static=True, default=0.0)

    @property
    def variance(self) -> Float[Array, " n"]:
        """The conditional variances :math:`s^2`."""
        return jnp.exp(self.log_variance) + self.least

    def cells(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x if self.seen is None else jnp.where(self.seen, x, 0.0)

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.cells(x) / self.variance

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return -0.5 * (self.cells(x) ** 2 / self.variance).sum()

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.cells(0.5 * (jnp.log(2 * math.pi * self.variance) + field**2 / self.variance))

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.cells(field)

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.cells(field + jnp.sqrt(self.variance) * jax.random.normal(key, field.shape, field.dtype))

    def natural(self, gradient: Float[Array, " n *m"]) -> Float[Array, " n *m"]:
        # Fisher's information of a mean is 1/s^2: without this, columns of small variance take huge steps, and noise.
        return self.variance.reshape(-1, *(1,) * (gradient.ndim - 1)) * gradient

    def own_gradient(self, x: Float[Array, " n"], field: Float[Array, " n"]) -> Gaussian:
        r"""Return d/dz of :math:`(f x - \tfrac12 x^2)/s^2`, which is :math:`(\tfrac12 x^2 - f x)\, e^z/s^4`."""
        share = jnp.exp(self.log_variance) / self.variance
        return replace(self, log_variance=share * self.statistic(x) * (0.5 * self.cells(x) - field))

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        return np.asarray(mean, np.float32)


class Multinomial(Units):
    r"""Word counts n in N^K of a given length N: :math:`t(n) = n`, :math:`m(n) = N!/\prod_k n_k!`.

    .. math:: n \mid f \sim \mathrm{Multinomial}(N, \mathrm{softmax}(f)), \qquad A(f) = N \log \sum_k e^{f_k},

    N softmax units of one field, of which only how often each word came up is kept.
    """

    length: Float[Array, ""]

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return log_coefficient(x)

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " one"]:
        return self.length * jax.nn.logsumexp(field)[None]

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.length * jax.nn.softmax(field)

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        # Words are drawn by inverting the distribution function, a block at a time, so that a batch of ragged lengths
        # needs no cap: it takes as many blocks as its longest document.
        ends = jnp.cumsum(jax.nn.softmax(field))

        def block(i: Array, counts: Array) -> Array:
            u = jax.random.uniform(jax.random.fold_in(key, i), (_WORDS,), field.dtype) * ends[-1]
            word = jnp.minimum(jnp.searchsorted(ends, u, side="right"), ends.size - 1)
            there = i * _WORDS + jnp.arange(_WORDS) < self.length
            return counts.at[word].add(there.astype(counts.dtype))

        blocks = jnp.ceil(self.length / _WORDS).astype(jnp.int32)
        return jax.lax.fori_loop(0, blocks, block, jnp.zeros_like(field))

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        # As if each word had been seen once more.
        seen = np.asarray(mean, np.float64) * rows + 1.0
        return np.asarray(np.log(seen / seen.sum()), np.float32)


def log_coefficient(x: Float[Array, " n"]) -> Float[Array, ""]:
    r"""Return :math:`\log N!/\prod_k n_k!`: how many sequences of words have these counts."""
    return jax.lax.lgamma(x.sum() + 1.0) - jax.lax.lgamma(x + 1.0).sum()


def uniform(key: PRNGKeyArray, like: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return numbers of [0, 1) in the shape and type of `like`, to be compared with probabilities.

    JAX's own spend one hash of two words on each number, these one on each four: most of what a sweep costs besides
    its matrix products.  Numbers i and i + n/2 are one word and the same word with its halves exchanged.  Each is
    uniform to its last bit, and whether it is below a given p hangs on the other's half only where its own 16 bits are
    those of p: two such comparisons have a covariance of at most 2^-17.
    """
    words = jax.random.key_data(key)
    if like.dtype != jnp.float32 or words.shape != (2,):
        return jax.random.uniform(key, like.shape, like.dtype)
    bits = threefry_2x32((words[0], words[1]), jnp.arange(-(-like.size // 2), dtype=jnp.uint32))
    bits = jnp.concatenate([bits, bits << 16 | bits >> 16])[: like.size]
    # 24 bits are what a float32 below 1 holds exactly.
    return ((bits >> 8).astype(jnp.float32) * 2.0**-24).reshape(like.shape)
