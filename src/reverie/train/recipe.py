"""What training is made of: a draw, players that take turns, and what is kept.  Pure descriptions, no loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from reverie.data.dataset import Dataset

Model = Any
Batch = Any
Carry = Any
Info = dict[str, jax.Array]
#: ``draw(key, step, data, model, carry) -> (batch, carry)``, fixed shapes; `data` is the training source.
Draw = Callable[..., tuple[Batch, Carry]]
#: ``objective(model, batch, carry, key) -> (loss, carry, info)``; every info is a scalar value to log.
Objective = Callable[[Model, Batch, Carry, jax.Array], tuple[jax.Array, Carry, Info]]
#: ``gradients(model, batch, carry, key) -> (gradients, carry, info)`` where they are known without autograd.
Gradients = Callable[[Model, Batch, Carry, jax.Array], tuple[Model, Carry, Info]]


@dataclass(frozen=True)
class Player:
    """One who moves some leaves of the model for a purpose of their own.

    Attributes:
        optimiser: an optax transformation, with a state of its own.
        objective: what is minimised; or None where `gradients` is given.
        gradients: supplied directly (Boltzmann updates use no autograd).
        moves: says of a leaf's path name (``p.0.trunk.1.weight``) whether this player moves it.
        repeats: turns in a row, each on a fresh draw.
        draw: this player's own draw, when it differs from the recipe's.
    """

    optimiser: optax.GradientTransformation
    objective: Objective | None = None
    gradients: Gradients | None = None
    moves: Callable[[str], bool] = lambda path: True
    repeats: int = 1
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if (self.objective is None) == (self.gradients is None):
            raise ValueError("a player has either an objective or gradients")


@dataclass(frozen=True)
class Recipe:
    """Everything the engine needs to train a model.

    Attributes:
        draw: gives the batch of a step.
        players: act in order; may share leaves.
        batch: rows the first player consumes a turn; epochs count these.
        carry: persistent chains, baselines, averages; checkpointed.
        every: ``(n, refresh)``: before each n-th step ``carry = refresh(model, data, carry, key)``.
        select: which weights count: ``last``, ``best`` on validation by `validate`, or ``average``.
        average: decay of the exponential average (select ``average``).
        validate: ``validate(model, data, key) -> Estimate`` on the validation rows, higher is better.
        valid_every: epochs between validations.
        finish: ``finish(model, data, key) -> model`` fixes exact statistics (batch normalisation) before
            a model is judged, saved as selected, or used.
        next: ``next(model, data, carry) -> (model, recipe)`` of the following stage, or None.  What differs from run
            to run it takes from these arguments into the following carry, which is checkpointed; it also builds the
            stage from untrained weights, for those of a checkpoint to be put in.
        epochs: length of this stage; None for the main one, which is as long as the run was asked to be.
        name: of this stage, where there are several.
    """

    draw: Draw
    players: tuple[Player, ...]
    batch: int
    carry: Carry = None
    every: tuple[int, Callable[..., Carry]] | None = None
    select: Literal["last", "best", "average"] = "last"
    average: float = 0.999
    validate: Callable[[Model, Dataset, jax.Array], Any] | None = None
    valid_every: float = 1.0
    finish: Callable[[Model, Dataset, jax.Array], Model] | None = None
    next: Callable[[Model, Dataset, Carry], tuple[Model, Recipe]] | None = None
    epochs: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Brief:
    """What a model's `recipe` is told besides its own arguments.

    Attributes:
        data: the data set (shape, law, mean, classes; not to be trained on here).
        key: randomness for the initial weights.
        epochs: the planned total, which schedules stretch over.
    """

    data: Dataset
    key: jax.Array
    epochs: float

    def valid_every(self, asked: float | None) -> float:
        """Return the epochs between validations that were asked for, or a tenth of the plan."""
        return asked or max(1.0, round(self.epochs / 10))

    def steps(self, batch: int) -> int:
        """Return the planned number of steps, at least one."""
        return max(1, round(self.epochs * self.data.size("train") / batch))
