r"""LSTM baseline: stacked layers of long short-term memory answer a sequence, with no memory beside their own states.

.. math:: h^l_t = \mathrm{LSTM}(h^{l-1}_t, h^l_{t-1}), \qquad p_t = \sigma(W h^L_t),

with :math:`h^0_t = x_t`, trained as `ntm` is and judged by the same bits.  The paper's networks have three layers of
128 to 512 units, by task; it does not say whether layers skip to the output, and these do not, so that their parameters
are not as many as it counts.

Traps: without a bias of 1 the forget gates halve what a cell holds at every step before anything is learnt.

References: Graves, Wayne & Danihelka, *Neural Turing Machines*, 2014; Hochreiter & Schmidhuber, *Long Short-Term
Memory*, 1997; Gers et al., *Learning to Forget*, 2000.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from reverie.evaluate.claims import Claim
from reverie.models.conditional import _sequences, ntm
from reverie.nn import recurrent
from reverie.nn.blocks import Linear
from reverie.prob.answering import Answering
from reverie.train.recipe import Brief, Recipe

PAPER = ntm.PAPER

CLAIMS: tuple[Claim, ...] = ()

#: The paper's networks by task: `fast` is that of copying and of recall, at a rate that learns sooner.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 40},
    "paper": {"rate": 3e-5, "batch": 1, "grow": False, "epochs": 1000},
    "repeat": {"units": (512, 512, 512)},
    "ngrams": {"units": (128, 128, 128), "rate": 1e-4},
    "sort": {"units": (128, 128, 128)},
}

BATTERY = {"data": "copy:1-2"}

ROWS = ("sequences",)

TINY = {"units": (20, 20), "batch": 8, "rate": 3e-3, "epochs": 2}

States = tuple[recurrent.LSTMState, ...]


class LSTMs(Answering):
    """Stacked layers; see the module's page."""

    layers: tuple[recurrent.LSTM, ...]
    answer: Linear
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def start(self) -> States:
        return tuple(layer.begin for layer in self.layers)

    def step(self, state: States, x: Float[Array, " I"]) -> tuple[States, Float[Array, " O"], dict[str, Array]]:
        """Return the states after a step, the log-odds of its answer, and the top layer's output."""
        after, h = recurrent.through(self.layers, state, x)
        return after, self.answer(h), {"hidden": h}


def recipe(
    brief: Brief,
    *,
    units: tuple[int, ...] = (256, 256, 256),
    grow: bool = True,
    batch: int = 8,
    rate: float = 3e-4,
    clip: float = 10.0,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[LSTMs, Recipe]:
    """Return an untrained network and how to train it.

    Args:
        units: widths of the layers, from the input upwards.
        grow: begin with short sequences, and lengthen them as they are mastered (tasks that are drawn).
        batch: sequences per step.
        rate: learning rate of RMSprop.
        clip: largest norm of a gradient.
        schedule: how the rate falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    _sequences.check({"batch": batch, "rate": rate, "clip": clip}, units)
    data = brief.data
    first, second = jax.random.split(brief.key)
    outputs = data.shape[1] - data.inputs
    model = LSTMs(
        layers=recurrent.stacked(first, data.inputs, units), answer=Linear.init(second, units[-1], outputs),
        inputs=data.inputs, outputs=outputs,
    )  # fmt: skip
    return model, _sequences.recipe_of(
        brief, grow=grow, batch=batch, rate=rate, clip=clip, schedule=schedule, select=select, valid_every=valid_every
    )
