r"""What a model of sequences promises: one step at a time, its state passed in and out; and how sequences are run.

A row is a sequence, flat (`data.sequences`): of each of T steps the channels that are heard, then those that are to be
answered, NaN for what is not there.  The answers are bits, each with a chance of its own:

.. math:: \mathrm{bits} = \frac{1}{\ln 2} \sum_{t, d\ \text{asked}} -\,\big(y_{td} \ln p_{td} + (1 - y_{td}) \ln(1 - p_{td})\big).
"""  # noqa: E501

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from reverie.prob.contracts import Given, Judged, Row


class Answering(Judged):
    """A model that hears a sequence, step by step, and answers with the log-odds of bits.

    Attributes:
        inputs, outputs: channels of a step that are heard, and that are answered.
    """

    inputs: eqx.AbstractVar[int]
    outputs: eqx.AbstractVar[int]

    def start(self) -> PyTree:
        """Return the state before the first step."""
        raise NotImplementedError

    def step(self, state: PyTree, x: Float[Array, " I"]) -> tuple[PyTree, Float[Array, " O"], dict[str, Array]]:
        """Return the state after a step, the log-odds of its answer, and what happened inside."""
        raise NotImplementedError

    @property
    def metrics(self) -> dict[str, str]:
        return {"bits_per_sequence": "bits", "wrong_bits": "bits"}

    @property
    def supervised(self) -> bool:
        return False

    def judge(self, x: Row, given: Given = None) -> dict[str, Float[Array, ""]]:
        heard, answers = parted(self, x)
        found = run(self, heard[None])
        asked = ~jnp.isnan(answers)
        wrong = jnp.where(asked, (found.logits[0] > 0) != (answers > 0.5), False).sum()
        return {
            "bits_per_sequence": nats(found.logits[0], answers).sum() / math.log(2),
            "wrong_bits": wrong.astype(found.logits.dtype),
        }


class Ran(NamedTuple):
    """Log-odds of the answers (B, T, O), and of each step what happened inside (B, T, ...), empty where not asked."""

    logits: Float[Array, "B T O"]
    trace: dict[str, Array]


def parted(model: Answering, x: Float[Array, "... D"]) -> tuple[Float[Array, "... T I"], Float[Array, "... T O"]]:
    """Return what is heard, and what is to be answered, of flat rows."""
    steps = x.reshape(*x.shape[:-1], -1, model.inputs + model.outputs)
    return steps[..., : model.inputs], steps[..., model.inputs :]


def nats(logits: Float[Array, "*n"], answers: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Return what each answer costs, 0 where none is asked for."""
    asked = ~jnp.isnan(answers)
    # NaN must be gone before the cost sees it: a gradient through jnp.where keeps that of the branch not taken.
    y = jnp.where(asked, answers, 0.0)
    return jnp.where(asked, jax.nn.softplus(logits) - y * logits, 0.0)


def run(model: Answering, heard: Float[Array, "B T I"], trace: bool = False) -> Ran:
    """Run a batch of sequences, and skip the steps that none of them has.

    A sequence that has ended goes on over silence: nothing is asked of it any more, and it hears nothing of others.
    """
    live = ~jnp.isnan(heard).any(axis=-1)
    steps = jnp.where(live[..., None], heard, 0.0).swapaxes(0, 1)
    first = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(heard), *a.shape)), model.start())

    def go(state: PyTree, x: Float[Array, "B I"]) -> tuple[PyTree, Any]:
        state, logits, inside = jax.vmap(model.step)(state, x)
        return state, (logits, inside if trace else {})

    _, shapes = jax.eval_shape(go, first, steps[0])
    blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def step(state: PyTree, given: tuple[Float[Array, "B I"], Bool[Array, ""]]) -> tuple[PyTree, Any]:
        x, any_live = given
        return jax.lax.cond(any_live, go, lambda state, x: (state, blank), state, x)

    _, (logits, inside) = jax.lax.scan(step, first, (steps, live.any(axis=0)))
    back = lambda a: a.swapaxes(0, 1)  # noqa: E731
    return Ran(back(logits), jax.tree.map(back, inside))
