"""How models that answer sequences are trained: fresh sequences of a task by seed and step, or the rows of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reverie.data import tasks
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.task import validator
from reverie.prob.answering import Answering, nats, parted, run
from reverie.train.draws import minibatch, sequences
from reverie.train.optimise import rmsprop
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Draw, Player, Recipe

#: Sequences grow by so many once an answered bit costs fewer nats, as an average over about so many steps.
_GROWTH, _MASTERED, _OVER = 2.0, 0.1, 20.0


class Lesson(NamedTuple):
    """How long sequences are by now, and what a bit of their answers costs on average, in nats."""

    most: Float[Array, ""]
    cost: Float[Array, ""]


def check(numbers: Mapping[str, float], units: tuple[int, ...]) -> None:
    """Refuse settings that make no machine.

    Raises:
        ReverieError: naming the argument.
    """
    for name, value in numbers.items():
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    if not units or min(units) < 1:
        raise ReverieError(f"units: {units} are no widths; give one or more, such as 100")


def first_lesson(task: tasks.Task | None, grow: bool) -> Lesson:
    """Return sizes of up to two more than the least; all of them where they do not grow."""
    least = max((low for _, low, _ in task.sizes), default=0) if task else 0
    return Lesson(jnp.asarray(least + _GROWTH if grow and task else math.inf), jnp.asarray(1.0))


def objective(model: Answering, batch: dict[str, Any], lesson: Lesson, key: Array) -> tuple[Array, Lesson, dict]:
    """Return nats per answered bit; logged is what is reported, bits per sequence."""
    heard, answers = parted(model, batch["x"])
    costs = nats(run(model, heard).logits, answers)
    loss = costs.sum() / jnp.maximum((~jnp.isnan(answers)).sum(), 1)
    cost = lesson.cost + (jax.lax.stop_gradient(loss) - lesson.cost) / _OVER
    longer = cost < _MASTERED
    after = Lesson(jnp.where(longer, lesson.most + _GROWTH, lesson.most), jnp.where(longer, 2 * _MASTERED, cost))
    bits = costs.sum() / len(costs) / math.log(2)
    longest = (~jnp.isnan(heard[..., 0])).sum(axis=1).max()
    return loss, after, {"bits_per_sequence": bits, "steps": longest.astype(jnp.float32)}


def drawn(data: Dataset, batch: int) -> Draw:
    """Return the draw: of a task by seed and step, of a file its shuffled rows."""
    task = tasks.of(data.source)
    return minibatch(data, batch) if task is None else sequences(task, batch)


def recipe_of(
    brief: Brief,
    *,
    grow: bool,
    batch: int,
    rate: float,
    clip: float,
    schedule: str,
    select: Literal["best", "last", "average"],
    valid_every: float | None,
) -> Recipe:
    """Return how a model that answers sequences is trained."""
    return Recipe(
        draw=drawn(brief.data, batch),
        players=(Player(rmsprop(falling(schedule, rate, brief.steps(batch)), clip=clip), objective),),
        batch=batch,
        carry=first_lesson(tasks.of(brief.data.source), grow),
        select=select,
        validate=validator(),
        valid_every=brief.valid_every(valid_every),
    )
