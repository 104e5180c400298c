"""Optimisers and schedules in the papers' forms, all of them optax transformations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from reverie.errors import ReverieError, nearest

Shape = Callable[[jax.Array], jax.Array]

#: Eight stages of 3^{i-1} epochs at 10^{-(i-1)/7} of the rate (Burda et al. 2016), as fractions of the plan.
_IWAE_ENDS = tuple((3**i - 1) / (3**8 - 1) for i in range(1, 8))
_IWAE_RATES = (1.0, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.10)


def _stages(ends: tuple[float, ...], rates: tuple[float, ...]) -> Shape:
    return lambda t: jnp.asarray(rates)[jnp.searchsorted(jnp.asarray(ends), t, side="right")]


#: What multiplies the rate at a fraction t of the plan; past the plan the last value holds.
SCHEDULES: dict[str, Shape] = {
    "constant": jnp.ones_like,
    "linear": lambda t: 1.0 - t,
    # Robbins & Monro's a / (t0 + t), with t0 a hundredth of the plan.
    "inverse": lambda t: 1.0 / (1.0 + 100.0 * t),
    "cosine": lambda t: 0.1 + 0.45 * (1.0 + jnp.cos(jnp.pi * t)),
    "steps": _stages((0.6, 0.85), (1.0, 0.3, 0.1)),
    # Halved at each quarter (Sukhbaatar et al. 2015: every 25 of 100 epochs, every 15 of 60).
    "halving": _stages((0.25, 0.5, 0.75), (1.0, 0.5, 0.25, 0.125)),
    "iwae": _stages(_IWAE_ENDS, _IWAE_RATES),
    # 0.998 an epoch over the last 2,000 of 3,000 epochs (Li et al. 2016, the code), stretched over the plan.
    "mem": lambda t: jnp.exp(2000 * jnp.log(0.998) * jnp.clip((t - 1 / 3) * 1.5, 0.0, 1.0)),
    # Falls to nothing from .67 of the plan on (Rasmus et al. 2015, the code).
    "ladder": lambda t: jnp.minimum(1.0, (1.0 - t) / 0.33),
}


def schedule(name: str, rate: float, steps: int) -> optax.Schedule:
    """Return step -> learning rate, stretched over `steps`.

    Raises:
        ReverieError: for an unknown name.
    """
    if name not in SCHEDULES:
        raise ReverieError(f"schedule: {name!r} is not one of {', '.join(SCHEDULES)}{nearest(name, SCHEDULES)}")
    shape = SCHEDULES[name]
    return lambda step: rate * shape(jnp.clip(step / steps, 0.0, 1.0))


def ends_at_nothing(name: str) -> bool:
    """Say whether a schedule is 0 at the end of its plan, so that nothing is learnt past it."""
    return name in SCHEDULES and float(SCHEDULES[name](jnp.ones(()))) == 0.0


def ramp(steps: int) -> Callable[[jax.Array], jax.Array]:
    """Return step -> min(1, (step + 1) / steps), the weight of the KL during warm-up."""
    return lambda step: jnp.minimum(1.0, (step + 1.0) / max(steps, 1))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with the extras that published recipes need; beta_2 is 0.999.

    Args:
        momentum: beta_1.
        epsilon: added to the root of the second moment of the gradient of the MEAN loss.
        second_moment: what the second moment starts at (the IWAE code: one, of a sum over 20 rows).
        clip_norm: rescale the gradient to at most this norm; 0 is off.
        clip_element: then clip each element to this; 0 is off.
        decay: of weights (not of biases), times the rate, apart from the gradient (Loshchilov & Hutter 2019).
    """

    momentum: float = 0.9
    epsilon: float = 1e-8
    second_moment: float = 0.0
    clip_norm: float = 0.0
    clip_element: float = 0.0
    decay: float = 0.0

    def __call__(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """Return the transformation for a learning rate by step."""
        scale = optax.scale_by_adam(b1=self.momentum, b2=0.999, eps=self.epsilon)

        def init(params: optax.Params) -> optax.OptState:
            state = scale.init(params)
            return state._replace(nu=jax.tree.map(lambda n: jnp.full_like(n, self.second_moment), state.nu))

        clips = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm else []
        clips += [optax.clip(self.clip_element)] if self.clip_element else []
        started = optax.GradientTransformation(init, scale.update)
        weights = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
        shrunk = [optax.add_decayed_weights(self.decay, weights)] if self.decay else []
        return optax.chain(*clips, started, *shrunk, optax.scale_by_learning_rate(rate))


def rmsprop(
    rate: optax.Schedule, *, decay: float = 0.95, momentum: float = 0.9, clip: float = 0.0
) -> optax.GradientTransformation:
    r"""Return RMSprop with momentum (Tieleman & Hinton 2012): :math:`m \leftarrow \mu m + g/(\sqrt v + 10^{-8})`.

    Args:
        decay: of v, the mean square of the gradient.
        momentum: :math:`\mu`.
        clip: rescale the gradient to at most this norm; 0 is off.
    """
    clips = [optax.clip_by_global_norm(clip)] if clip else []
    scale = optax.scale_by_rms(decay=decay, eps=1e-8, eps_in_sqrt=False)
    return optax.chain(*clips, scale, optax.trace(momentum), optax.scale_by_learning_rate(rate))


def descent(rate: optax.Schedule, *, clip: float) -> optax.GradientTransformation:
    """Return gradient descent of models side by side: the gradient of each leaf of each of them has a norm of its own.

    Args:
        clip: rescale the gradient of a leaf, of each place of its first axis, to at most this norm.
    """

    def shorten(g: jax.Array) -> jax.Array:
        norm = jnp.sqrt((g**2).sum(axis=tuple(range(1, g.ndim)), keepdims=True))
        return g * jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-12))

    shortened = optax.stateless(lambda updates, params: jax.tree.map(shorten, updates))
    return optax.chain(shortened, optax.scale_by_learning_rate(rate))


@dataclass(frozen=True)
class Momentum:
    """Momentum of gradient descent: small while the first steps are large, larger later (Hinton 2010).

    Args:
        start: in the first epochs.
        end: afterwards.
        epochs: how many the first ones are.
    """

    start: float = 0.5
    end: float = 0.5
    epochs: float = 5.0


class Trace(NamedTuple):
    """State of `steepest`: the step under way, and how many were done."""

    trace: optax.Updates
    done: jax.Array


def steepest(
    rate: optax.Schedule, momentum: Momentum | optax.Schedule, epoch_steps: float, clip: float = 0.0
) -> optax.GradientTransformation:
    """Return gradient descent with momentum, ``step = m step - rate gradient`` (Hinton 2010).

    Args:
        momentum: m in two stages, or by step.
        epoch_steps: steps of an epoch, in which a `Momentum` counts.
        clip: rescale the gradient to at most this norm; 0 is off.
    """

    def init(params: optax.Params) -> Trace:
        return Trace(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

    def update(updates: optax.Updates, state: Trace, params: optax.Params | None = None) -> tuple[optax.Updates, Trace]:
        # One number where it never changes, so that a small step pays for no comparison.
        keep: Any = momentum(state.done) if callable(momentum) else momentum.end
        if isinstance(momentum, Momentum) and momentum.start != momentum.end:
            keep = jnp.where(state.done < momentum.epochs * epoch_steps, momentum.start, momentum.end)
        trace = jax.tree.map(lambda g, t: g + keep * t, updates, state.trace)
        return trace, Trace(trace, state.done + 1)

    clips = [optax.clip_by_global_norm(clip)] if clip else []
    # The rate inside the momentum, as in the published codes: a falling rate leaves the steps under way alone.
    return optax.chain(
        *clips, optax.scale_by_learning_rate(rate), optax.GradientTransformation(init, update)
    )  # fmt: skip


def going_on(theirs: optax.OptState, fresh: optax.OptState) -> optax.OptState:
    """Return the moments of `theirs` with the schedules of `fresh`: a new rate plan begins at its start."""
    is_schedule = lambda s: isinstance(s, optax.ScaleByScheduleState)  # noqa: E731
    take = lambda old, new: new if is_schedule(new) else old  # noqa: E731
    return jax.tree.map(take, theirs, fresh, is_leaf=is_schedule)
