"""Answers to questions: their errors by task, and what each hop read to give them.

References: Sukhbaatar, Szlam, Weston & Fergus, *End-To-End Memory Networks*, 2015, 4.4 and figure 2.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reverie.data import babi, running, stories
from reverie.data.dataset import Dataset
from reverie.estimate import Estimate

#: The metric of questions, and what that of one task of several is called.
METRIC = "error_rate"


class Answers(NamedTuple):
    """What a model answers to n questions.

    Attributes:
        words: the places of the likeliest answers in the vocabulary, likeliest first.
        chances: their probabilities.
        attention: what each hop attends to, the newest sentence first.
    """

    words: Int[np.ndarray, "n top"]
    chances: Float[np.ndarray, "n top"]
    attention: Float[np.ndarray, "n K S"]


def answers(model: Any, rows: Float[np.ndarray, "n D"], top: int = 5) -> Answers:
    """Return what a model (`Replying`) answers to questions, and what it read."""
    log_p, attention = _replies(model, jnp.asarray(rows, jnp.float32))
    likely = np.argsort(-np.asarray(log_p), axis=1, kind="stable")[:, :top]
    chances = np.exp(np.take_along_axis(np.asarray(log_p, np.float64), likely, axis=1))
    return Answers(likely, chances, np.asarray(attention))


@eqx.filter_jit
def _replies(model: Any, rows: Float[Array, "n D"]) -> tuple[Array, Array]:
    found = jax.vmap(model.reply)(rows)
    return found.log_answers, found.attention


def perplexity(data: Dataset, record: Estimate) -> dict[str, Estimate]:
    """Return the perplexity of running text, the exponential of the cross-entropy of a word; nothing of questions."""
    if data.likelihood != running.LAW:
        return {}
    at = math.exp(record.value)
    spread = at * record.standard_error
    return {"perplexity": dataclasses.replace(record, value=at, standard_error=spread, unit="perplexity")}


def by_task(
    data: Dataset, record: Estimate, wrong: Float[np.ndarray, " m"], chosen: Int[np.ndarray, " m"]
) -> dict[str, Estimate]:
    """Return the error of each task of a set of several.

    Args:
        record: of all these questions.
        wrong: 1 where a question is answered wrongly.
        chosen: which questions of the split these are.
    """
    split = str(record.split)
    if data.likelihood != stories.LAW:
        return {}
    found = {}
    for task, place in babi.parts(data.source, split, data.size(split)).items():
        own, whole = wrong[(chosen >= place.start) & (chosen < place.stop)], place.stop - place.start
        if len(own):
            found[f"{METRIC}_{task.replace(' ', '_')}"] = Estimate.of_rows(
                own, kind=record.kind, estimator=record.estimator, unit=record.unit, binarisation=record.binarisation,
                split=split, data_hash=record.data_hash, rows_of=whole if len(own) < whole else None,
            )  # fmt: skip
    return found
