r"""Gibbs-Langevin: chains of a Gaussian-Bernoulli machine that start from noise and walk on the data's side.

A sweep draws h given v and then takes some Langevin steps on v,

.. math:: v' = v - \eta_t\, s^2 \odot \nabla_v E + \sqrt{2 \eta_t}\, s \odot \epsilon, \qquad
          s^2 \odot \nabla_v E(v, h) = v - \mu - W h,

or, on the energy with h summed out, the same with :math:`\mathbb E[h \mid v]` for h.  The size falls from :math:`\eta`
along half a cosine over the sweeps.  Steps leave the law invariant only as :math:`\eta \to 0`; with Metropolis'
correction each of them does:

.. math:: \min\Big(1, \frac{e^{-E(v')}\, q(v \mid v')}{e^{-E(v)}\, q(v' \mid v)}\Big).

The size is a chain's own, in units of each column's variance.  The paper's code takes one size for all columns, 20
(mixtures: 10) times the mean variance, and divides energies by the batch of 512 (100): 0.039 (0.1) in these units.
One size for all columns diverges on those whose variance is less than half of it.

Reference: Liao, Kornblith, Ren, Fleet & Hinton, *Gaussian-Bernoulli RBMs Without Tears*, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.models.undirected._layered import Boltzmann, Layers
from reverie.nn.units import Gaussian


@dataclass(frozen=True)
class Langevin:
    """The steps of ``langevin``, whose sweeps are Gibbs's and some of these.

    Args:
        steps: on the data's side, in each sweep.
        size: the first size, in units of each column's variance; it falls to nothing over the sweeps.
        adjusted: last sweeps whose steps are accepted or refused (Metropolis).
        marginal: walk on the energy with the hidden units summed out.
        persistent: go on from step to step instead of from noise.
    """

    steps: int = 10
    size: float = 0.1
    adjusted: int = 0
    marginal: bool = False
    persistent: bool = False

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.steps < 1:
            raise ReverieError(f"langevin.steps: {self.steps} is too little; give 1 or more")
        if not 0 < self.size < 2:
            raise ReverieError(f"langevin.size: {self.size:g} makes chains diverge; give one above 0 and below 2")
        if self.adjusted < 0:
            raise ReverieError(f"langevin.adjusted: {self.adjusted} is no number of sweeps; give 0 or more")


def noise(model: Boltzmann, key: PRNGKeyArray, chains: int) -> Float[Array, "C D"]:
    """Return rows of standard normal noise, where chains start."""
    return jax.random.normal(key, (chains, model.biases[0].size), model.biases[0].dtype)


def walked(
    model: Boltzmann, key: PRNGKeyArray, rows: Float[Array, "C D"], count: int | Int[Array, ""], how: Langevin
) -> Float[Array, "C D"]:
    """Return the rows of chains after `count` sweeps."""

    def sweep(t: Array, now: Array) -> Array:
        size = 0.5 * how.size * (1.0 + jnp.cos(jnp.pi * t / count))
        keys = jax.random.split(jax.random.fold_in(key, t), len(now))
        late = t >= count - how.adjusted
        return jax.vmap(lambda k, v: _swept(model, k, v, size, late, how))(keys, now)

    return jax.lax.fori_loop(0, count, sweep, rows)


def _swept(model: Boltzmann, key: PRNGKeyArray, v: Array, size: Array, late: Array, how: Langevin) -> Array:
    draw, walk = jax.random.split(key)
    h = model.draw(draw, model.odd, {0: v})[1]
    keys = jax.random.split(walk, how.steps)

    def leap(i: Array, now: Array) -> Array:
        given = None if how.marginal else h
        return step(model, keys[i], now, given, size, adjusted=late if how.adjusted else False)

    return jax.lax.fori_loop(0, how.steps, leap, v)


def step(
    model: Boltzmann,
    key: PRNGKeyArray,
    v: Float[Array, " D"],
    h: Float[Array, " F"] | None,
    size: float | Float[Array, ""],
    *,
    adjusted: bool | Array = True,
) -> Float[Array, " D"]:
    """Return v after one Langevin step.

    Args:
        h: the hidden units, held; None walks on the energy with them summed out.
        size: of the step, in units of each column's variance.
        adjusted: accept or refuse it, so that the law stays as it is.
    """
    first, second = jax.random.split(key)
    variance = variances(model)

    def downhill(x: Array) -> Array:
        seen: Layers = model.means(model.odd, {0: x}) if h is None else {1: h}
        return x - size * (x - model.field(0, seen))

    here = downhill(v)
    new = here + jnp.sqrt(2.0 * size * variance) * jax.random.normal(first, v.shape, v.dtype)
    if adjusted is False:
        return new
    forth, back = (((a - b) ** 2 / variance).sum() for a, b in ((new, here), (v, downhill(new))))
    log_ratio = log_density(model, new, h) - log_density(model, v, h) + (forth - back) / (4.0 * size)
    taken = jnp.log(jax.random.uniform(second, (), v.dtype)) < log_ratio
    return jnp.where(taken | ~jnp.asarray(adjusted), new, v)


def variances(model: Boltzmann) -> Float[Array, " D"]:
    """Return the conditional variances of the visible layer."""
    assert isinstance(model.visible, Gaussian)
    return model.visible.variance


def log_density(model: Boltzmann, v: Float[Array, " D"], h: Float[Array, " F"] | None) -> Float[Array, ""]:
    """Return -E(v, h), or with h summed out where it is None, up to a constant; unseen columns as free Gaussians."""
    if h is None:
        own = model.units(1).log_partition(model.field(1, {0: v})).sum()
        slope = jnp.vdot(model.biases[0] / variances(model), v)
    else:
        own, slope = jnp.zeros(()), jnp.vdot(model.field(0, {1: h}) / variances(model), v)
    return own + slope - 0.5 * (v**2 / variances(model)).sum()
