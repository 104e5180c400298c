r"""Kinds of units of an energy model: what each contributes to the energy, and its law given a field.

A layer x with sufficient statistic t(x), base measure m(x) and field f (its bias plus what its neighbours send) has

.. math:: p(x \mid f) = m(x)\, e^{f \cdot t(x) - A(f)}, \qquad A(f) = \log \textstyle\sum_x m(x)\, e^{f \cdot t(x)}.

Summing a layer out of an energy turns it into A of its field; that is all that marginals, free energies and annealing
need to know of it.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


class Units(eqx.Module):
    """A layer's units; every verb takes one example, its last axis the units."""

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return t(x), what the layer's neighbours see."""
        raise NotImplementedError

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """Return log m(x)."""
        raise NotImplementedError

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " k"]:
        """Return the terms of A(f), apart: differences between near fields then keep their digits."""
        raise NotImplementedError

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return E[x | f]."""
        raise NotImplementedError

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """Draw x given f."""
        raise NotImplementedError

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

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.sigmoid(field)

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return (jax.random.uniform(key, field.shape, field.dtype) < jax.nn.sigmoid(field)).astype(field.dtype)

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
    r"""Real units of variance :math:`s^2 = e^z`: :math:`t(x) = x/s^2`, :math:`m(x) = e^{-\sum x^2/2s^2}`.

    .. math:: x \mid f \sim \mathcal N(f, s^2), \qquad A(f) = \sum_i \tfrac12 \log 2\pi s_i^2 + f_i^2/2s_i^2.

    The field is the mean itself: with bias b and weights W it is b + W h, the form of Cho et al. (2011), in which the
    weights do not change their meaning with the variance.
    """

    log_variance: Float[Array, " n"]

    def statistic(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x * jnp.exp(-self.log_variance)

    def log_base(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return -0.5 * (x**2 * jnp.exp(-self.log_variance)).sum()

    def log_partition(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        z = self.log_variance
        return 0.5 * (math.log(2 * math.pi) + z + field**2 * jnp.exp(-z))

    def mean(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return field

    def sample(self, key: PRNGKeyArray, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return field + jnp.exp(0.5 * self.log_variance) * jax.random.normal(key, field.shape, field.dtype)

    def own_gradient(self, x: Float[Array, " n"], field: Float[Array, " n"]) -> Gaussian:
        r"""Return d/dz of :math:`f x e^{-z} - \tfrac12 x^2 e^{-z}`."""
        stat = self.statistic(x)
        return Gaussian(stat * (0.5 * x - field))

    def fitted_field(self, mean: np.ndarray, rows: int) -> Float[np.ndarray, " n"]:
        return np.asarray(mean, np.float32)
