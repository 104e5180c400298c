r"""Players of adversarial games: what each minimises, and the rates of published codes.

With log-odds a of the data's rows and b of the generator's, :math:`D = \sigma(\cdot)`,

.. math:: V = \mathbb E \log D(x) + \mathbb E \log(1 - D(G(z)))
            = -\mathbb E\,\mathrm{softplus}(-a) - \mathbb E\,\mathrm{softplus}(b).

Everything is computed from log-odds; no sigmoid is ever put into a logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from reverie.errors import ReverieError
from reverie.models.implicit._nets import Critic
from reverie.train.optimise import Adam, steepest
from reverie.train.optimise import schedule as falling

Loss = Literal["non-saturating", "minimax"]
Optimiser = Literal["adam", "sgd"]


def value(real: Float[Array, " B"], fake: Float[Array, " B"]) -> Float[Array, ""]:
    """Return V of the log-odds of rows and of draws; -log 4 where nothing can be told apart."""
    return -jax.nn.softplus(-real).mean() - jax.nn.softplus(fake).mean()


def discriminator_loss(
    real: Float[Array, " B"], fake: Float[Array, " B"], smoothing: float = 0.0
) -> Float[Array, ""]:  # fmt: skip
    """Return -V/2, the mean cross-entropy of both kinds, the data's own told with 1 - `smoothing` rather than 1."""
    told = (1.0 - smoothing) * jax.nn.softplus(-real) + smoothing * jax.nn.softplus(real)
    return 0.5 * (told.mean() + jax.nn.softplus(fake).mean())


def generator_loss(fake: Float[Array, " B"], loss: Loss) -> Float[Array, ""]:
    r"""Return what the generator minimises.

    ``minimax``: :math:`\mathbb E \log(1 - D)`, whose gradient vanishes where the discriminator is sure;
    ``non-saturating``: :math:`-\mathbb E \log D`, whose gradient in b is :math:`(1 - D)/D` times that, with the same
    zeros at the equilibrium.
    """
    return jax.nn.softplus(-fake).mean() if loss == "non-saturating" else -jax.nn.softplus(fake).mean()


def slope_penalty(
    odds: Callable[[Array], Array], rows: Float[Array, "B n"], there: Float[Array, " n"] | float = 1.0
) -> Float[Array, ""]:
    r"""Return :math:`\tfrac12 \mathbb E \|\nabla_x a(x)\|^2` at the data (R1: Mescheder, Geiger & Nowozin 2018).

    Args:
        odds: a of rows, each its own.
        there: 1 for columns that count, 0 for others.
    """
    slopes = jax.grad(lambda x: odds(x).sum())(rows) * there
    return 0.5 * (slopes**2).sum(axis=-1).mean()


Powers = tuple[Float[Array, " _"], ...]


def powers(critic: Critic) -> Powers:
    """Return where the power iteration of each matrix begins."""
    return tuple(jnp.full(one.weight.shape[1], one.weight.shape[1] ** -0.5) for one in critic.matrices)


def normalised(critic: Critic, vectors: Powers) -> tuple[Critic, Powers]:
    """Return the critic, each matrix divided by its largest singular value, after one more power iteration.

    Spectral normalisation (Miyato, Kataoka, Koyama & Yoshida 2018): the vectors go from step to step.
    """
    found, after = [], []
    for one, u in zip(critic.matrices, vectors, strict=True):
        weight = jax.lax.stop_gradient(one.weight)
        v = _unit(weight @ u)
        u = _unit(v @ weight)
        found.append(one.weight / (v @ one.weight @ u))
        after.append(u)
    return eqx.tree_at(lambda c: [one.weight for one in c.matrices], critic, found), tuple(after)


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.sqrt((x**2).sum() + 1e-24)


def check_shares(**shares: float) -> None:
    """Refuse shares and momenta that are none.

    Raises:
        ReverieError: naming the first.
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ReverieError(f"{name}: {share} is no share; give 0 or more and less than 1")


def span(average: float | None, steps: int) -> float:
    """Return the decay of the average of weights: one that spans a twentieth of the plan, if no other is asked for.

    A longer one would still hold the initial weights at the end of a short plan.

    Raises:
        ReverieError: for a decay that is none.
    """
    if average is not None:
        check_shares(average=average)
    return max(0.0, 1.0 - 20.0 / steps) if average is None else average


@dataclass(frozen=True)
class Descent:
    """Gradient descent with momentum, where it is asked for.

    Args:
        start: momentum at first.
        end: momentum at last.
        epochs: over which it grows in equal steps.
        decay: the rate is divided by so much after every update.
    """

    start: float = 0.5
    end: float = 0.5
    epochs: float = 0.0
    decay: float = 1.0

    def check(self, name: str) -> None:
        """Refuse numbers that make no sense of the setting called `name`."""
        check_shares(**{f"{name}.start": self.start, f"{name}.end": self.end})
        if self.epochs < 0 or self.decay < 1:
            raise ReverieError(f"{name}: epochs are 0 or more, and the rate is divided by 1 or more")

    def __call__(self, rate: optax.Schedule, epoch_steps: float) -> optax.GradientTransformation:
        """Return the transformation for a learning rate by step."""
        over = max(self.epochs * epoch_steps, 1.0)
        keep = lambda step: self.start + (self.end - self.start) * jnp.minimum(step / over, 1.0)  # noqa: E731
        slower = lambda step: jnp.maximum(rate(step) * self.decay ** -jnp.float32(step), 1e-6)  # noqa: E731
        return steepest(rate if self.decay == 1.0 else slower, keep, epoch_steps)


def optimiser(
    kind: Optimiser, rate: float, schedule: str, steps: int, epoch_steps: float, descent: Descent, momentum: float
) -> optax.GradientTransformation:
    """Return Adam (with beta_1 `momentum`) or gradient descent, its rate stretched over `steps`."""
    plan = falling(schedule, rate, steps)
    return Adam(momentum=momentum)(plan) if kind == "adam" else descent(plan, epoch_steps)
