r"""Values: bounds of :math:`\log p(x)` from log-weights, for one example; callers map them over rows.

With :math:`h_1 \dots h_k \sim q(h \mid x)` and :math:`w_i = p(x, h_i)/q(h_i \mid x)`,

.. math:: \mathcal L_1 = \mathbb E[\log w] \le \mathcal L_k = \mathbb E\Big[\log \tfrac1k \sum_i w_i\Big]
          \le \mathcal L_{k+1} \le \log p(x).

Nothing here is meant to be differentiated: see `surrogates`.

References: Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.arrays import LogMean, log_mean_exp
from reverie.prob.contracts import Given, Latent, Row


def sample_keys(key: PRNGKeyArray, k: int, start: int | Int[Array, ""] = 0) -> PRNGKeyArray:
    """Return the keys of samples start .. start + k - 1.

    Sample i's key depends on (key, i) alone, so that a stream in chunks of any size draws the same samples.
    """
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(start + jnp.arange(k))


def over_samples(one: Callable[..., Any], *each: Any) -> Any:
    """Map `one` over the samples.  The axis has a name because layers that take live statistics average over it."""
    return jax.vmap(one, axis_name="samples")(*each)


def log_weights(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, start: int | Int[Array, ""] = 0
) -> Float[Array, " k"]:
    r"""Return :math:`\log w_i = \log p(x, h_i) - \log q(h_i \mid x)` of draws start .. start + k - 1, in nats."""
    return over_samples(lambda own: model.forward(own, x, given).log_w, sample_keys(key, k, start))


def elbo(log_weights: Float[Array, "k ..."]) -> Float[Array, "..."]:
    r"""Return :math:`\frac1k \sum_i \log w_i` along the first axis, whose mean is :math:`\mathcal L_1`."""
    return log_weights.mean(axis=0) if log_weights.shape[0] > 1 else log_weights[0]


def iwae_bound(log_weights: Float[Array, "k ..."]) -> Float[Array, "..."]:
    r"""Return :math:`\log \frac1k \sum_i w_i` along the first axis, whose mean is :math:`\mathcal L_k`."""
    # One sample's bound is its log-weight: written so, k = 1 compiles to the ELBO's own program and gives its bits.
    return log_mean_exp(log_weights, axis=0) if log_weights.shape[0] > 1 else log_weights[0]


def stream_log_likelihood(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, samples: int | Int[Array, ""], chunk: int
) -> LogMean:
    r"""Return :math:`\log \frac1k \sum_i w_i` with k = `samples`, in memory that grows with `chunk` alone.

    Args:
        model: scored at frozen statistics.
        key: of this row.
        x: one row, shape ``(D,)``.
        given: what the model is conditioned on, or None.
        samples: k; need not be a multiple of `chunk`, and may be traced: one executable serves every k.
        chunk: draws held at once; the result does not depend on it but for rounding.

    Returns:
        The running mean of the weights: ``.value()`` in nats, ``.variance()``, ``.effective_sample_size()``.
    """
    size = min(chunk, samples) if isinstance(samples, int) else chunk

    def take(i: Int[Array, ""], total: LogMean) -> LogMean:
        start = i * size
        log_w = log_weights(model, key, x, given, size, start)
        # The last chunk runs over the end: what is past it weighs nothing, and is not counted below.
        return total.add(jnp.where(start + jnp.arange(size) < samples, log_w, -jnp.inf))

    total = jax.lax.fori_loop(0, -(-samples // size), take, LogMean.start())
    return total._replace(k=jnp.full_like(total.k, samples))
