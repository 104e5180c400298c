r"""End-to-end memory network: a question is answered from a story that is read in several hops.

A story is n sentences, the newest first, a question q and an answer, one word of V.  With A, B and C tables of word
vectors, :math:`e(x; A)` a sentence's (`nn.words`) and :math:`T_i` the word that says "i-th newest",

.. math:: m_i = e(x_i, T_i; A^k), \quad c_i = e(x_i, T_i; C^k), \quad u^1 = e(q; B), \qquad
          p_i = \frac{\exp(u^k \cdot m_i)}{\sum_j \exp(u^k \cdot m_j) + E}, \quad o^k = \textstyle\sum_i p_i c_i ,

.. math:: u^{k+1} = u^k + o^k \ \text{(adjacent)} \quad\text{or}\quad H u^k + o^k \ \text{(layer-wise)}, \qquad
          p(a) = \mathrm{softmax}(W u^{K+1}) .

``adjacent``: :math:`A^{k+1} = C^k`, :math:`B = A^1`, :math:`W^\top = C^K`.  ``layer-wise``: one A, one C and one H for
all hops, B and W of their own: a recurrent network whose state is u and whose inputs it chooses itself.

A memory has so many slots, and the E = slots - n that a story leaves empty are read, too: with score 0, as nothing.
The paper does not say so.  A hop that finds nothing then reads nothing, and whether something is so can be answered:
without them (``--slots 0``) the errors of yes/no questions are two to three times as large.

Only answers teach: nobody says which sentence bears one out.  A linear start leaves the softmax over the story out at
first; random noise counts empty sentences among the story's, so that the words for time are not learnt by heart.  The
loss is summed over the batch, as in the released code: a rate of 0.01 here is one of 0.32 for a mean over 32.

Seeds differ much (some never solve a task), so that networks from several random starts are trained side by side,
on the same batches; the one with the fewest wrong answers on validation rows answers (the paper: of ten the one with
the lowest training error).

Of running text (``--likelihood words``, preset ``language``) the story is the words before the one that is told, each
a sentence, and a constant stands for the question; where it begins, places are not empty but not there.

Traps: earlier questions are no part of a story; of a long story the oldest sentences are dropped; an answer of several
words is one word of the vocabulary; the released code's position encoding is not the paper's formula.

References: Sukhbaatar, Szlam, Weston & Fergus, *End-To-End Memory Networks*, 2015; Weston, Chopra & Bordes, *Memory
Networks*, 2015; Weston et al., *Towards AI-Complete Question Answering*, 2015.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reverie.arrays import placed
from reverie.data.running import LAW
from reverie.data.stories import MOST
from reverie.evaluate.claims import Claim, Paper
from reverie.models.conditional import _babi, _questions
from reverie.nn import words
from reverie.nn.addressing import attend, read
from reverie.nn.blocks import host_random
from reverie.nn.words import Encoding
from reverie.prob.replying import Reply, Replying
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    authors="Sainbayar Sukhbaatar, Arthur Szlam, Jason Weston and Rob Fergus",
    title="End-To-End Memory Networks",
    venue="NIPS",
    year=2015,
    bibtex="""@inproceedings{sukhbaatar2015endtoend,
  author = {Sukhbaatar, Sainbayar and Szlam, Arthur and Weston, Jason and Fergus, Rob},
  title = {End-To-End Memory Networks},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2015}
}""",
)

CLAIMS: tuple[Claim, ...] = _babi.claims()

#: A task alone, and all of them together, as the paper has them; words of a question and of a sentence weigh alike.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 100},
    "joint": {"width": 50, "epochs": 60, "linear_start": 0.5},
    "bag": {"encoding": "bag", "linear_start": 0.0, "time_noise": 0.0},
    "layerwise": {"tying": "layer-wise"},
    "language": {
        "width": 150,
        "hops": 6,
        "tying": "layer-wise",
        "encoding": "bag",
        "rectified": 0.5,
        "restarts": 1,
        "linear_start": 0.0,
        "time_noise": 0.0,
        "batch": 128,
        "rate": 0.01,
        "clip": 50.0,
        "epochs": 20,
    },
}

BATTERY = {"data": "tiny-stories"}

ROWS = ("stories", "words")

TINY = {"width": 8, "hops": 2, "restarts": 2, "epochs": 2}

#: Spread of the tables at the start, and what stands for a question in running text (the released code).
_SPREAD = _CONSTANT = 0.1


class Network(eqx.Module):
    """One network; see the module's page.

    Attributes:
        tables: of words and, below them, of times: ``adjacent`` :math:`A^1, C^1, \\dots, C^K`; ``layer-wise`` A, C, B
            and W, the last two without times.
        across: H of ``layer-wise``, None of ``adjacent``.
        vocabulary, ages: V, and how many sentences are told apart by their age.
        slots: of the memory; those that a story leaves empty are read as nothing.
        places: J, of which words beyond are not read.
        hops: K.
        rectified: the share of u that goes through a ReLU after each hop.
        constant: what stands for a question, in every number of u, where there is none.
    """

    tables: tuple[Float[Array, "_ d"], ...]
    across: Float[Array, "d d"] | None
    vocabulary: int = eqx.field(static=True)
    ages: int = eqx.field(static=True)
    slots: int = eqx.field(static=True)
    places: int = eqx.field(static=True)
    hops: int = eqx.field(static=True)
    encoding: Encoding = eqx.field(static=True)
    rectified: float = eqx.field(static=True)
    constant: float = eqx.field(static=True, default=0.0)

    def sentences(
        self, table: Float[Array, "_ d"], texts: Int[Array, "n J"], ages: Int[Array, " n"] | None = None
    ) -> Float[Array, "n d"]:
        """Return the vector of each text: its words, and the word for its age, which weighs 1 wherever it stands."""
        # The word for time is one of the J that the formula counts.
        places, numbers = words.encoding(self.encoding, self.places + 1, table.shape[1])
        places = places[: texts.shape[1]]
        if ages is not None:
            there = texts[:, :1] > 0
            texts = jnp.concatenate([texts, jnp.where(there, self.vocabulary + 1 + ages[:, None], 0)], axis=1)
            places = np.concatenate([places, np.eye(1, places.shape[1])])
        # Their constants are of the table's own type, whatever 64 bits would make of them.
        found = words.embedded(texts, jnp.asarray(places, table.dtype), table)
        return (found * jnp.asarray(numbers, table.dtype)).sum(axis=1)

    def reply(
        self, x: Int[Array, "N J"], ages: Int[Array, " n"] | None = None, linear: Bool[Array, ""] | bool = False
    ) -> Reply:
        """Return what is answered to a question, the first row of x, from the sentences of the others.

        Args:
            ages: of the sentences, 0 for the newest (default: as they stand).
            linear: leave the softmax over the story out.
        """
        there = x[1:, 0] > 0
        ages = jnp.arange(len(there)) if ages is None else ages
        told_by = [self.sentences(table, x[1:], ages) for table in self.memories]
        empty = jnp.maximum(self.slots - there.sum(), 0).astype(told_by[0].dtype)
        u, found = self.sentences(self.asked, x[:1])[0] + self.constant, []
        for hop in range(self.hops):
            given, got = (told_by[hop], told_by[hop + 1]) if self.across is None else told_by
            scores = given @ u
            p = attend(scores, "softmax", there, empty)
            weights = jnp.where(linear, attend(scores, "linear", there), p)
            found.append(weights)
            u = self.rectify((u if self.across is None else self.across @ u) + read(weights, got))
        return Reply(jax.nn.log_softmax(self.answers @ u), jnp.stack(found))

    def rectify(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """Return u with the first share of it through a ReLU."""
        first = round(self.rectified * len(u))
        return u if not first else jnp.concatenate([jax.nn.relu(u[:first]), u[first:]])

    @property
    def memories(self) -> tuple[Float[Array, "_ d"], ...]:
        """The tables that sentences are embedded by."""
        return self.tables if self.across is None else self.tables[:2]

    @property
    def asked(self) -> Float[Array, "V d"]:
        """B."""
        return self.tables[0 if self.across is None else 2][: self.vocabulary]

    @property
    def answers(self) -> Float[Array, "V d"]:
        """W."""
        return self.tables[-1][: self.vocabulary]


class MemN2N(Replying):
    """Networks from several random starts, of which one answers; see the module's page.

    Attributes:
        networks: every array with an axis in front, a place for each network.
        chosen: which one answers.
    """

    networks: Network
    chosen: Int[Array, ""]

    @property
    def running(self) -> bool:
        return self.networks.constant != 0.0

    @property
    def one(self) -> Network:
        """The network that answers."""
        return self.of(self.chosen)

    def of(self, number: int | Int[Array, ""]) -> Network:
        """Return one of the networks."""
        return jax.tree.map(lambda a: a[number], self.networks)

    def reply(self, x: Float[Array, " D"]) -> Reply:
        return self.one.reply(_questions.texts(x, self.networks.places))


def build(
    key: PRNGKeyArray, *, vocabulary: int, ages: int, slots: int, places: int, width: int, hops: int, tying: str,
    encoding: Encoding, rectified: float, constant: float = 0.0,
) -> Network:  # fmt: skip
    """Return one untrained network: all numbers of N(0, 0.1)."""
    rng = host_random(key)
    both = vocabulary + ages
    sizes = [both] * (hops + 1) if tying == "adjacent" else [both, both, vocabulary, vocabulary]
    tables = tuple(placed(rng.normal(0.0, _SPREAD, (size, width)), "float32") for size in sizes)
    across = None if tying == "adjacent" else placed(rng.normal(0.0, _SPREAD, (width, width)), "float32")
    return Network(tables, across, vocabulary, ages, slots, places, hops, encoding, rectified, constant)


def recipe(
    brief: Brief,
    *,
    width: int = 20,
    hops: int = 3,
    slots: int = 50,
    encoding: Encoding = "position",
    tying: Literal["adjacent", "layer-wise"] = "adjacent",
    rectified: float = 0.0,
    time_noise: float = 0.1,
    linear_start: float = 0.2,
    restarts: int = 10,
    choose: Literal["valid", "train"] = "valid",
    batch: int = 32,
    rate: float = 0.01,
    clip: float = 40.0,
    schedule: Literal["halving", "constant", "linear", "cosine"] = "halving",
    select: Literal["best", "last", "average"] = "last",
    valid_every: float | None = None,
) -> tuple[MemN2N, Recipe]:
    """Return untrained networks and how to train them.

    Args:
        width: d, numbers in a word's vector.
        hops: K, how often the story is read.
        slots: of the memory; those that a story leaves empty are read as nothing (0: there are none).
        encoding: what a word weighs by its place: alike, as in the released code, or as in the paper.
        tying: which tables hops share.
        rectified: share of the state that goes through a ReLU after each hop.
        time_noise: empty sentences put among a story's in training, as a share of them at most.
        linear_start: share of the plan without the softmax over the story, at half the rate.
        restarts: random starts that are trained side by side.
        choose: rows on which the one that answers has the fewest wrong answers.
        batch: questions per step.
        rate: learning rate of plain gradient descent on the loss summed over the batch.
        clip: largest norm of the gradient of a table.
        schedule: how the rate falls over the planned epochs: halved at each quarter of them, or otherwise.
        select: which weights count: last, best on validation, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    numbers = {"width": width, "hops": hops, "restarts": restarts, "batch": batch, "rate": rate, "clip": clip}
    _questions.check(numbers, {"time-noise": time_noise, "linear-start": linear_start, "rectified": rectified}, slots)
    data = brief.data
    sentences, places = data.shape[0] - 1, data.shape[1]
    running = data.likelihood == LAW

    def one(key: PRNGKeyArray) -> Network:
        return build(
            key, vocabulary=data.classes, ages=max(MOST, sentences), slots=0 if running else slots, places=places,
            width=width, hops=hops, tying=tying, encoding=encoding, rectified=rectified,
            constant=_CONSTANT if running else 0.0,
        )  # fmt: skip

    networks = [one(key) for key in jax.random.split(brief.key, restarts)]
    model = MemN2N(jax.tree.map(lambda *a: jnp.stack(a), *networks), jnp.zeros((), jnp.int32))
    return model, _questions.recipe_of(
        brief, time_noise=time_noise, linear_start=linear_start, choose=choose, batch=batch, rate=rate, clip=clip,
        schedule=schedule, select=select, valid_every=valid_every,
    )  # fmt: skip
