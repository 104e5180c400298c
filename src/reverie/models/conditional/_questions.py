"""How networks that answer questions about stories are trained, several random starts side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.task import validator
from reverie.train.draws import minibatch
from reverie.train.optimise import descent
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Player, Recipe

#: Questions that are answered at once where networks are compared.
_BLOCK = 500


def check(numbers: Mapping[str, float], shares: Mapping[str, float], slots: int) -> None:
    """Refuse settings that make no network.

    Raises:
        ReverieError: naming the argument.
    """
    if slots < 0:
        raise ReverieError(f"slots: {slots} is no size of a memory; give 0 or more")
    for name, value in numbers.items():
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ReverieError(f"{name}: {value} is no share; give 0 to 1")


def texts(x: Float[Array, "... D"], places: int) -> Int[Array, "... N J"]:
    """Return the question and the sentences of flat rows, as numbers of words."""
    return x.reshape(*x.shape[:-1], -1, places).astype(jnp.int32)


def aged(key: PRNGKeyArray, there: Int[Array, ""], slots: int, noise: float, most: int) -> Int[Array, " {slots}"]:
    r"""Return ages of a story's sentences among which empty ones were put: increasing, the newest first.

    Their number is drawn evenly from 0 to :math:`\lceil \text{noise} \cdot n \rceil`, their places evenly; ages end at
    `most` - 1.
    """
    if not noise:
        return jnp.arange(slots)
    first, second = jax.random.split(key)
    largest = int(np.ceil(noise * slots))
    empty = jax.random.randint(first, (), 0, jnp.ceil(noise * there).astype(jnp.int32) + 1)
    place = jnp.arange(slots + largest)
    # The n smallest of n + m random numbers say which places the sentences have.
    drawn = jnp.where(place < there + empty, jax.random.uniform(second, place.shape), jnp.inf)
    taken = jnp.argsort(jnp.argsort(drawn)) < there
    return jnp.minimum(jnp.sort(jnp.where(taken, place, slots + largest))[:slots], most - 1)


def objective(time_noise: float, linear_steps: float) -> Any:
    """Return the loss: cross-entropy summed over the batch, and over the networks, which share no weight."""

    def loss_of(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        x = texts(batch["x"], model.networks.places)
        there = (x[:, 1:, 0] > 0).sum(axis=1)
        # Batches and noise are the same for all networks: words are counted once for all of them.
        one = lambda k, n: aged(k, n, x.shape[1] - 1, time_noise, model.networks.ages)  # noqa: E731
        ages = jax.vmap(one)(jax.random.split(key, len(x)), there)
        linear = batch["step"] < linear_steps
        answers = lambda net: jax.vmap(lambda row, age: net.reply(row, age, linear).log_answers)(x, ages)  # noqa: E731
        log_p = eqx.filter_vmap(answers)(model.networks)
        costs = -(log_p * batch["given"]).sum(axis=-1)
        right = (log_p.argmax(axis=-1) == batch["given"].argmax(axis=-1)).mean()
        return costs.sum(), carry, {"cross_entropy": costs.mean(), "accuracy": right}

    return loss_of


def chooser(split: Literal["valid", "train"]) -> Any:
    """Return ``finish``: the network with the fewest wrong answers on a split answers, of equal ones the surest."""

    def finish(model: Any, data: Dataset, key: PRNGKeyArray) -> Any:
        parts = [
            np.asarray(_compared(model.networks, jnp.asarray(rows), jnp.asarray(labels)), np.float64)
            for rows, labels in data.blocks(split, _BLOCK)
        ]
        wrong, cost = np.sum(parts, axis=0)
        # What they cost tells only those apart that are wrong equally often.
        best = np.lexsort((cost, wrong))[0]
        return eqx.tree_at(lambda m: m.chosen, model, jnp.asarray(best, jnp.int32))

    return finish


@eqx.filter_jit
def _compared(
    networks: Any, rows: Float[Array, "B D"], labels: Int[Array, " B"]
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Return each network's wrong answers, and its cross-entropy."""

    def one(net: Any) -> tuple[Array, Array]:
        log_p = jax.vmap(lambda x: net.reply(texts(x, net.places)).log_answers)(rows)
        right = jnp.take_along_axis(log_p, labels[:, None], axis=1)
        return (log_p.argmax(axis=1) != labels).sum().astype(log_p.dtype), -right.sum()

    return eqx.filter_vmap(one)(networks)


def recipe_of(
    brief: Brief,
    *,
    time_noise: float,
    linear_start: float,
    choose: Literal["valid", "train"],
    batch: int,
    rate: float,
    clip: float,
    schedule: str,
    select: Literal["best", "last", "average"],
    valid_every: float | None,
) -> Recipe:
    """Return how networks that answer questions are trained."""
    steps = brief.steps(batch)
    plan = falling(schedule, rate, steps)
    # A memory without its softmax reads all sentences at once: half the rate (the released code).
    at = lambda step: plan(step) * jnp.where(step < linear_start * steps, 0.5, 1.0)  # noqa: E731
    return Recipe(
        draw=minibatch(brief.data, batch, conditional=True),
        players=(
            Player(
                descent(at, clip=clip), objective(time_noise, linear_start * steps),
                moves=lambda path: path.startswith("networks"),
            ),
        ),
        batch=batch,
        select=select,
        validate=validator(),
        valid_every=brief.valid_every(valid_every),
        finish=chooser("train" if brief.data.refit else choose),
    )  # fmt: skip
