r"""Classification restricted Boltzmann machine: rows and their classes under one set of binary features.

.. math:: -E(v, y, h) = b^\top v + c^\top h + d_y + v^\top W h + \sum_j U_{jy} h_j

with y one of C classes.  Given a row, the hidden units can be summed out class by class, so that

.. math:: p(y \mid v) = \mathrm{softmax}_y\Big(d_y + \sum_j \log\big(1 + e^{o_{jy}}\big)\Big), \qquad
          o_{jy} = c_j + (v W)_j + U_{jy}

is exact, at a cost of F (D + C).  The joint law is an energy whose class is one more layer, independent of the row
given the hidden ones; the law of a row sums over the classes; the law of the rows of one class is an ordinary
machine with hidden biases :math:`c + U_{\cdot y}`.

It learns (Larochelle & Bengio 2008) generatively, by the gradient of :math:`\log p(v, y)`; discriminatively, by that of
:math:`\log p(y \mid v)`, which is a formula: with :math:`r_{jy} = (1_{y = y^*} - p(y \mid v))\, \sigma(o_{jy})`,

.. math:: \nabla_{d_y} = 1_{y = y^*} - p(y \mid v), \quad \nabla_{U_{jy}} = r_{jy}, \quad
          \nabla_{c_j} = \sum_y r_{jy}, \quad \nabla_{W_{ij}} = v_i \sum_y r_{jy};

or by the sum of the second and :math:`\alpha` times the first.  Of a row whose class is not told the generative part
learns :math:`\log p(v)`: its class is drawn from :math:`p(y \mid v)`, which leaves the gradient without bias.

Traps: learnt discriminatively alone, the visible biases never move and the law of the rows means nothing; what tells
classes best is not what gives rows the highest likelihood, and weights are chosen by what is learnt.

References: Larochelle & Bengio, *Classification using Discriminative Restricted Boltzmann Machines*, 2008; Tieleman
2008; Salakhutdinov & Murray 2008.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.data.order import batch_indices
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate import task
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.classification import balanced
from reverie.models.undirected import _learning as learning
from reverie.models.undirected._chains import Chain, Fast, Tempering
from reverie.models.undirected._layered import Boltzmann, Layers, State
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.models.undirected.rbm import RBM
from reverie.nn.units import Binary, OneHot, Units
from reverie.prob.contracts import Given
from reverie.train.draws import Feed, minibatch
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Draw, Gradients, Recipe

PAPER = Paper(
    title="Classification using Discriminative Restricted Boltzmann Machines",
    authors="Hugo Larochelle and Yoshua Bengio",
    year=2008,
    venue="ICML",
    bibtex="""@inproceedings{larochelle2008classification,
  title = {Classification using Discriminative Restricted {B}oltzmann Machines},
  author = {Larochelle, Hugo and Bengio, Yoshua},
  booktitle = {International Conference on Machine Learning},
  pages = {536--543},
  year = {2008}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("binary",)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": 1500, "learn": "hybrid", "alpha": 0.01, "chain": "cd", "epochs": 100},
    "digits": {"hidden": 100, "learn": "hybrid", "alpha": 0.1, "batch": 50, "epochs": 100},
}

TINY = {"hidden": 12, "learn": "generative", "batch": 50, "epochs": 40, "rate": 0.1}

CLAIMS: tuple[Claim, ...] = ()

Learn = Literal["generative", "discriminative", "hybrid"]


class ClassRBM(Boltzmann):
    """Rows (layer 0), hidden units (1) and the class (2); see the module's page.

    ``weights`` are W (D, F) and U (F, C), ``biases`` b, c and d.
    """

    def units(self, layer: int) -> Units:
        return OneHot() if layer == 2 else super().units(layer)

    def base_log_partition(self) -> Float[Array, ""]:
        hidden, classes = self.weights[1].shape
        return self.visible.log_partition(self.base).sum() + hidden * math.log(2.0) + math.log(classes)

    def by_class(self, x: Float[Array, " D"]) -> Float[Array, "F C"]:
        """Return o, the fields of the hidden units given the row and each class."""
        return self.field(1, {0: x, 2: jnp.zeros_like(self.biases[2])})[:, None] + self.weights[1]

    def class_fields(self, x: Float[Array, " D"]) -> Float[Array, " C"]:
        r"""Return :math:`d_y + \sum_j \log(1 + e^{o_{jy}})`."""
        return self.biases[2] + jax.nn.softplus(self.by_class(x)).sum(axis=0)

    def log_classes(self, x: Float[Array, " D"]) -> Float[Array, " C"]:
        r"""Return :math:`\log p(y \mid x)`, exactly."""
        return jax.nn.log_softmax(self.class_fields(x))

    def log_unnormalised(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        r"""Return :math:`\log \sum_{y, h} e^{-E(x, y, h)}`."""
        own = jnp.vdot(self.biases[0], self.visible.statistic(x)) + self.visible.log_base(x)
        return own + jax.nn.logsumexp(self.class_fields(x))

    def draw_state(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> State:
        """Draw h given the row, exactly: a class, and h given both."""
        first, second = jax.random.split(key)
        y = OneHot().sample(first, self.class_fields(x))
        return self.state(self.draw(second, self.odd, {0: x, 2: y}))

    def of_class(self, number: int) -> RBM:
        """Return the law of the rows of one class."""
        biases = (self.biases[0], self.biases[1] + self.weights[1][:, number])
        return RBM(self.weights[:1], biases, self.visible, self.base)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " F_C"]:
        """Return E[h | x], then p(y | x)."""
        p = jnp.exp(self.log_classes(x))
        return jnp.concatenate([jax.nn.sigmoid(self.by_class(x)) @ p, p])

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the weights and hidden biases, what the classes say averaged over them."""
        return ((self.weights[0], self.biases[1] + self.weights[1].mean(axis=1)),)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[v | h] at a draw of h given v."""
        return self.mean(self.draw_state(key, x))


def posterior(
    model: ClassRBM, rows: Float[Array, "B D"], given: Float[Array, "B C"], known: Bool[Array, " B"], key: PRNGKeyArray
) -> tuple[Layers, State]:
    """Return the rows with their classes and E[h | v, y], and draws of h; a class that is not known is drawn."""
    first, second = jax.random.split(key)
    drawn = jax.vmap(OneHot().sample)(jax.random.split(first, len(rows)), jax.vmap(model.class_fields)(rows))
    seen = {0: rows, 2: jnp.where(known[:, None], given, drawn)}
    means = jax.vmap(lambda layers: model.means(model.odd, layers))(seen)
    keys = jax.random.split(second, len(rows))
    return {**seen, **means}, jax.vmap(lambda k, layers: model.state(model.draw(k, model.odd, layers)))(keys, seen)


def _of_rows(model: ClassRBM, rows: Float[Array, "B D"], key: PRNGKeyArray) -> tuple[Layers, State]:
    return posterior(model, rows, jnp.zeros((len(rows), model.biases[2].size)), jnp.zeros(len(rows), bool), key)


def discriminative(
    model: ClassRBM, rows: Float[Array, "B D"], given: Float[Array, "B C"]
) -> tuple[ClassRBM, Float[Array, ""], Float[Array, ""]]:
    r"""Return the gradient of the mean :math:`\log p(y \mid x)`, that mean, and the share of classes told rightly."""
    log_p = jax.vmap(model.log_classes)(rows)
    gap = given - jnp.exp(log_p)
    shares = gap[:, None, :] * jax.nn.sigmoid(jax.vmap(model.by_class)(rows))
    hidden, n = shares.sum(axis=2), len(rows)
    zero = jax.tree.map(jnp.zeros_like, model)
    up = replace(
        zero,
        weights=(rows.T @ hidden / n, shares.mean(axis=0)),
        biases=(zero.biases[0], hidden.mean(axis=0), gap.mean(axis=0)),
    )
    return up, (log_p * given).sum(axis=1).mean(), (log_p.argmax(axis=1) == given.argmax(axis=1)).mean()


def gradients(learn: Learn, alpha: float, how: learning.Learning, epoch_steps: float) -> Gradients:
    """Return ``(model, batch, carry, key) -> (gradients of the loss, carry, what is logged)``.

    A batch has ``x``, ``given`` (one-hot) and ``known`` (whether it may be looked at), and ``taught``, rows with their
    classes for the discriminative part.
    """
    weight = {"generative": 1.0, "discriminative": 0.0, "hybrid": alpha}[learn]

    def found(
        model: ClassRBM, batch: dict[str, Any], carry: learning.Carry, key: PRNGKeyArray
    ) -> tuple[ClassRBM, learning.Carry, dict[str, Array]]:
        loss = replace(jax.tree.map(jnp.zeros_like, model), weights=tuple(how.decay * w for w in model.weights))
        shown: dict[str, Array] = {}
        if weight:
            of_rows = lambda m, rows, k: posterior(m, rows, batch["given"], batch["known"], k)  # noqa: E731
            generative = learning.gradients(of_rows, replace(how, decay=0.0), epoch_steps)
            down, carry, shown = generative(model, batch, carry, key)
            loss = jax.tree.map(lambda a, g: a + weight * g, loss, down)
        if learn != "generative":
            up, value, right = discriminative(model, *batch["taught"])
            loss = jax.tree.map(jnp.subtract, loss, up)
            total = -value + weight * shown.get("loss", 0.0)
            shown = {**shown, "accuracy": right, "log_p_class": value, "loss": total}
        return loss, carry, shown

    return found


def told(data: Dataset, batch: int, labels: int | None, seed: int) -> Draw:
    """Return the draw of rows and of whether their class may be looked at, with as many rows whose class may be."""
    every = minibatch(data, batch, True)
    y = data.labels("train")
    # A model that is opened without its data draws nothing.
    chosen = np.arange(labels or 1) if y is None else balanced(np.asarray(y), labels or len(y), seed)
    may = jnp.zeros(data.size("train"), bool).at[chosen].set(True)
    numbers = jnp.asarray(chosen, jnp.int32)

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        found, carry = every(key, step, feed, model, carry)
        if labels is None:
            known = jnp.ones(batch, bool)
            return {**found, "known": known, "taught": (found["x"], found["given"])}, carry
        stored, classes = feed.source.take(numbers[batch_indices(feed.seed, step, batch, len(numbers))])
        taught = data.prepare(jax.random.fold_in(key, 1), stored), jax.nn.one_hot(classes, data.classes)
        return {**found, "known": may[found["index"]], "taught": taught}, carry

    return draw


def validator(learn: Learn) -> Callable[..., Estimate] | None:
    """Return what weights are chosen by: the likelihood of rows, or the share of classes that are told rightly."""
    if learn == "generative":
        return None
    of_task = task.validator()
    return lambda model, data, key=None: of_task(task.Telling(model), data, key)


def recipe(
    brief: Brief,
    *,
    hidden: int = 100,
    learn: Learn = "hybrid",
    alpha: float = 0.01,
    labels: int | None = None,
    labels_seed: int = 0,
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
    rate: float | None = None,
    schedule: Schedule = "linear",
    momentum: Momentum = Momentum(),
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[ClassRBM, Recipe]:
    """Return an untrained machine and how to train it.

    Args:
        hidden: hidden units (F).
        learn: the likelihood of rows and classes, of classes given rows, or the second plus a little of the first.
        alpha: how much of it (``hybrid``).
        labels: tell the classes of so many rows alone, as many of each; the generative part learns from the others
            without (default: all).
        labels_seed: of which these are.
        chain: where the model's averages come from: ``cd`` starts at the data, ``pcd`` goes on from step to step,
            ``fpcd`` is driven by fast weights, ``pt`` swaps among replicas, ``tempered`` is heated now and then.
        sweeps: Gibbs sweeps a step (k).
        grow: epochs after which a step takes one sweep more; 0 is never.
        chains: persistent chains.
        tempering: temperatures of ``pt`` and ``tempered``.
        fast: fast weights of ``fpcd``.
        centred: centre the gradient.
        decay: of the weights, not the biases.
        sparsity: hidden units that are seldom on.
        batch: rows per step.
        rate: learning rate (default: 0.05 of ``generative``, 0.5 of the others, whose gradients are smaller).
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps.
        select: which weights count: best on validation (by what is learnt), last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    data = brief.data
    learning.binary_rows(data, "a class-rbm")
    if not data.classes:
        raise ReverieError(f"{data.name}: has no classes, which a class-rbm learns with the rows; train an rbm on it")
    learning.require("alpha", alpha, 0)
    rate = rate or (0.05 if learn == "generative" else 0.5)
    how = learning.Learning(
        chain, sweeps, grow, chains, tempering, fast, centred, decay, sparsity, batch, rate, schedule, momentum,
        select=select, valid_every=valid_every,
    )  # fmt: skip
    how.check((hidden,))
    model = learning.untrained(brief, ClassRBM, (hidden, data.classes), Binary())
    found = learning.machine(brief, model, _of_rows, how)
    offsets = (*found.carry.offsets[:2], jnp.full(data.classes, 1.0 / data.classes))
    (player,) = found.players
    own = gradients(learn, alpha, how, data.size("train") / batch)
    return model, replace(
        found,
        draw=told(data, batch, labels, labels_seed),
        players=(replace(player, gradients=own),),
        carry=found.carry._replace(offsets=offsets),
        validate=validator(learn) or found.validate,
    )
