r"""Replicated Softmax: topics of word counts as a product of experts.

A document of N words has counts :math:`n \in \mathbb N^K`; its N words are softmax units that share their weights, and
the hidden biases count once for each word:

.. math:: -E(n, h) = \sum_{kj} W_{kj} n_k h_j + \sum_k b_k n_k + N \sum_j c_j h_j, \qquad
          p(h_j = 1 \mid n) = \sigma(N c_j + (n^\top W)_j), \quad p(\text{word} = k \mid h) \propto e^{b_k + (Wh)_k}.

As :math:`N = \sum_k n_k`, this is a restricted Boltzmann machine of multinomial units whose weights are
:math:`W_{kj} + c_j` and which has no hidden biases: the same samplers, annealing and counting serve it.  Documents of
different lengths are different models with shared weights and a Z each,

.. math:: \log p(n \mid N) = \log\tfrac{N!}{\prod_k n_k!} + b^\top n + \sum_j \log\big(1 + e^{N c_j + (n^\top W)_j}\big)
          - \log Z_N, \qquad Z_N = \sum_h e^{N c^\top h} \Big(\sum_k e^{b_k + (Wh)_k}\Big)^N.

The log-likelihood is this mass over the counts of length N.  Perplexity is of the words in their order, without the
first term: :math:`\exp\big(-\frac1D\sum_d \frac1{N_d} \log p(\text{words}_d)\big)`.

:math:`\log Z_N` is exact for at most 25 hidden units, one pass over their states serving every N; else each length is
annealed from both sides, all lengths as rows of one batch.

Experts multiply: several units that each make a word a little likelier make it much likelier together, where a mixture
of topics can only average (`reverie topics --raise WORD`).

Traps: a word's gradient is as small as the word is rare, so that plain gradient descent learns frequent words alone
and the usual decay holds the others at nothing: Adam without decay learns all; chains that go on do not mix where
documents are long, and learn no more than word frequencies: contrastive divergence is the way; the gradient of c has a
factor N; perplexities of different vocabularies cannot be compared; long documents make hidden units sure of
themselves, and their chains slow.

References: Salakhutdinov & Hinton, *Replicated Softmax: an Undirected Topic Model*, 2009.  Its table of perplexities
was not read, so that no number of it is claimed here.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.data.rows import Absent, pieces
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.lengths import validator
from reverie.models.undirected import _learning as learning
from reverie.models.undirected import _replicated as replicated
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.models.undirected.rbm import RBM
from reverie.nn.blocks import host_random
from reverie.nn.units import Multinomial
from reverie.prob.contracts import Energy, Given
from reverie.train import optimise as schedules
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, Momentum, steepest
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Replicated Softmax: an Undirected Topic Model",
    authors="Ruslan Salakhutdinov and Geoffrey Hinton",
    year=2009,
    venue="Advances in Neural Information Processing Systems 22",
    bibtex="""@inproceedings{salakhutdinov2009replicated,
  title = {Replicated Softmax: an Undirected Topic Model},
  author = {Salakhutdinov, Ruslan and Hinton, Geoffrey},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {22},
  year = {2009}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("counts",)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": 50, "grow": 60.0, "optimiser": "momentum", "rate": 2.0, "decay": 2e-4, "epochs": 300},
    "exact": {"hidden": 20, "epochs": 60},
}

TINY = {"hidden": 8, "batch": 50, "epochs": 20, "rate": 0.02}

BATTERY = {"data": "tiny-text"}

CLAIMS: tuple[Claim, ...] = ()

#: A state: the hidden units and the document's length.
State = tuple[Float[Array, " F"], Float[Array, ""]]
Beta = float | Float[Array, ""]
#: Lengths that stand for those of the training documents.
QUANTILES = 1000


class ReplicatedSoftmax(Energy):
    """Hidden topics of documents of any length; see the module's page."""

    weights: Float[Array, "K F"]
    words: Float[Array, " K"]
    topics: Float[Array, " F"]
    base: Float[Array, " K"]
    lengths: Float[Array, " Q"]

    def of_length(self, length: float | Float[Array, ""]) -> RBM:
        """Return the machine of documents of one length."""
        length = jnp.asarray(length, self.words.dtype)
        own = self.weights + self.topics
        return RBM((own,), (self.words, jnp.zeros_like(self.topics)), Multinomial(length), self.base)

    def begin(self, key: PRNGKeyArray, length: float | Float[Array, ""]) -> State:
        """Draw the hidden units of the base law: fair coins, whatever the length."""
        h = jax.random.bernoulli(key, 0.5, self.topics.shape).astype(self.topics.dtype)
        return h, jnp.asarray(length, h.dtype)

    def lengths_of(self, rows: Float[Any, "n K"]) -> Float[Any, " n"]:
        """Return the number of words of each document."""
        return rows.sum(axis=-1)

    def draw_length(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """Draw a length as those of the training documents are."""
        return self.lengths[jax.random.randint(key, (), 0, self.lengths.size)]

    # The contract; a state keeps its length.

    def base_log_partition(self) -> Float[Array, ""]:
        r"""Return :math:`\log Z_0` of one word; of N words too, as the base law's words are normalised."""
        return self.of_length(jnp.ones(())).base_log_partition()

    def draw_base(self, key: PRNGKeyArray) -> State:
        first, second = jax.random.split(key)
        return self.begin(second, self.draw_length(first))

    def log_marginal(self, state: State, beta: Beta = 1.0) -> Float[Array, ""]:
        return self.of_length(state[1]).log_marginal(state[:1], beta)

    def log_ratio(self, state: State, start: Beta, stop: Beta) -> Float[Array, ""]:
        return self.of_length(state[1]).log_ratio(state[:1], start, stop)

    def sweep(self, key: PRNGKeyArray, state: State, beta: Beta = 1.0) -> State:
        (h,) = self.of_length(state[1]).sweep(key, state[:1], beta)
        return h, state[1]

    def draw_visible(self, key: PRNGKeyArray, state: State) -> Float[Array, " K"]:
        return self.of_length(state[1]).draw_visible(key, state[:1])

    def mean(self, state: State, given: Given = None) -> Float[Array, " K"]:
        return self.of_length(state[1]).mean(state[:1])

    def sample(self, key: PRNGKeyArray, given: Given = None, sweeps: int = 1000) -> tuple[Float[Array, " K"], State]:
        """Draw a document and its state from a chain of so many sweeps that starts at the base law."""
        first, move, last = jax.random.split(key, 3)
        keys = jax.random.split(move, sweeps)
        state = jax.lax.fori_loop(0, sweeps, lambda i, s: self.sweep(keys[i], s), self.draw_base(first))
        return self.draw_visible(last, state), state

    def log_unnormalised(self, x: Float[Array, " K"]) -> Float[Array, ""]:
        r"""Return :math:`\log \sum_h m(x) e^{-E(x, h)}`, m the multinomial coefficient."""
        return self.of_length(x.sum()).log_unnormalised(x)

    def draw_state(self, key: PRNGKeyArray, x: Float[Array, " K"]) -> State:
        """Draw h given the counts, exactly."""
        (h,) = self.of_length(x.sum()).draw_state(key, x)
        return h, x.sum()

    def encode(self, x: Float[Array, " K"], given: Given = None) -> Float[Array, " F"]:
        """Return E[h | n]."""
        return self.of_length(x.sum()).encode(x)

    # Topics.

    def topic_weights(self) -> Float[Array, "F K"]:
        """Return what each unit adds to the words' log-odds where it is on."""
        return self.weights.T

    def word_biases(self) -> Float[Array, " K"]:
        """Return the words' log-odds with no unit on."""
        return self.words


def quantiles(data: Dataset) -> np.ndarray:
    """Return lengths that stand for those of the training documents, each as often as the others."""
    x = data.splits["train"].x
    if isinstance(x, Absent):
        # A run opened without its data takes them from its file.
        return np.ones(QUANTILES, np.float32)
    found = np.concatenate([piece.sum(axis=1, dtype=np.int64) for piece in pieces(x)])
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.quantile(found, at, method="inverted_cdf").astype(np.float32)


def untrained(brief: Brief, hidden: int) -> ReplicatedSoftmax:
    """Return a machine of small random weights whose words have their frequencies in the training documents."""
    data = brief.data
    base = jnp.asarray(Multinomial(jnp.ones(())).fitted_field(data.mean, data.size("train")))
    draw = host_random(jax.random.fold_in(brief.key, 0)).standard_normal((data.width, hidden))
    lengths = jnp.asarray(quantiles(data))
    return ReplicatedSoftmax(jnp.asarray(0.01 * draw, jnp.float32), base, jnp.zeros(hidden), base, lengths)


def recipe(
    brief: Brief,
    *,
    hidden: int = 50,
    chain: Literal["cd", "pcd"] = "cd",
    sweeps: int = 1,
    grow: float = 0.0,
    chains: int = 100,
    length_normalise: bool = True,
    centred: bool = True,
    decay: float = 0.0,
    sparsity: Sparsity = Sparsity(),
    batch: int = 100,
    optimiser: Literal["adam", "momentum"] = "adam",
    rate: float = 0.01,
    schedule: Schedule = "linear",
    momentum: Momentum = Momentum(),
    clip: float = 0.0,
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[ReplicatedSoftmax, Recipe]:
    """Return an untrained machine and how to train it.

    Args:
        hidden: hidden units (F), the topics.
        chain: where the model's averages come from: ``cd`` starts at the data, ``pcd`` goes on from step to step,
            its chains of lengths drawn from those of the documents; long documents mix too slowly for it.
        sweeps: Gibbs sweeps a step (k).
        grow: epochs after which a step takes one sweep more; 0 is never.
        chains: persistent chains.
        length_normalise: count each document once, whatever its length (the gradient of log perplexity); without it
            each counts by its words, and the rate must be about as many times smaller.
        centred: centre the gradient.
        decay: of the weights, not the biases; a word's own gradient is as small as the word is rare, so that little is
            much.
        sparsity: hidden units that are seldom on.
        batch: documents per step.
        optimiser: ``adam``, whose steps are as large for rare words as for frequent ones, or ``momentum``, which
            leaves rare words behind.
        rate: learning rate; 1 to 5 is what suits ``momentum``.
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps of ``momentum``.
        clip: rescale the gradient to at most this norm; 0 is off.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    if brief.data.likelihood != "counts":
        raise ReverieError(
            f"{brief.data.name}: a replicated-softmax needs word counts, not {brief.data.likelihood} rows; give text, "
            "a matrix of counts, or --likelihood counts"
        )
    how = replicated.Counting(chain, sweeps, grow, chains, length_normalise, centred, decay, sparsity, batch)
    how.check(hidden)
    model = untrained(brief, hidden)
    learning.require("rate", rate, 0)
    epoch_steps, falling = brief.data.size("train") / batch, schedules.schedule(schedule, rate, brief.steps(batch))
    steps = Adam(clip_norm=clip)(falling) if optimiser == "adam" else steepest(falling, momentum, epoch_steps, clip)
    return model, _trained(brief, model, how, steps, epoch_steps, select, valid_every)


def _trained(
    brief: Brief, model: ReplicatedSoftmax, how: replicated.Counting, steps: optax.GradientTransformation,
    epoch_steps: float, select: Select, valid_every: float | None,
) -> Recipe:  # fmt: skip
    found: Any = replicated.gradients(how, epoch_steps)
    return Recipe(
        draw=minibatch(brief.data, how.batch),
        # The base law is where annealing starts, the lengths are the data's: nothing to be learnt.
        players=(Player(steps, gradients=found, moves=lambda path: path not in ("base", "lengths")),),
        batch=how.batch,
        carry=replicated.starting(how, model, jax.random.fold_in(brief.key, 1)),
        select=select,
        validate=validator(),
        valid_every=brief.valid_every(valid_every),
    )
