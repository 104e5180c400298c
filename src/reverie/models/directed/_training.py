"""How directed models are trained: one player, a surrogate, a chosen checkpoint.  Shared by their recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.likelihood import validator
from reverie.nn.blocks import live
from reverie.prob import surrogates
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, ramp, schedule
from reverie.train.recipe import Brief, Player, Recipe
from reverie.train.statistics import exact_statistics

#: ``penalty(trace) -> scalar`` of one sample's pass, taken from what the surrogate maximises.
Penalty = Callable[[dict[str, Any]], jax.Array]


def directed_recipe(
    brief: Brief,
    *,
    conditional: bool,
    surrogate: str,
    k: int,
    beta: float,
    warmup: float,
    batch: int,
    rate: float,
    schedule_name: str,
    adam: Adam,
    select: str,
    valid_every: float | None,
    valid_samples: int,
    norm: bool,
    penalty: Penalty | None = None,
    known: Mapping[str, surrogates.Surrogate] = surrogates.SURROGATES,
) -> Recipe:
    """Return the recipe of one player that maximises a surrogate of log p(x), one of those `known`."""
    check(brief.data, k=k, batch=batch, rate=rate, valid_samples=valid_samples)
    steps = brief.steps(batch)
    per_epoch = brief.data.size("train") / batch
    warm = ramp(round(warmup * per_epoch)) if warmup else None
    weight = None if beta == 1.0 and warm is None else (lambda step: beta * (1.0 if warm is None else warm(step)))
    maximise = surrogates.objective(surrogate, k, weight, penalty, known)

    def objective(model: Any, rows: dict[str, Any], carry: Any, key: jax.Array) -> tuple[jax.Array, Any, dict]:
        return maximise(live(model), rows, carry, key)

    return Recipe(
        draw=minibatch(brief.data, batch, conditional),
        players=(Player(adam(schedule(schedule_name, rate, steps)), objective),),
        batch=batch,
        carry=surrogates.RunningMean.start() if isinstance(known[surrogate], surrogates.Running) else None,
        select=select,  # type: ignore[arg-type]
        validate=validator(valid_samples),
        valid_every=valid_every or max(1.0, round(brief.epochs / 50)),
        finish=exact_statistics if norm else None,
    )


def check(data: Dataset, **numbers: float) -> None:
    """Refuse numbers that are not positive, and a `batch` of more rows than there are."""
    for name, value in numbers.items():
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    if numbers["batch"] > data.size("train"):
        raise ReverieError(
            f"batch: {numbers['batch']} is more than the {data.size('train')} training rows; make it smaller"
        )
