r"""The partition function of an energy: enumerated where it can be, else annealed from both sides.

Forwards, :math:`\log \hat Z = \log Z_0 + \log \frac1M \sum_m w_m` with :math:`\mathbb E[w] = Z/Z_0`, is a stochastic
lower bound of :math:`\log Z`: log-likelihoods that use it are too good.  Backwards from exact draws of the model,
:math:`\mathbb E[1/w] = Z_0/Z` bounds it from above; from a chain's draws it is an estimate of that bound.

RAISE scores v under the *annealing model*, whose last draw approximates the model's, by the same path walked backwards
from :math:`h \sim p(h \mid v)`:

.. math:: \log p_{ann}(v) = \log p^*(v) - \log Z_0 + \log \frac1R \sum_r e^{u_r}, \qquad
          u = \sum_{k=K}^{1} \log \frac{f_{k-1}(x_{k-1})}{f_k(x_{k-1})},

without bias before the logarithm, so that it is conservative: in expectation a lower bound of
:math:`\log p_{ann}(v)`, and on average over data below the log-likelihood wherever the annealing model is the worse
one.

References: Neal 2001; Salakhutdinov & Murray 2008; Burda, Grosse & Salakhutdinov, *Accurate and Conservative Estimates
of MRF Log-likelihood using Reverse Annealing*, 2015; Grosse, Ghahramani & Adams 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from reverie.errors import ReverieError
from reverie.prob.anneal import Annealed, anneal
from reverie.prob.chains import sweeps
from reverie.prob.contracts import Energy
from reverie.prob.mcmc import Kernel

#: Units whose states can be counted: 2^25 take a minute where a layer of 784 hangs on them.
ENUMERABLE = 25
_CHUNK_BITS = 14


class At(eqx.Module):
    """Where a chain is, as a kernel's state."""

    position: PyTree


def gibbs(model: Energy, beta: Float[Array, ""]) -> Kernel:
    """Return block Gibbs sweeps at an inverse temperature as a kernel."""
    return Kernel(At, lambda key, at: (At(model.sweep(key, at.position, beta)), None))


def start(model: Energy, key: PRNGKeyArray, chains: int) -> Annealed:
    """Return chains at draws of the base law."""
    return jax.vmap(Annealed.start)(jax.vmap(model.draw_base)(jax.random.split(key, chains)))


@eqx.filter_jit
def swept(model: Energy, key: PRNGKeyArray, states: PyTree, first: Array, last: Array) -> PyTree:
    """Return the states of many chains after sweeps `first` to `last` of them; one executable for every piece."""
    return sweeps(model, key, states, first, last)


def advance(
    model: Energy,
    chains: Annealed,
    key: PRNGKeyArray,
    betas: np.ndarray | Float[Array, " T1"],
    first: int | Int[Array, ""] = 0,
    last: int | Int[Array, ""] | None = None,
) -> Annealed:
    """Lead all chains along a path (or a piece of it); betas that fall walk it backwards."""

    def ratio(state: PyTree, begin: Array, end: Array, rise: Array) -> Array:
        return model.log_ratio(state, begin, end)

    def lead(own: PRNGKeyArray, chain: Annealed) -> Annealed:
        return anneal(own, chain, ratio, partial(gibbs, model), betas, first, last)

    count = chains.total.shape[0]
    return jax.vmap(lead)(jax.random.split(key, count), chains)


def state_units(model: Energy) -> int:
    """Return how many binary units a state has."""
    shapes = jax.eval_shape(model.draw_base, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def enumerated(model: Energy) -> float:
    r"""Return :math:`\log Z` by summing over every state, in float64 over chunks.

    Raises:
        ReverieError: for more than `ENUMERABLE` units.
    """
    units = state_units(model)
    if units > ENUMERABLE:
        raise ReverieError(f"log Z: {units} units have too many states to count (at most {ENUMERABLE}); use annealing")
    low = min(units, _CHUNK_BITS)
    with jax.default_matmul_precision("highest"):
        parts = [np.asarray(_chunk(model, jnp.uint32(i << low), low, units)) for i in range(1 << (units - low))]
    return float(np.logaddexp.reduce(np.asarray(parts, np.float64)))


def enumerated_powers(
    model: Energy, powers: Float[np.ndarray, " P"], watch: Callable[[int], None] | None = None
) -> Float[np.ndarray, " P"]:
    r"""Return :math:`\log \sum_s f(s)^p` over every state s, for many p in one pass.

    It is log Z of machines of replicated units, whose f is that of one unit to the power of how many there are.

    Args:
        watch: told of the share done, of a hundred.

    Raises:
        ReverieError: for more than `ENUMERABLE` units.
    """
    units = state_units(model)
    if units > ENUMERABLE:
        raise ReverieError(f"log Z: {units} units have too many states to count (at most {ENUMERABLE}); use annealing")
    low, total = min(units, _CHUNK_BITS), np.full(len(powers), -np.inf)
    chunks = 1 << (units - low)
    with jax.default_matmul_precision("highest"):
        for i in range(chunks):
            log_f = np.asarray(_marginals(model, jnp.uint32(i << low), low, units), np.float64)
            top = log_f.max()
            part = np.log([np.exp(p * (log_f - top)).sum() for p in powers])
            total = np.logaddexp(total, powers * top + part)
            if watch is not None:
                watch(100 * (i + 1) // chunks)
    return total


@eqx.filter_jit
def _chunk(model: Energy, offset: Array, low: int, units: int) -> Float[Array, ""]:
    return jax.nn.logsumexp(_marginals(model, offset, low, units))


@eqx.filter_jit
def _marginals(model: Energy, offset: Array, low: int, units: int) -> Float[Array, " n"]:
    shapes = jax.eval_shape(model.draw_base, jax.random.key(0))
    leaves, tree = jax.tree.flatten(shapes)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def one(number: Array) -> Array:
        bits = ((number >> jnp.arange(units, dtype=jnp.uint32)) & 1).astype(leaves[0].dtype)
        return model.log_marginal(jax.tree.unflatten(tree, jnp.split(bits, ends[:-1])))

    return jax.vmap(one)(offset + jnp.arange(1 << low, dtype=jnp.uint32))


def linear_path(temperatures: int) -> np.ndarray:
    """Return betas from 0 to 1, evenly spaced, shape (temperatures + 1,)."""
    if temperatures < 1:
        raise ReverieError(f"temperatures: {temperatures} make no path; give at least 1")
    return np.linspace(0.0, 1.0, temperatures + 1)


@eqx.filter_jit
def piece(
    model: Energy, chains: Annealed, key: PRNGKeyArray, betas: Float[Array, " T1"], first: Array, last: Array
) -> Annealed:
    """Lead chains from temperature `first` to `last` of a path; one executable for every piece."""
    return advance(model, chains, key, betas, first, last)


def certain(log_weights: np.ndarray) -> dict[str, Any]:
    """Return log mean w, its standard error by the delta method, effective sample size and the largest share."""
    a = np.asarray(log_weights, np.float64)
    top = a.max()
    w = np.exp(a - top)
    share = w / w.sum()
    ess = 1.0 / (share**2).sum()
    error = float(np.sqrt(max(1.0 / ess - 1.0 / a.size, 0.0) * a.size / max(a.size - 1, 1)))
    return {"value": float(top + np.log(w.mean())), "error": error, "ess": float(ess), "worst": float(share.max())}
