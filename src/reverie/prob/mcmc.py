r"""Markov chains that leave a density invariant: Hamiltonian Monte Carlo, with or without step-size adaptation.

A sampler is a `Kernel`: ``init(position) -> state`` and ``step(key, state) -> (state, info)``, for one chain; many
chains are a `vmap`.  Whoever anneals or tempers takes the inner kernel as an argument and never asks which one it is.

References: Duane, Kennedy, Pendleton & Roweth, *Hybrid Monte Carlo*, 1987; Neal, *MCMC using Hamiltonian dynamics*,
2011; Wu, Burda, Salakhutdinov & Grosse, *On the Quantitative Analysis of Decoder-Based Generative Models*, 2017
(the adaptation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from reverie.errors import ReverieError

LogDensity = Callable[[PyTree], Float[Array, ""]]
Gradient = Callable[[Float[Array, " d"]], tuple[Float[Array, ""], Float[Array, " d"]]]
Size = float | Float[Array, ""]


class Kernel(NamedTuple):
    """A Markov kernel: ``init(position) -> state``, whose ``position`` is the chain's, and ``step(key, state)``."""

    init: Callable[[PyTree], Any]
    step: Callable[[PRNGKeyArray, Any], tuple[Any, Any]]


class HMCState(NamedTuple):
    """Where a chain is, with the log-density and its gradient there (flat), which the next step starts from."""

    position: PyTree
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]


class HMCInfo(NamedTuple):
    """What a step did: moved or not, the probability of moving, and H(end) - H(start) of its trajectory."""

    accepted: Bool[Array, ""]
    acceptance: Float[Array, ""]
    energy_error: Float[Array, ""]


class Phase(NamedTuple):
    """A point of the trajectory: flat position and momentum, log-density and gradient at the position."""

    position: Float[Array, " d"]
    momentum: Float[Array, " d"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]

    def energy(self) -> Float[Array, ""]:
        r"""Return :math:`H = -\log f(z) + \frac12 |v|^2`."""
        return 0.5 * jnp.vdot(self.momentum, self.momentum) - self.log_density


def leapfrog(value_and_gradient: Gradient, phase: Phase, step_size: Size, steps: int) -> Phase:
    r"""Follow Hamilton's equations for `steps` leaps of size :math:`\epsilon`.

    .. math:: v \mathrel{+}= \tfrac\epsilon2 \nabla\log f(z), \quad z \mathrel{+}= \epsilon v, \quad
              v \mathrel{+}= \tfrac\epsilon2 \nabla\log f(z)

    The map keeps volume, and turns back on itself when the momentum is negated: that is what makes the Metropolis
    ratio of `hmc` the plain difference of energies.
    """

    def leap(_: int, at: Phase) -> Phase:
        position = at.position + step_size * at.momentum
        value, gradient = value_and_gradient(position)
        # Inner half-kicks are joined in pairs; the surplus half of the last one is taken back below.
        return Phase(position, at.momentum + step_size * gradient, value, gradient)

    start = phase._replace(momentum=phase.momentum + 0.5 * step_size * phase.gradient)
    end = jax.lax.fori_loop(0, steps, leap, start)
    return end._replace(momentum=end.momentum - 0.5 * step_size * end.gradient)


def hmc(log_density: LogDensity, step_size: Size, steps: int = 10, jitter: float = 0.0) -> Kernel:
    r"""Return Hamiltonian Monte Carlo with unit mass and a Metropolis correction.

    A momentum :math:`v \sim \mathcal N(0, I)` is drawn, `steps` leapfrog steps lead to :math:`(z', v')`, and
    :math:`z'` is taken with probability :math:`\min(1, e^{H(z, v) - H(z', v')})`.  A trajectory whose energy is not
    a number is refused.

    Args:
        log_density: of one position (any pytree of real arrays), up to a constant.
        step_size: :math:`\epsilon`; traced or not.
        steps: leapfrog steps L of a trajectory.
        jitter: each trajectory's step is :math:`\epsilon\,U(1 - j, 1 + j)`, drawn apart from the position, which
            keeps the density invariant and breaks the resonance of a fixed length :math:`\epsilon L` with a period.

    Raises:
        ReverieError: for fewer than one step or a jitter outside [0, 1).
    """
    if steps < 1:
        raise ReverieError(f"leapfrog: {steps} steps make no trajectory; give at least 1")
    if not 0.0 <= jitter < 1.0:
        raise ReverieError(f"jitter: {jitter} is not in [0, 1)")

    def init(position: PyTree) -> HMCState:
        value, gradient = jax.value_and_grad(log_density)(position)
        return HMCState(position, value, ravel_pytree(gradient)[0])

    def step(key: PRNGKeyArray, state: HMCState) -> tuple[HMCState, HMCInfo]:
        momentum_key, size_key, accept_key = jax.random.split(key, 3)
        flat, unravel = ravel_pytree(state.position)
        momentum = jax.random.normal(momentum_key, flat.shape, flat.dtype)
        size = jnp.asarray(step_size, flat.dtype)
        if jitter:
            size *= jax.random.uniform(size_key, (), flat.dtype, 1.0 - jitter, 1.0 + jitter)
        start = Phase(flat, momentum, state.log_density, state.gradient)
        end = leapfrog(jax.value_and_grad(lambda z: log_density(unravel(z))), start, size, steps)
        error = end.energy() - start.energy()
        acceptance = jnp.exp(-jnp.maximum(jnp.where(jnp.isnan(error), jnp.inf, error), 0.0))
        accepted = jax.random.uniform(accept_key, (), acceptance.dtype) < acceptance
        kept = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, start)
        moved = HMCState(unravel(kept.position), kept.log_density, kept.gradient)
        return moved, HMCInfo(accepted, acceptance, error)

    return Kernel(init, step)


class Adapted(NamedTuple):
    """An inner state with the step size it will use next and a running mean of what was accepted."""

    inner: Any
    step_size: Float[Array, ""]
    average: Float[Array, ""]

    @property
    def position(self) -> PyTree:
        return self.inner.position


def adaptive(
    kernel: Callable[[Float[Array, ""]], Kernel],
    step_size: Size,
    target: float = 0.65,
    factor: float = 1.02,
    memory: float = 0.9,
) -> Kernel:
    r"""Return a kernel that tunes its own step size, chain by chain, as Wu et al. (2017) do.

    The running mean of acceptance, :math:`a \leftarrow m a + (1 - m)\,1[\text{accepted}]`, is compared with `target`:
    above it the step grows by `factor`, below it shrinks by :math:`2 - ` `factor` (1.02 and 0.98 in the paper).
    (Growing on each acceptance and shrinking on each refusal, without the mean, settles at 0.5, not 0.65.)

    What adapts remembers its past and leaves nothing exactly invariant: use it to find step sizes, then freeze them.

    Args:
        kernel: from a step size to the inner kernel.
        step_size: the first one.
        target: acceptance aimed at.
        factor: growth of the step, in (1, 2).
        memory: m, in [0, 1).
    """

    def init(position: PyTree) -> Adapted:
        size = jnp.asarray(step_size, jnp.result_type(float))
        return Adapted(kernel(size).init(position), size, jnp.full_like(size, target))

    def step(key: PRNGKeyArray, state: Adapted) -> tuple[Adapted, HMCInfo]:
        inner, info = kernel(state.step_size).step(key, state.inner)
        average = memory * state.average + (1.0 - memory) * info.accepted
        size = state.step_size * jnp.where(average > target, factor, 2.0 - factor)
        return Adapted(inner, size, average), info

    return Kernel(init, step)
