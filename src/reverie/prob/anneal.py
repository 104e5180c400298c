r"""Annealing, written once for every path and every inner kernel: a chain led from f_0 to f_1, and its log-weight.

Along a path :math:`f_b`, :math:`0 = b_0 < \dots < b_T = 1`, the log-weight of a chain is

.. math:: \log w = \sum_{t=1}^{T} \log\frac{f_{b_t}(z_{t-1})}{f_{b_{t-1}}(z_{t-1})}, \qquad
          z_0 \sim f_0, \quad z_t \sim K_{b_t}(\cdot \mid z_{t-1}),

where :math:`K_b` leaves :math:`f_b` invariant; then :math:`\mathbb E[w] = \int f_1 / \int f_0`.  Path and kernel are
arguments: the geometric path and Hamiltonian moves for decoders (`ais`), Gibbs sweeps for energies (`partition`).

Reference: Neal, *Annealed importance sampling*, 2001.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from reverie.errors import ReverieError
from reverie.prob.mcmc import Kernel, LogDensity

Ratio = Callable[[PyTree, Float[Array, ""], Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


def sigmoid_schedule(temperatures: int, reach: float = 4.0) -> np.ndarray:
    r"""Return :math:`b_0 = 0, \dots, b_T = 1`, dense at both ends, in float64, shape ``(temperatures + 1,)``.

    .. math:: g_t = \sigma(r(2t/T - 1)), \qquad b_t = (g_t - g_0)/(g_T - g_0), \qquad r = 4 \text{ (Wu et al. 2017)}

    Raises:
        ReverieError: for fewer than one temperature.
    """
    if temperatures < 1:
        raise ReverieError(f"temperatures: {temperatures} make no path; give at least 1 (1 is importance sampling)")
    g = 1.0 / (1.0 + np.exp(-reach * (2.0 * np.arange(temperatures + 1) / temperatures - 1.0)))
    return (g - g[0]) / (g[-1] - g[0])


def compensated_add(
    total: Float[Array, "..."], compensation: Float[Array, "..."], value: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Add `value`, and what the rounding lost to `compensation`; the sum is the two together (Kahan, Neumaier)."""
    new = total + value
    part = new - total
    lost = (total - (new - part)) + (value - part)
    # An impossible row has weight exp(-inf), whose rounding error would be inf - inf.
    return new, compensation + jnp.where(jnp.isfinite(new), lost, 0.0)


class Annealed(NamedTuple):
    """One chain under way: where it is, its log-weight (two parts), and the sum of its acceptance probabilities."""

    position: PyTree
    total: Float[Array, ""]
    compensation: Float[Array, ""]
    acceptance: Float[Array, ""]

    @staticmethod
    def start(position: PyTree) -> Annealed:
        zero = jnp.zeros(())
        return Annealed(position, zero, zero, zero)

    def log_weight(self) -> Float[Array, ""]:
        return self.total + self.compensation


def geometric(log_f0: LogDensity, log_f1: LogDensity, beta: Float[Array, ""]) -> LogDensity:
    r"""Return :math:`\log f_b = (1-b) \log f_0 + b \log f_1`."""
    return lambda z: (1.0 - beta) * log_f0(z) + beta * log_f1(z)


def geometric_ratio(log_f0: LogDensity, log_f1: LogDensity) -> Ratio:
    r"""Return what the path :math:`f_0^{1-b} f_1^b` adds to a log-weight: :math:`(b' - b)\log(f_1/f_0)`."""
    return lambda z, start, stop, rise: rise * (log_f1(z) - log_f0(z))


def anneal(
    key: PRNGKeyArray,
    chain: Annealed,
    ratio: Ratio,
    kernel: Callable[[Float[Array, ""]], Kernel],
    betas: np.ndarray | Float[Array, " T1"],
    first: int | Int[Array, ""] = 0,
    last: int | Int[Array, ""] | None = None,
) -> Annealed:
    r"""Lead one chain through the temperatures `first` .. `last` of a path (all of it by default).

    Temperature t adds :math:`\log f_{b_{t+1}} - \log f_{b_t}` at the present position, then moves it with
    :math:`K_{b_{t+1}}`.  Betas that fall from 1 to 0 are the reverse chain: its log-weight is that of :math:`1/w`.
    Keys are folded from the temperature's index, so a path in pieces equals the path in one go, bit for bit.

    Args:
        key: of this chain; the same for every piece.
        chain: `Annealed.start` of a draw from the law at ``betas[0]``, or what an earlier piece returned.
        ratio: ``ratio(position, start, stop, rise)`` is :math:`\log f_{stop} - \log f_{start}`; `rise` is their
            difference to full precision.  For E[w] to be the normaliser of f_1, f_0 must be normalised.
        kernel: from b to a kernel that leaves :math:`f_b` invariant.
        betas: shape ``(T + 1,)``.
        first, last: traced or not; `last` is beyond the final temperature done.
    """
    froms, to = (jnp.asarray(part, chain.total.dtype) for part in (betas[:-1], betas[1:]))
    rises = jnp.asarray(np.diff(betas) if isinstance(betas, np.ndarray) else jnp.diff(betas), chain.total.dtype)

    def body(t: Array, at: Annealed) -> Annealed:
        increment = ratio(at.position, froms[t], to[t], rises[t])
        total, compensation = compensated_add(at.total, at.compensation, increment)
        move = kernel(to[t])
        state, info = move.step(jax.random.fold_in(key, t), move.init(at.position))
        # A Gibbs sweep has nothing to refuse.
        return Annealed(state.position, total, compensation, at.acceptance + getattr(info, "acceptance", 1.0))

    return jax.lax.fori_loop(first, to.shape[0] if last is None else last, body, chain)
