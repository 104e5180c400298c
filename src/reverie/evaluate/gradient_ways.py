"""Which estimators of the gradient a directed model allows, and of what each is an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reverie.errors import ReverieError, nearest
from reverie.prob.abilities import Relaxes
from reverie.prob.contracts import Latent
from reverie.prob.relaxed_surrogates import concrete, straight_through
from reverie.prob.score_surrogates import Baseline, rws, score, vimco, wake_sleep
from reverie.prob.surrogates import SURROGATES, Surrogate

#: What a gradient may be an estimate of; see `gradients`.
Target = Literal["elbo", "bound", "wake", "dreams"]
#: The one whose baseline is a number that training would have kept.
RUNNING = "score, running-mean"


@dataclass(frozen=True)
class Way:
    """An estimator: how it is made, and of what it is an estimate in P and in Q."""

    name: str
    surrogate: Surrogate
    targets: tuple[Target, Target]
    k: int


@dataclass(frozen=True)
class Plan:
    """Estimators to be measured, and what has to be known for that."""

    chosen: tuple[Way, ...]
    targets: tuple[Target, ...]
    known: dict[str, Way]

    @property
    def size(self) -> int:
        """How many gradients' means are looked for."""
        return len(self.chosen) + len(self.targets)


def plan(
    model: Latent, rows: Float[np.ndarray, "B D"], given: Float[np.ndarray, "B C"] | None, k: int, only: tuple[str, ...]
) -> Plan:
    """Return what is to be done for the estimators `only` (all that the model allows without).

    Raises:
        ReverieError: for an unknown estimator.
    """
    known = known_ways(model, rows[0], k, None if given is None else given[0])
    for name in only:
        if name not in known:
            if name in known_ways(model, rows[0], k + 1, None if given is None else given[0]):
                raise ReverieError(f"k: {name} compares a row's samples with each other; give 2 or more")
            hint = nearest(name, known) or f"; give some of: {'; '.join(known)}"
            raise ReverieError(f"only: {name!r} is no estimator of this model's gradient{hint}")
    chosen = tuple(known[name] for name in only or known)
    return Plan(chosen, tuple(dict.fromkeys(target for way in chosen for target in way.targets)), known)


def discrete(model: Latent, x: Float[np.ndarray, " D"], given: Any = None) -> bool:
    """Say whether some of the latents can be drawn but not differentiated."""
    told = None if given is None else jnp.asarray(given)
    h = jax.eval_shape(lambda key: model.infer(key, jnp.asarray(x), told), jax.random.key(0))
    return any(not jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(h))


def known_ways(model: Latent, x: Float[np.ndarray, " D"], k: int, given: Any = None) -> dict[str, Way]:
    """Return the estimators that a model allows, by name."""
    found = [
        Way("wake-sleep", wake_sleep, ("elbo", "dreams"), k),
        Way("rws, wake", partial(rws, q_updates="wake"), ("bound", "wake"), k),
        *([Way("vimco", vimco, ("bound", "bound"), k)] if k > 1 else []),
        *(_compared(name, k) for name in _baselines(model, k)),
    ]
    if not discrete(model, x, given):
        names = ["elbo", "iwae", "one-backward", "stl", "dreg", *(["elbo-analytic"] if hasattr(model, "kl") else [])]
        found = [_through(name, k) for name in names] + found
    if isinstance(model, Relaxes):
        found += [
            Way(f"concrete, {t:g}", partial(concrete, temperature=t), ("bound", "bound"), k) for t in (1, 0.5, 0.1)
        ]
        found.append(Way("straight-through", straight_through, ("bound", "bound"), k))
    return {way.name: way for way in found}


def _through(name: str, k: int) -> Way:
    target: Target = "elbo" if name.startswith("elbo") else "bound"
    return Way(name, SURROGATES[name], (target, target), k)


def _baselines(model: Latent, k: int) -> list[Baseline]:
    found: list[Baseline] = ["none", "running-mean"]
    found += ["input"] if getattr(model, "forecast", None) is not None else []
    return [*found, "leave-one-out"] if k > 1 else found


def _compared(baseline: Baseline, k: int) -> Way:
    return Way(f"score, {baseline}", partial(score, baseline=baseline), ("elbo", "elbo"), k)
