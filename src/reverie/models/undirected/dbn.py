r"""Deep belief net: layers of binary features, undirected at the top and directed below.

.. math:: p(v, h^1, \dots, h^L) = p(v \mid h^1) \cdots p(h^{L-2} \mid h^{L-1})\; p(h^{L-1}, h^L), \qquad
          p(h^{l-1}_i = 1 \mid h^l) = \sigma\big(b^{l-1}_i + (W_l h^l)_i\big),

the top two layers a restricted Boltzmann machine.  A recognition net :math:`q(h \mid v) = \prod_l q(h^l \mid h^{l-1})`,
:math:`q(h^l_j = 1 \mid h^{l-1}) = \sigma(c^l_j + (h^{l-1} R_l)_j)`, goes the other way, and

.. math:: \log p(v) \ge \mathbb E_q\big[\log p(v \mid h^1) + \dots + \log p^*(h^{L-1}) - \log q(h \mid v)\big] - \log Z,

Z being the top machine's, counted or bracketed.  ``importance`` replaces the mean over draws of q by the logarithm of
the mean weight, which is a tighter bound.

Learning is greedy (Hinton, Osindero & Teh 2006): each layer is learnt as a restricted machine on draws of the one
below and then frozen; where a layer has the width of the last but one it starts as that one's transpose, at which the
bound does not fall.  Then, if asked, up-down: recognition and generative weights are parted, and learnt by a wake pass
up from the data, some sweeps of the top machine, and a sleep pass down.

Traps: samples take a chain of the top machine's, then one pass down; the bound is of the whole net and not of its top;
the likelihood of a Parzen window fitted to samples is no likelihood of the net.

References: Hinton, Osindero & Teh, *A Fast Learning Algorithm for Deep Belief Nets*, 2006; Salakhutdinov & Murray, *On
the Quantitative Analysis of Deep Belief Networks*, 2008; Bengio, Lamblin, Popovici & Larochelle 2007.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper, on_toronto_faces
from reverie.models.undirected import _belief as belief
from reverie.models.undirected import _learning as learning
from reverie.models.undirected._belief import UpDown
from reverie.models.undirected._chains import Chain, Fast, Tempering
from reverie.models.undirected._layered import Boltzmann, State, initial
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.models.undirected._pretrain import Pretrain
from reverie.models.undirected.rbm import RBM
from reverie.nn.laws import bernoulli_log_prob
from reverie.nn.units import Binary
from reverie.prob.contracts import Energy, Given
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="A Fast Learning Algorithm for Deep Belief Nets",
    authors="Geoffrey E. Hinton, Simon Osindero and Yee-Whye Teh",
    year=2006,
    venue="Neural Computation 18",
    bibtex="""@article{hinton2006fast,
  title = {A Fast Learning Algorithm for Deep Belief Nets},
  author = {Hinton, Geoffrey E. and Osindero, Simon and Teh, Yee-Whye},
  journal = {Neural Computation},
  volume = {18},
  number = {7},
  pages = {1527--1554},
  year = {2006}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("binary",)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": (500, 2000), "pretrain": {"epochs": 100}, "chain": "pcd", "epochs": 200},
    "digits": {
        "hidden": (40, 20), "batch": 50, "epochs": 200, "rate": 0.1,
        "pretrain": {"epochs": 100, "rate": 0.1, "grow": 20},
    },
}  # fmt: skip

TINY = {"hidden": (16, 12), "batch": 50, "epochs": 30, "rate": 0.1, "pretrain": {"epochs": 20, "rate": 0.1}}

#: A look at a row: short chains, few rows.
_SMALL = {"hidden": (30, 30), "epochs": 0.2, "valid_every": 100.0, "pretrain": {"epochs": 0.1}}
_FEW = {"estimator": "importance", "samples": 5, "temperatures": 50, "most": 50, "rows": 200}
_CPU = {"pretrain": {"epochs": 20, "grow": 10}, "epochs": 40, "rate": 0.02}
_PAPER = {"pretrain": {"epochs": 250, "grow": 10}, "chain": "cd", "grow": 10.0, "centred": False,
          "momentum": {"end": 0.9}}  # fmt: skip


def _error(column: str, published: float, hidden: tuple[int, ...], **more: Any) -> Claim:
    return Claim(
        table="recognition", row="DBN", column=column, published=published, metric="classification_error",
        source="deck", data=column, settings={"hidden": hidden, "select": "last"}, epochs=None,
        evaluation={"epochs": 30, "refit": True},
        budgets={
            "smoke": {**_SMALL, "evaluation": {"epochs": 5, "labels": 300}},
            # The features are those of the layers below; the top machine need not be well learnt.
            "cpu": {**_CPU, "epochs": 20},
            "paper": {**_PAPER, "epochs": 250},
        },
        **more,
    )  # fmt: skip


_LIKELIHOOD = Claim(
    table="boltzmann-likelihood",
    row="DBN 500-2000",
    column="mnist",
    published=-84.55,
    source="quoted",
    kind="estimate",
    data="mnist",
    settings={**_PAPER, "hidden": (500, 2000), "select": "last"},
    epochs=None,
    binarisation="sampled-fixed",
    evaluation={"estimator": "importance"},
    budgets={
        "smoke": {**_SMALL, "evaluation": _FEW},
        "cpu": {**_CPU, "chain": "pcd", "grow": 0.0, "centred": True, "momentum": {"end": 0.5},
                "binarisation": None},
        "paper": {"epochs": 250},
    },
    notes=("parzen",),
)  # fmt: skip
#: The slides do not say which net this was.  Its rows are drawn at every step, since windows are judged on grey ones.
_WINDOWS = replace(
    _LIKELIHOOD, table="parzen", row="DBN", published=138.0, source="deck", metric="parzen", binarisation="dynamic",
    evaluation={"estimator": "parzen", "samples": 10_000}, notes=("windows",),
    budgets={**_LIKELIHOOD.budgets,
             "smoke": {**_SMALL, "evaluation": {"estimator": "parzen", "samples": 100, "rows": 200}}},
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (
    _LIKELIHOOD,
    replace(_LIKELIHOOD, table="density", row="DBN", source="deck", run_of=("boltzmann-likelihood", "DBN 500-2000"),
            notes=("fixed-as-drawn", "parzen")),
    _WINDOWS,
    on_toronto_faces(_WINDOWS, 1909.0, "deck"),
    _error("mnist", 0.0120, (500, 500, 2000), notes=("dbn-attribution",)),
    _error("ocr-letters", 0.0968, (500, 500), split_rule="shuffled", notes=("ocr-size",)),
    _error("norb-small", 0.090, (4000, 4000), not_run="our dbn takes binary rows alone",
           notes=("norb-size", "norb-best")),
)  # fmt: skip


class DBN(Energy):
    """Directed layers below a restricted Boltzmann machine; see the module's page.  A state is the machine's.

    Attributes:
        top: the machine of the two highest layers.
        weights, biases: of the directed layers, :math:`W_l` (n_{l-1}, n_l) and :math:`b^{l-1}`, from the data upwards.
        up_weights, up_biases: of the recognition net, :math:`R_l` (n_{l-1}, n_l) and :math:`c^l`.
    """

    top: Boltzmann
    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    up_weights: tuple[Float[Array, "_ _"], ...]
    up_biases: tuple[Float[Array, " _"], ...]

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.weights) + 1

    # The contract of energies: Z and chains are the top machine's.

    def base_log_partition(self) -> Float[Array, ""]:
        return self.top.base_log_partition()

    def draw_base(self, key: PRNGKeyArray) -> State:
        return self.top.draw_base(key)

    def log_marginal(self, state: PyTree, beta: Any = 1.0) -> Float[Array, ""]:
        return self.top.log_marginal(state, beta)

    def log_ratio(self, state: PyTree, start: Any, stop: Any) -> Float[Array, ""]:
        return self.top.log_ratio(state, start, stop)

    def sweep(self, key: PRNGKeyArray, state: PyTree, beta: Any = 1.0) -> PyTree:
        return self.top.sweep(key, state, beta)

    def draw_visible(self, key: PRNGKeyArray, state: PyTree) -> Float[Array, " D"]:
        first, second = jax.random.split(key)
        return self.down(second, self.top.draw_visible(first, state))[-1]

    def mean(self, state: PyTree, given: Given = None) -> Float[Array, " D"]:
        """Return v after a pass down of means: not E[v | state], which has no closed form, but close to it."""
        h = self.top.mean(state)
        for weight, bias in zip(self.weights[::-1], self.biases[::-1], strict=True):
            h = jax.nn.sigmoid(weight @ h + bias)
        return h

    def sample(self, key: PRNGKeyArray, given: Given = None, sweeps: int = 1000) -> tuple[Float[Array, " D"], State]:
        """Draw v and a state of the top machine from a chain of so many sweeps that starts at its base law."""
        first, second = jax.random.split(key)
        _, state = self.top.sample(first, None, sweeps)
        return self.draw_visible(second, state), state

    # What is above a row.

    @property
    def annealed(self) -> Boltzmann:
        """The part whose partition function this net's is."""
        return self.top

    def lift(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> Float[Array, " n"]:
        """Draw the top machine's lower layer from q(h | x)."""
        return self.up(key, x)[-1]

    def log_weight(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> Float[Array, ""]:
        r"""Return :math:`\log p^*(x, h) - \log q(h \mid x)` at a draw of q, the top layer summed out.

        Its mean is the bound of :math:`\log p^*(x)`; the mean of its exponential is :math:`p^*(x)`.
        """
        layers = self.up(key, x)
        total = self.top.log_unnormalised(layers[-1])  # type: ignore[attr-defined]
        for level, (below, above) in enumerate(pairwise(layers)):
            told = bernoulli_log_prob(below, self.weights[level] @ above + self.biases[level])
            guessed = bernoulli_log_prob(above, below @ self.up_weights[level] + self.up_biases[level])
            total = total + told.sum() - guessed.sum()
        return total

    def up(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> list[Array]:
        """Draw the layers from the data to the top machine's lower one from q, x in front."""
        layers = [x]
        for level, (weight, bias) in enumerate(zip(self.up_weights, self.up_biases, strict=True)):
            layers.append(Binary().sample(jax.random.fold_in(key, level), layers[-1] @ weight + bias))
        return layers

    def down(self, key: PRNGKeyArray, h: Float[Array, " n"]) -> list[Array]:
        """Draw the layers from the top machine's lower one down to the data from p, h in front."""
        layers = [h]
        for level in reversed(range(len(self.weights))):
            field = self.weights[level] @ layers[-1] + self.biases[level]
            layers.append(Binary().sample(jax.random.fold_in(key, level), field))
        return layers

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return weights and biases of the recognition net, the top machine's last."""
        return *zip(self.up_weights, self.up_biases, strict=True), (self.top.weights[0], self.top.biases[1])

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the layers of a pass up of means, from the data upwards."""
        layers, h = [], x
        for weight, bias in self.feed_forward():
            h = jax.nn.sigmoid(h @ weight + bias)
            layers.append(h)
        return jnp.concatenate(layers)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return v after a pass of means down from a draw of the highest layer."""
        return self.mean(self.top.draw_state(key, self.lift(jax.random.fold_in(key, 1), x)))  # type: ignore[attr-defined]

    def filters(self) -> Float[Array, "F D"]:
        """Return the generative weights of each unit of the first hidden layer."""
        return self.weights[0].T


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (100, 50),
    pretrain: Pretrain = Pretrain(epochs=10.0),
    chain: Chain = "pcd",
    sweeps: int = 1,
    grow: float = 0.0,
    chains: int = 100,
    tempering: Tempering = Tempering(),
    fast: Fast = Fast(),
    centred: bool = True,
    decay: float = 2e-4,
    sparsity: Sparsity = Sparsity(),
    batch: int = 100,
    rate: float = 0.05,
    schedule: Schedule = "linear",
    momentum: Momentum = Momentum(),
    updown: UpDown = UpDown(),
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[DBN, Recipe]:
    """Return an untrained net and how to train it: layer by layer, the top machine for the planned epochs.

    Args:
        hidden: widths of the hidden layers, from the data upwards; two or more.
        pretrain: the directed layers, learnt one by one first.
        chain: where the top machine's averages come from: ``cd`` starts at the data, ``pcd`` goes on from step to
            step, ``fpcd`` is driven by fast weights, ``pt`` swaps among replicas, ``tempered`` is heated now and then.
        sweeps: Gibbs sweeps a step (k).
        grow: epochs after which a step takes one sweep more; 0 is never.
        chains: persistent chains.
        tempering: temperatures of ``pt`` and ``tempered``.
        fast: fast weights of ``fpcd``.
        centred: centre the gradient of the top machine.
        decay: of the weights, not the biases.
        sparsity: hidden units that are seldom on.
        batch: rows per step.
        rate: learning rate of the top machine.
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps.
        updown: all layers together at last.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    learning.binary_rows(brief.data, "a dbn")
    if len(hidden) < 2:
        raise ReverieError(f"hidden: {len(hidden)} layer is an rbm's; give two or more, such as 500,2000")
    if not pretrain.epochs > 0:
        raise ReverieError("pretrain.epochs: the layers below the top learn nothing in 0 epochs; give more")
    how = learning.Learning(
        chain, sweeps, grow, chains, tempering, fast, centred, decay, sparsity, batch, rate, schedule, momentum,
        select=select, valid_every=valid_every,
    )  # fmt: skip
    how.check(hidden)
    pretrain.check()
    updown.check()
    model = untrained(brief.data, hidden, brief.key)
    return belief.layers(brief, model, how, pretrain, updown)


def untrained(data: Dataset, hidden: tuple[int, ...], key: PRNGKeyArray) -> DBN:
    """Return a net of small random weights."""
    widths = (data.width, *hidden)
    below = initial(jax.random.fold_in(key, 0), widths[:-1], Binary(), data.mean, data.size("train"))
    top = initial(jax.random.fold_in(key, 1), widths[-2:], Binary(), np.full(widths[-2], 0.5), data.size("train"))
    copied = lambda arrays: tuple(jnp.array(a) for a in arrays)  # noqa: E731
    return DBN(
        RBM(**top), below["weights"], below["biases"][:-1], copied(below["weights"]), copied(below["biases"][1:])
    )  # fmt: skip
