r"""Neural Turing Machine: a controller that reads and writes a memory through heads, and learns where.

At each step the controller hears the input and what was read before, :math:`h_t = f(x_t, r_{t-1})` (f an LSTM, or a
layer without a state: then all that is remembered is in the memory).  One linear map of :math:`h_t` gives every head
its key, strength, gate, shifts and sharpness, and every write head what it erases and adds; `nn.addressing` makes of
them the weightings :math:`w_t`, first by content, then by location.  Then

.. math:: M_t(i) = M_{t-1}(i) \textstyle\prod (1 - w_t(i) e_t) + \sum w_t(i) a_t, \quad
          r_t = \textstyle\sum_i w_t(i) M_t(i), \quad p_t = \sigma(W[h_t, r_t]) .

Keys and what is added go through tanh; :math:`\beta` is softplus, :math:`\gamma` 1 + softplus, shifts are a softmax.

Traps: sharpening by powers underflows (`nn.addressing`); what the heads are told is limited to :math:`\pm 20`, or
sharpness runs away; the memory starts at a small constant, not at learned or random numbers, which halves the time to
converge (Collier & Beel 2018), and each head at one slot, so that moving by location is found early; lengths grow as
the machine masters them.  The paper does not say in which order a step reads and writes, nor how it counts parameters:
its counts are not reproduced to the digit.

References: Graves, Wayne & Danihelka, *Neural Turing Machines*, 2014; Collier & Beel, *Implementing Neural Turing
Machines*, 2018.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.conditional import _sequences
from reverie.nn import addressing, recurrent
from reverie.nn.addressing import Head
from reverie.nn.blocks import Linear, host_random
from reverie.prob.answering import Answering
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    authors="Alex Graves, Greg Wayne and Ivo Danihelka",
    title="Neural Turing Machines",
    venue="arXiv 1410.5401",
    year=2014,
    bibtex="""@article{graves2014ntm,
  author = {Graves, Alex and Wayne, Greg and Danihelka, Ivo},
  title = {Neural {Turing} Machines},
  journal = {arXiv:1410.5401},
  year = {2014}
}""",
)

CLAIMS: tuple[Claim, ...] = ()

#: Sizes the paper gives for its other tasks; `fast` is those of copying, by the recipe that converges soonest.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 40},
    "lstm": {"controller": "lstm", "epochs": 100},
    "paper": {"rate": 1e-4, "batch": 1, "grow": False, "epochs": 1000},
    "recall": {"units": (256,), "reads": 4, "writes": 4, "epochs": 100},
    "sort": {"controller": "lstm", "units": (100, 100), "reads": 5, "writes": 5, "rate": 1e-4, "epochs": 300},
    "ngrams": {"rate": 1e-4, "epochs": 100},
}

BATTERY = {"data": "copy:1-2"}

ROWS = ("sequences",)

TINY = {"units": (20,), "slots": 8, "width": 6, "batch": 8, "rate": 3e-3, "epochs": 1}

#: What heads are told is limited to this (Collier & Beel).
_LIMIT = 20.0
#: Of the memory's cells at the start, and of each head's starting place over the other slots, in log-odds.
_BLANK, _PLACE = 1e-6, 5.0
#: The gain of the heads' weights (loudinthecloud's code), and the spread of their biases.
_GAIN, _SPREAD = 1.4, 0.01


class State(NamedTuple):
    """What a machine knows between steps."""

    memory: Float[Array, "N M"]
    weightings: Float[Array, "H N"]
    reads: Float[Array, "R M"]
    layers: tuple[recurrent.LSTMState, ...]


class NTM(Answering):
    """A Neural Turing Machine; see the module's page.  Of its heads the first `reads` read, the others write.

    Attributes:
        controller: its layers, LSTM or dense (tanh).
        heads: h to what every head is told.
        answer: [h, reads] to the log-odds of the output.
        places: log-odds of each head's weighting before the first step.
        first_reads: what was read before it, before tanh.
    """

    controller: tuple[Any, ...]
    heads: Linear
    answer: Linear
    places: Float[Array, "H N"]
    first_reads: Float[Array, "R M"]
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    taps: int = eqx.field(static=True)
    read_after_write: bool = eqx.field(static=True)

    @property
    def slots(self) -> int:
        """N, of the memory."""
        return self.places.shape[1]

    def start(self) -> State:
        width = self.first_reads.shape[1]
        memory = jnp.full((self.slots, width), _BLANK, self.places.dtype)
        layers = tuple(layer.begin for layer in self.controller if isinstance(layer, recurrent.LSTM))
        return State(memory, jax.nn.softmax(self.places), jnp.tanh(self.first_reads), layers)

    def think(self, state: State, x: Float[Array, " I"]) -> tuple[tuple[recurrent.LSTMState, ...], Float[Array, " C"]]:
        """Return the controller's state after a step, and its output."""
        h = jnp.concatenate([x, state.reads.ravel()])
        if state.layers:
            return recurrent.through(self.controller, state.layers, h)
        for layer in self.controller:
            h = jnp.tanh(layer(h))
        return (), h

    def told(self, h: Float[Array, " C"]) -> tuple[Head, Float[Array, "W M"], Float[Array, "W M"]]:
        """Return what the controller tells the heads: where to go (heads in front), what to erase and to add."""
        reads, width = self.first_reads.shape
        count = len(self.places)
        raw = jnp.clip(self.heads(h), -_LIMIT, _LIMIT)
        where = raw[: count * (width + 3 + self.taps)].reshape(count, -1)
        key, beta, gate, gamma, shift = jnp.split(where, [width, width + 1, width + 2, width + 3], axis=1)
        erase, add = raw[where.size :].reshape(2, count - reads, width)
        head = Head(
            jnp.tanh(key), jax.nn.softplus(beta[:, 0]), jax.nn.sigmoid(gate[:, 0]), jax.nn.softmax(shift),
            1.0 + jax.nn.softplus(gamma[:, 0]),
        )  # fmt: skip
        return head, jax.nn.sigmoid(erase), jnp.tanh(add)

    def step(self, state: State, x: Float[Array, " I"]) -> tuple[State, Float[Array, " O"], dict[str, Array]]:
        """Return the state after a step, the log-odds of its answer, and where and what was read and written."""
        layers, h = self.think(state, x)
        head, erase, add = self.told(h)
        w = jax.vmap(addressing.address, (0, None, 0))(head, state.memory, state.weightings)
        readers = len(self.first_reads)
        memory = addressing.write(state.memory, w[readers:], erase, add)
        reads = w[:readers] @ (memory if self.read_after_write else state.memory)
        logits = self.answer(jnp.concatenate([h, reads.ravel()]))
        inside = {"adds": add, "erases": erase, "writes": w[readers:], "reads": w[:readers], "got": reads}
        return State(memory, w, reads, layers), logits, inside


def build(
    key: PRNGKeyArray, inputs: int, outputs: int, *, controller: str, units: tuple[int, ...], slots: int, width: int,
    reads: int, writes: int, reach: int, read_after_write: bool,
) -> NTM:  # fmt: skip
    """Return an untrained machine; `_sequences` says how it is trained."""
    first, second, third, fourth = jax.random.split(key, 4)
    fan_in, taps, heads = inputs + reads * width, 2 * reach + 1, reads + writes
    widths, keys = (fan_in, *units), jax.random.split(first, len(units))
    layers: tuple[Any, ...] = (
        recurrent.stacked(first, fan_in, units) if controller == "lstm"
        else tuple(Linear.init(k, a, b) for k, a, b in zip(keys, widths, units, strict=False))
    )  # fmt: skip
    told = heads * (width + 3 + taps) + 2 * writes * width
    rng = host_random(fourth)
    linear = Linear.init(second, units[-1], told, placed(rng.normal(0.0, _SPREAD, told), np.float32))
    linear = eqx.tree_at(lambda layer: layer.weight, linear, _GAIN * linear.weight)
    places = np.zeros((heads, slots), np.float32)
    places[:, 0] = _PLACE
    before = placed(rng.normal(0.0, _SPREAD, (reads, width)), np.float32)
    answer = Linear.init(third, units[-1] + reads * width, outputs)
    return NTM(
        controller=layers, heads=linear, answer=answer, places=placed(places), first_reads=before, inputs=inputs,
        outputs=outputs, taps=taps, read_after_write=read_after_write,
    )  # fmt: skip


def recipe(
    brief: Brief,
    *,
    controller: Literal["feedforward", "lstm"] = "feedforward",
    units: tuple[int, ...] = (100,),
    slots: int = 128,
    width: int = 20,
    reads: int = 1,
    writes: int = 1,
    reach: int = 1,
    read_after_write: bool = True,
    grow: bool = True,
    batch: int = 8,
    rate: float = 3e-4,
    clip: float = 10.0,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[NTM, Recipe]:
    """Return an untrained machine and how to train it.

    Args:
        controller: without a state of its own, or long short-term memory.
        units: widths of its layers.
        slots: N, rows of the memory.
        width: M, numbers in a slot.
        reads: heads that read.
        writes: heads that write.
        reach: how far a step can shift a head, to either side.
        read_after_write: whether a step reads the memory that it has written already.
        grow: begin with short sequences, and lengthen them as they are mastered (tasks that are drawn).
        batch: sequences per step.
        rate: learning rate of RMSprop.
        clip: largest norm of a gradient.
        schedule: how the rate falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    numbers = {"slots": slots, "width": width, "reads": reads, "writes": writes, "batch": batch}
    _sequences.check({**numbers, "rate": rate, "clip": clip}, units)
    if not 0 <= reach < 8:
        raise ReverieError(f"reach: {reach} is no number of places to shift by; give 0 to 7")
    data = brief.data
    model = build(
        brief.key, data.inputs, data.shape[1] - data.inputs, controller=controller, units=units, slots=slots,
        width=width, reads=reads, writes=writes, reach=reach, read_after_write=read_after_write,
    )  # fmt: skip
    return model, _sequences.recipe_of(
        brief, grow=grow, batch=batch, rate=rate, clip=clip, schedule=schedule, select=select, valid_every=valid_every
    )
