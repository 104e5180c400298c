"""An optimiser that waits: for so many steps it moves nothing and learns nothing."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Waiting(NamedTuple):
    """Steps seen, and the state of the optimiser that waits."""

    seen: jax.Array
    inner: optax.OptState


def waiting(inner: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """Return `inner`, which begins after `steps` steps as if they had not been: moments, rate plan and all."""

    def init(params: optax.Params) -> Waiting:
        return Waiting(jnp.zeros((), jnp.int32), inner.init(params))

    def update(
        updates: optax.Updates, state: Waiting, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Waiting]:
        moves, after = inner.update(updates, state.inner, params)
        on = state.seen >= steps
        kept = jax.tree.map(lambda new, old: jnp.where(on, new, old), after, state.inner)
        still = jax.tree.map(lambda move: jnp.where(on, move, 0), moves)
        return still, Waiting(state.seen + 1, kept)

    return optax.GradientTransformation(init, update)
