"""Array arithmetic that everything above stands on: stable averages of exponentials, and named leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def placed(a: Any, dtype: Any = None) -> Array:
    """Return a copy of host numbers as an array of the device.

    `jnp.asarray` of them is a compiled program for each new shape, a tenth of a second that this does not take.
    """
    return jax.device_put(np.array(a, dtype))


def log_mean_exp(a: Float[Array, "..."], axis: int = 0) -> Float[Array, "..."]:
    r"""Return :math:`\log \frac1k \sum_{i=1}^k e^{a_i}` along `axis`, without overflow."""
    return jax.nn.logsumexp(a, axis=axis) - jnp.log(a.shape[axis])


def in_chunks(a: Float[Array, "n ..."]) -> Float[Array, "C c ..."]:
    """Cut the first axis into chunks of about its square root, zeros filling up the last one.

    A scan over chunks, each a scan of its own that is computed anew on the way back, keeps that many states only.
    """
    size = math.isqrt(max(len(a) - 1, 0)) + 1
    padded = jnp.pad(a, [(0, -len(a) % size), *[(0, 0)] * (a.ndim - 1)])
    return padded.reshape(-1, size, *a.shape[1:])


class LogMean(NamedTuple):
    r"""A running :math:`\log \frac1k\sum_i w_i` in constant memory, with the spread of the weights.

    ``top`` is the largest log-weight seen, ``first`` :math:`\sum_i w_i/e^{top}`, ``second``
    :math:`\sum_i w_i^2/e^{2\,top}` and ``k`` how many.  All four have the shape of one log-weight.
    """

    top: Float[Array, "..."]
    first: Float[Array, "..."]
    second: Float[Array, "..."]
    k: Float[Array, "..."]

    @staticmethod
    def start(shape: tuple[int, ...] = ()) -> LogMean:
        zero = jnp.zeros(shape)
        return LogMean(jnp.full(shape, -jnp.inf), zero, zero, zero)

    def add(self, log_weights: Float[Array, "k ..."]) -> LogMean:
        """Take in k more log-weights along the first axis."""
        top = jnp.maximum(self.top, log_weights.max(axis=0))
        # A weight of exactly zero everywhere leaves top at -inf; shifting by 0 then keeps NaN away.
        shift = jnp.where(jnp.isfinite(top), top, 0.0)
        old = jnp.exp(self.top - shift)
        new = jnp.exp(log_weights - shift)
        return LogMean(
            top,
            self.first * old + new.sum(axis=0),
            self.second * old**2 + (new**2).sum(axis=0),
            self.k + log_weights.shape[0],
        )

    def value(self) -> Float[Array, "..."]:
        r"""Return :math:`\log \frac1k \sum_i w_i`."""
        shift = jnp.where(jnp.isfinite(self.top), self.top, 0.0)
        return jnp.log(self.first) + shift - jnp.log(self.k)

    def effective_sample_size(self) -> Float[Array, "..."]:
        r"""Return :math:`(\sum_i w_i)^2/\sum_i w_i^2`, between 1 and k."""
        return self.first**2 / self.second

    def variance(self) -> Float[Array, "..."]:
        r"""Return the delta-method variance of `value`, :math:`\widehat{\mathrm{var}}(w)/(k\,\bar w^2)`."""
        k = self.k
        return jnp.maximum(1.0 / self.effective_sample_size() - 1.0 / k, 0.0) * k / jnp.maximum(k - 1.0, 1.0)


def named_leaves(tree: Any, keep: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
    """Return ``(path, leaf)`` for every leaf, the path dotted as one would write it: ``p.0.trunk.1.weight``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    return [(name, leaf) for name, leaf in named if keep is None or keep(leaf)]


def is_trainable(leaf: Any) -> bool:
    """Say whether a leaf is an array of real numbers, the only kind an optimiser moves."""
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def count(tree: Any) -> int:
    """Return how many real numbers the arrays of `tree` hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree) if is_trainable(leaf))
