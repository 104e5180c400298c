r"""Chains of an energy: sweeps, swaps between temperatures, and moves up to a hotter law and back.

The last two leave the model's own law invariant, and take states from one of its modes to another that block Gibbs
alone would not reach in the time (Geyer 1991; Neal 1996).

References: Geyer, *Markov Chain Monte Carlo Maximum Likelihood*, 1991; Neal, *Sampling from Multimodal Distributions
Using Tempered Transitions*, 1996; Salakhutdinov, *Learning in Markov Random Fields using Tempered Transitions*, 2009;
Desjardins, Courville, Bengio, Vincent & Delalleau, *Parallel Tempering for Training of Restricted Boltzmann Machines*,
2010.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from reverie.prob.contracts import Energy


def sweeps(
    model: Energy,
    key: PRNGKeyArray,
    states: PyTree,
    first: int | Int[Array, ""],
    last: int | Int[Array, ""],
    beta: float | Float[Array, ""] = 1.0,
) -> PyTree:
    """Return the states of many chains after sweeps `first` to `last`, whose keys are folded from their numbers.

    All chains of a sweep are one matrix product for each pair of layers.
    """
    count = jax.tree.leaves(states)[0].shape[0]

    def sweep(i: Array, now: PyTree) -> PyTree:
        keys = jax.random.split(jax.random.fold_in(key, i), count)
        return jax.vmap(lambda own, state: model.sweep(own, state, beta))(keys, now)

    return jax.lax.fori_loop(first, last, sweep, states)


def swap_neighbours(
    model: Energy, key: PRNGKeyArray, states: PyTree, betas: Float[Array, " R"], parity: int | Int[Array, ""]
) -> tuple[PyTree, Float[Array, " R1"]]:
    """Swap the states of every second pair of neighbouring replicas, each chain on its own, as `swaps` says.

    Returns:
        The states (replicas, chains, ...) and how often each pair was swapped (0 for pairs that were not tried).
    """
    taken = swaps(model, key, states, betas, parity)
    return exchanged(states, taken), taken.mean(axis=1)


def swaps(
    model: Energy, key: PRNGKeyArray, states: PyTree, betas: Float[Array, " R"], parity: int | Int[Array, ""]
) -> Bool[Array, "R1 C"]:
    r"""Return which chains of every second pair of neighbouring replicas are to be swapped.

    A pair (i, i+1) is swapped with probability
    :math:`\min\big(1, \frac{f_i(x_{i+1}) f_{i+1}(x_i)}{f_i(x_i) f_{i+1}(x_{i+1})}\big)`, f being the marginal over the
    other colour, which is not linear in beta.

    Args:
        states: replicas, then chains, in front.
        parity: of the i that are tried.
    """
    replicas, chains = betas.shape[0], jax.tree.leaves(states)[0].shape[1]
    # What each replica gains from the lower to the upper law of the pair that it is in: it is in one at most.
    lower = jnp.clip(jnp.arange(replicas) - (jnp.arange(replicas) - parity) % 2, 0, replicas - 2)
    start, stop = (jnp.repeat(ends, chains) for ends in (betas[lower], betas[lower + 1]))
    gain = jax.vmap(model.log_ratio)(flat(states), start, stop).reshape(replicas, chains)
    tried = (jnp.arange(replicas - 1) % 2 == parity)[:, None]
    return tried & (jnp.log(jax.random.uniform(key, (replicas - 1, chains))) < gain[:-1] - gain[1:])


def exchanged(states: PyTree, taken: Bool[Array, "R1 C"]) -> PyTree:
    """Return states (replicas, chains, ...) with the pairs of neighbours that are `taken` in each other's place."""
    # Pairs that are tried share no replica, so each replica takes from at most one neighbour.
    none = jnp.zeros_like(taken[:1])
    up, down = (jnp.concatenate(parts).astype(jnp.int32) for parts in ([taken, none], [none, taken]))
    source = jnp.arange(len(up))[:, None] + up - down
    return jax.tree.map(lambda s: s[source, jnp.arange(s.shape[1])], states)


def flat(states: PyTree) -> PyTree:
    """Return states (replicas, chains, ...) as (replicas * chains, ...): one batch, and no product turned round."""
    return jax.tree.map(lambda s: s.reshape(-1, *s.shape[2:]), states)


def tempered_transition(
    model: Energy, key: PRNGKeyArray, state: PyTree, betas: Float[Array, " n1"]
) -> tuple[PyTree, Float[Array, ""]]:
    r"""Lead one state up to hotter laws and back, and accept where it ends or stay (Neal 1996).

    With betas :math:`1 = \beta_0 > \dots > \beta_n`, sweeps at :math:`\beta_1, \dots, \beta_n, \beta_n, \dots,
    \beta_1` and states :math:`\hat x_0, \dots, \hat x_n = \check x_n, \dots, \check x_0`, the end is accepted with

    .. math:: \min\Big(1, \prod_{k=0}^{n-1} \frac{f_{k+1}(\hat x_k)}{f_k(\hat x_k)}
              \frac{f_k(\check x_k)}{f_{k+1}(\check x_k)}\Big).

    It leaves :math:`f_1` invariant as every sweep is reversible.

    Args:
        betas: from 1 down to the hottest, shape (n + 1,).

    Returns:
        The state, and 1 where the move was accepted.
    """
    up, down, last = jax.random.split(key, 3)
    steps = betas.shape[0] - 1

    def heat(k: Array, at: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        now, total = at
        total = total + model.log_ratio(now, betas[k], betas[k + 1])
        return model.sweep(jax.random.fold_in(up, k), now, betas[k + 1]), total

    def cool(i: Array, at: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        now, total = at
        k = steps - 1 - i
        now = model.sweep(jax.random.fold_in(down, k), now, betas[k + 1])
        return now, total + model.log_ratio(now, betas[k + 1], betas[k])

    hot = jax.lax.fori_loop(0, steps, heat, (state, jnp.zeros(())))
    end, total = jax.lax.fori_loop(0, steps, cool, hot)
    taken = jnp.log(jax.random.uniform(last)) < total
    return jax.tree.map(lambda new, old: jnp.where(taken, new, old), end, state), taken.astype(jnp.float32)
