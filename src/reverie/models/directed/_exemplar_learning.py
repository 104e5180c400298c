r"""What a generative auto encoder descends at a step, and the proposal that its codes are drawn from (`gae`)."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.models.directed._exemplars import Candidates, Sum, encoded, log_mixture, log_normal, once
from reverie.prob.surrogates import freeze, scale_gradient


def propose(
    key: PRNGKeyArray,
    own: tuple[Float[Array, "B d"], Float[Array, "B d"]],
    near: tuple[Float[Array, "B K d"], Float[Array, "B K d"]] | None,
    share: float,
    samples: int,
) -> Float[Array, "S B d"]:
    """Draw z of the proposal for each row, reparameterised within the component that was chosen."""
    which, noise = jax.random.split(key)
    mean, log_scale = (jnp.broadcast_to(a, (samples, *a.shape)) for a in own)
    if near is not None:
        first, second = jax.random.split(which)
        at = jax.random.randint(first, mean.shape[:2], 0, near[0].shape[1])
        theirs = jax.random.uniform(second, mean.shape[:2])[..., None] >= share
        rows = jnp.arange(mean.shape[1])
        mean, log_scale = (
            jnp.where(theirs, other[rows, at], mine) for other, mine in zip(near, (mean, log_scale), strict=True)
        )
    return mean + jnp.exp(log_scale) * jax.random.normal(noise, mean.shape)


def log_proposal(
    z: Float[Array, "... d"],
    own: tuple[Float[Array, "... d"], Float[Array, "... d"]],
    near: tuple[Float[Array, "... K d"], Float[Array, "... K d"]] | None,
    share: float,
) -> Float[Array, "..."]:
    r"""Return :math:`\log q(z \mid x)` of the proposal."""
    mine = log_normal(z, *own)
    if near is None:
        return mine
    others = jax.nn.logsumexp(log_normal(z[..., None, :], *near), axis=-1) - math.log(near[0].shape[-2])
    return jnp.logaddexp(math.log(share) + mine if share > 0 else -jnp.inf, math.log1p(-share) + others)


def regulariser(
    mean: Float[Array, "... d"], log_scale: Float[Array, "... d"], means: float, scales: float
) -> Float[Array, "..."]:
    r"""Return :math:`R = -\lambda_1 \lVert\mu\rVert^2 + \lambda_2 \sum_i (1 + \log\sigma_i^2 - \sigma_i^2)`."""
    spread = 1.0 + 2.0 * log_scale - jnp.exp(2.0 * log_scale)
    return -means * (mean**2).sum(axis=-1) + scales * spread.sum(axis=-1)


class Objective:
    """What the player descends: minus the surrogate of the module's page, a mean over the batch."""

    def __init__(
        self, update: str, how: Sum, samples: int, size: int, leave_one_out: bool, penalties: tuple[float, float]
    ) -> None:
        self.update, self.how, self.samples, self.size = update, how, samples, size
        self.leave_one_out, self.penalties = leave_one_out, penalties

    def __call__(
        self, model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray
    ) -> tuple[Array, Any, dict[str, Array]]:
        own = encoded(model, batch["x"])
        candidates = self._candidates(model, batch, own)
        near = candidates.nearest(own[0], batch["index"], model.neighbours) if model.share < 1 else None
        z = propose(key, own, near, model.share, self.samples)

        def prior(z: Array, left_out: bool) -> Array:
            return log_mixture(self.how, z, batch["index"], candidates, self.size, left_out, batch["tail"])

        def joint(model: Any, z: Array) -> Array:
            of_row = jax.vmap(jax.vmap(model.log_likelihood), in_axes=(None, 0))
            return of_row(batch["x"], z) + prior(z, self.leave_one_out)

        def log_w(model: Any, z: Array, own: Any, near: Any) -> Array:
            return joint(model, z) - log_proposal(z, own, near, model.share)

        still = jax.lax.stop_gradient
        values = still(log_w(freeze(model), still(z), still(own), still(near)))
        bound = jax.nn.logsumexp(values, axis=0) - math.log(self.samples)
        weights = jax.nn.softmax(values, axis=0)
        if self.update == "em":
            # The proposal learns from the same weights, as q does in reweighted wake-sleep.
            ascent = (weights * (joint(model, still(z)) + log_normal(still(z), *own))).sum(axis=0)
        elif self.update == "dreg":
            ascent = (weights * log_w(model, scale_gradient(z, weights[..., None]), still(own), still(near))).sum(0)
        else:
            ascent = (weights * log_w(model, z, own, near)).sum(axis=0)
        penalty = regulariser(*own, *self.penalties)
        mine = log_normal(still(z), *still(own)) - math.log(self.size)
        rest = prior(still(z), True)
        info = {
            "bound": bound.mean(),
            "elbo": values.mean(),
            "own_part": (weights * jax.nn.sigmoid(mine - rest)).sum(0).mean(),
        }
        if any(self.penalties):
            info["penalty"] = penalty.mean()
        # The value is the bound's; its gradient is the estimator's.
        objective = still(bound - ascent) + ascent + penalty
        return -objective.mean(), carry, still(info)

    def _candidates(self, model: Any, batch: dict[str, Any], own: tuple[Array, Array]) -> Candidates:
        found = encoded(model, batch["rows"])
        index = batch["candidates"]
        if self.how != "exact":
            found = tuple(jnp.concatenate([a, b]) for a, b in zip(own, found, strict=True))  # type: ignore[assignment]
        first = jnp.ones(index.shape, bool) if self.how == "exact" else once(index)
        return Candidates(index, first, *found)
