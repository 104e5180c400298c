r"""How the whole net of an autoencoder learns: rows given back, clean, from a code that may be sparse or contracted.

.. math:: \mathbb E\big[L(x, \hat x(\tilde x))\big] + \beta \sum_j \mathrm{KL}(\rho \,\|\, \hat\rho_j)
          + \lambda\, \mathbb E \lVert J_z(x)\rVert_F^2 ,

:math:`\tilde x` being x corrupted afresh at every step.  :math:`\hat\rho_j`, the mean of unit j over the data, is a
running average over steps, and its gradient that of the batch's own mean: the KL is convex, so that the mean of a small
batch put into it is too large by much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.task import validator
from reverie.models.reconstructing import _stack as layerwise
from reverie.models.reconstructing._net import Net, contraction, slopes_of
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Objective, Player, Recipe

Schedule = Literal["constant", "linear", "cosine"]
Select = Literal["best", "last", "average"]
#: No running mean is taken for nearer to 0 or 1 than this.
_EDGE = 1e-6


@dataclass(frozen=True)
class Sparsity:
    """Codes of which few units are on.

    Args:
        target: mean activity of each unit aimed at (rho).
        cost: of the Kullback-Leibler divergence from it (beta); 0 is off.
        average: decay of the running estimate of the mean activity.
        keep: numbers of the code that are kept, the strongest (k); 0 keeps all.
        start: numbers kept at first, so that no unit is left out for good (default: 4 keep).
        fall: share of the training over which they fall to `keep`.
        wide: `encode` keeps so many times more.
    """

    target: float = 0.05
    cost: float = 0.0
    average: float = 0.9
    keep: int = 0
    start: int | None = None
    fall: float = 0.5
    wide: float = 1.0

    def check(self, code: int, units: str) -> None:
        """Refuse numbers that make no sense of a code so wide, of such units."""
        for name, value in (("target", self.target), ("average", self.average), ("fall", self.fall)):
            if not 0 < value < 1:
                raise ReverieError(f"sparsity.{name}: {value:g} is no share; give one between 0 and 1")
        if self.cost < 0:
            raise ReverieError(f"sparsity.cost: {self.cost:g} would reward what it is to prevent; give 0 or more")
        if self.cost and units != "sigmoid":
            raise ReverieError(f"sparsity.cost: {units} units have no rate of being on; give --code-units sigmoid")
        if not 0 <= self.keep <= code:
            raise ReverieError(f"sparsity.keep: {self.keep} of a code of {code}; give 0 (all) to {code}")
        if self.start is not None and not self.keep <= self.start <= code:
            raise ReverieError(f"sparsity.start: {self.start} is not between keep, {self.keep}, and the code's {code}")
        if self.wide < 1:
            raise ReverieError(f"sparsity.wide: {self.wide:g} keeps fewer than were learnt with; give 1 or more")

    def kept(self, code: int, step: Int[Array, ""], steps: int) -> tuple[Int[Array, ""], int]:
        """Return how many numbers are kept at a step of so many, and the most that ever are."""
        most = min(code, 4 * self.keep) if self.start is None else self.start
        left = jnp.maximum(0.0, 1.0 - step / max(1.0, self.fall * steps))
        return self.keep + jnp.ceil((most - self.keep) * left).astype(jnp.int32), most


@dataclass(frozen=True)
class Contraction:
    """Codes that move little when the row does.

    Args:
        cost: of the squared Frobenius norm of the code's Jacobian (lambda); 0 is off.
        by: ``exact``, or ``hutchinson``, an unbiased estimate in one direction a row for wide deep nets.
    """

    cost: float = 0.0
    by: Literal["exact", "hutchinson"] = "exact"

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 <= self.cost < math.inf:
            raise ReverieError(f"contraction.cost: {self.cost:g} is no cost; give 0 or more")


def kl(target: float, rate: Float[Array, " k"]) -> Float[Array, " k"]:
    r"""Return :math:`\rho \log(\rho/\hat\rho) + (1-\rho)\log((1-\rho)/(1-\hat\rho))` of each unit."""
    rate = jnp.clip(rate, _EDGE, 1.0 - _EDGE)
    return target * jnp.log(target / rate) + (1.0 - target) * jnp.log((1.0 - target) / (1.0 - rate))


def running(
    mean: Float[Array, " k"], kept: Float[Array, " k"], step: Int[Array, ""], average: float
) -> Float[Array, " k"]:
    """Return the running average with the batch's `mean` in it, its gradient that of `mean` itself."""
    decay = jnp.minimum(average, step / (step + 1.0))  # a plain mean until there is enough to forget
    now = jax.lax.stop_gradient(decay * kept + (1.0 - decay) * mean)
    return now + (mean - jax.lax.stop_gradient(mean))


def objective(sparsity: Sparsity = Sparsity(), contract: Contraction = Contraction(), steps: int = 1) -> Objective:
    """Return the objective of the whole net; the carry is the running mean of the code's units, or None.

    Args:
        steps: planned, over a share of which the numbers kept of a sparse code fall.
    """

    def found(model: Net, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict[str, Array]]:
        rows = batch["x"]
        first, second = jax.random.split(key)
        seen = model.corruption(first, jnp.where(jnp.isnan(rows), 0.0, rows))
        keep = sparsity.kept(model.code_width, batch["step"], steps) if model.keep else None
        layers = jax.vmap(lambda x: model.layers(x, keep))(seen)
        fields = jax.vmap(model.fields)(layers[-1])
        back = fields if model.real else jax.nn.sigmoid(fields)
        wrong = jnp.where(jnp.isnan(rows), 0.0, rows - back) ** 2
        shown = {"squared_error": wrong.sum(axis=1).mean()}
        loss = layerwise.loss_of(rows, fields, model.real)
        if sparsity.cost:
            mean = layers[-1].mean(axis=0)
            rate = running(mean, carry, batch["step"], sparsity.average)
            loss += sparsity.cost * kl(sparsity.target, rate).sum()
            carry, shown["active"] = jax.lax.stop_gradient(rate), mean.mean()
        if contract.cost:
            shown["contraction"] = contracted(model, layers, second if contract.by == "hutchinson" else None)
            loss += contract.cost * shown["contraction"]
        return loss, carry, shown

    return found


def contracted(model: Net, layers: list[Float[Array, "B _"]], key: PRNGKeyArray | None = None) -> Float[Array, ""]:
    r"""Return the mean of :math:`\lVert J\rVert_F^2` over rows, from their layers; estimated where a key is given."""
    weights = list(model.up)
    if key is None:
        return jax.vmap(lambda a: contraction(weights, slopes_of(model, a)))(layers).mean()
    keys = jax.random.split(key, len(layers[0]))
    return jax.vmap(lambda a, own: contraction(weights, slopes_of(model, a), own))(layers, keys).mean()


def whole(
    brief: Brief, aim: Objective, carry: Any, *, batch: int, rate: float, schedule: str, select: Select,
    valid_every: float | None,
) -> Recipe:  # fmt: skip
    """Return the recipe by which the whole net learns."""
    optimiser = Adam()(falling(schedule, rate, brief.steps(batch)))
    return Recipe(
        draw=minibatch(brief.data, batch), players=(Player(optimiser, aim),), batch=batch, carry=carry, select=select,
        validate=validator(), valid_every=valid_every or brief.epochs / 30,
    )  # fmt: skip


def check_numbers(**numbers: float) -> None:
    """Refuse numbers that must be positive and are not."""
    for name, value in numbers.items():
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
