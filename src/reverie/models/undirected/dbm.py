r"""Deep Boltzmann machine: several layers of binary features, each between its neighbours, learnt together.

.. math:: -E(v, h^1, \dots, h^L) = b^\top v + v^\top W_1 h^1 + \sum_l c_l^\top h^l
          + \sum_{l<L} {h^l}^\top W_{l+1} h^{l+1}

The posterior has no closed form.  Mean field takes :math:`q(h \mid v) = \prod_l \prod_j \mathrm{Bern}(\mu^l_j)`, whose
stationary point obeys

.. math:: \mu^l = \sigma\big(\mu^{l-1} W_l + W_{l+1} \mu^{l+1} + c_l\big), \qquad \mu^0 = v,

found by turning to the odd and the even layers in turn, which raises

.. math:: \log p(v) \ge \mathbb E_q[-E(v, h)] + H(q) - \log Z

at every turn.  Learning is stochastic approximation: the data's averages by mean field, the model's by persistent
chains (Salakhutdinov & Hinton 2009).  Centring makes that work from random weights, without pretraining (Montavon &
Müller 2012).

Rows are binary, or real-valued: then :math:`v \sim \mathcal N(b + W_1 h^1, s^2)` with learnt variances, and the first
layer sees :math:`v/s^2`.

The number that is reported is this bound, with log Z counted or bracketed; where the top layers are small enough to be
counted, log p(v) itself.

Traps: updating all layers at once may swing for ever; a bound with an annealed log Z is only as good as its bracket;
with equal numbers of parameters a deep machine need not beat a shallow one.

References: Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009; Montavon & Müller, *Deep Boltzmann Machines and the
Centering Trick*, 2012.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.undirected import _learning as learning
from reverie.models.undirected import _prediction as prediction
from reverie.models.undirected import _pretrain as layerwise
from reverie.models.undirected._chains import Fast, Tempering
from reverie.models.undirected._layered import Boltzmann, Layers, State
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.models.undirected._pretrain import Pretrain
from reverie.nn.units import Binary
from reverie.prob.contracts import Given
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Deep Boltzmann Machines",
    authors="Ruslan Salakhutdinov and Geoffrey Hinton",
    year=2009,
    venue="AISTATS",
    bibtex="""@inproceedings{salakhutdinov2009deep,
  title = {Deep Boltzmann Machines},
  author = {Salakhutdinov, Ruslan and Hinton, Geoffrey},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2009}
}""",
)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": (500, 1000), "sweeps": 5, "epochs": 500, "rate": 0.005},
    "digits": {"hidden": (20, 10), "batch": 50, "epochs": 300, "rate": 0.1},
}

TINY = {"hidden": (10, 5), "batch": 50, "epochs": 40, "rate": 0.1}

#: A look at a row: short chains, few rows.
_FEW = {"samples": 16, "temperatures": 50, "most": 50, "rows": 200}
_SMALL = {"hidden": (30, 30), "epochs": 0.2, "valid_every": 100.0, "pretrain": {"epochs": 0.1}}
_SMOKE = {**_SMALL, "evaluation": _FEW}
_CPU = {"epochs": 120, "rate": 0.003, "momentum": {"end": 0.9}, "sweeps": 1, "mean_field": 8, "centred": True,
        "pretrain": {"epochs": 20, "grow": 10}, "select": "last", "evaluation": {"tolerance": 0.25}}  # fmt: skip
#: The released code's, which has no centring.
_PAPER = {"sweeps": 5, "mean_field": 10, "rate": 0.001, "schedule": "inverse", "momentum": {"end": 0.9},
          "centred": False, "pretrain": {"epochs": 100}, "select": "last"}  # fmt: skip


def _bound(row: str, published: float, hidden: tuple[int, ...], **more: Any) -> Claim:
    return Claim(
        table="boltzmann-likelihood", row=row, column="mnist", published=published, kind="lower_bound", data="mnist",
        settings={**_PAPER, "hidden": hidden}, epochs=500,
        budgets={
            "smoke": _SMOKE,
            "cpu": {**_CPU, "schedule": "linear", "valid_every": 25, "binarisation": None},
            "paper": {},
        },
        **more,
    )  # fmt: skip


def _error(column: str, published: float, epochs: float | None, budgets: dict[str, Any], **more: Any) -> Claim:
    told: dict[str, Any] = {"settings": {}, "evaluation": {"epochs": 100}, **more}
    return Claim(
        table="recognition", row="DBM", column=column, published=published, metric="classification_error",
        source="deck", data=column, epochs=epochs, budgets=budgets, **told,
    )  # fmt: skip


_GLANCE = {"epochs": 5, "labels": 300}
#: Chosen on validation rows before; the deck's machines learn from those rows as well.
_DROPPED = {"epochs": 100, "dropout": 0.5, "input_dropout": 0.2, "refit": True}
_OCR = {**_CPU, "hidden": (1000, 1000), "epochs": 60}
#: Real-valued rows: a small rate, as the variances are learnt too.
_NORB = {**_CPU, "hidden": (500, 500), "epochs": 20, "rate": 0.001, "schedule": "linear", "evaluation": {"epochs": 20}}

CLAIMS: tuple[Claim, ...] = (
    _bound("DBM 500-1000", -84.62, (500, 1000), source="quoted", binarisation="dynamic",
           notes=("bound-and-point", "with-labels", "log-z-scale")),
    _bound("DBM 512-1024", -86.37, (512, 1024), source="code", notes=("log-z-scale",)),
    _error("mnist", 0.0095, 500,
           {"smoke": {"evaluation": _GLANCE}, "cpu": {"evaluation": _DROPPED}, "paper": {}},
           run_of=("boltzmann-likelihood", "DBM 500-1000"), notes=("with-labels", "batches")),
    _error("ocr-letters", 0.0840, None,
           {"smoke": {**_SMALL, "evaluation": _GLANCE},
            "cpu": {**_OCR, "evaluation": {**_DROPPED, "epochs": 60, "input_dropout": 0.1}},
            "paper": {**_OCR, "hidden": (2000, 2000), "epochs": 300}},
           split_rule="shuffled", notes=("ocr-size",)),
    _error("norb-small", 0.072, None,
           {"smoke": {**_SMALL, "evaluation": _GLANCE}, "cpu": _NORB, "paper": {"epochs": 100}},
           settings={**_PAPER, "hidden": (4000, 4000, 4000)}, at_hand_only=True, notes=("norb-size", "norb-best")),
)  # fmt: skip


class DBM(Boltzmann):
    """Two or more hidden layers; see the module's page."""

    @property
    def hidden_even(self) -> range:
        """Numbers of the hidden layers of the visible layer's colour."""
        return range(2, self.depth + 1, 2)

    def mean_field(self, x: Float[Array, " D"], iterations: int = 50, tolerance: float = 1e-6) -> Layers:
        """Return the means of q for one row: at most so many rounds, fewer once no mean moves by more than `tolerance`.

        A round turns to the odd layers and then to the even ones; x stands as layer 0.
        """

        def turn(layers: Layers) -> Layers:
            layers = {**layers, **self.means(self.odd, layers)}
            return {**layers, **self.means(self.hidden_even, layers)}

        def more(at: tuple[Array, Array, Layers]) -> Array:
            return (at[0] < iterations) & (at[1] > tolerance)

        def body(at: tuple[Array, Array, Layers]) -> tuple[Array, Array, Layers]:
            new = turn(at[2])
            moved = jnp.stack([jnp.abs(new[n] - at[2][n]).max() for n in range(1, self.depth + 1)])
            return at[0] + 1, moved.max(), new

        first = (jnp.int32(0), jnp.asarray(jnp.inf, x.dtype), self.upwards(x))
        return jax.lax.while_loop(more, body, first)[2]

    def upwards(self, x: Float[Array, " D"]) -> Layers:
        """Return a first guess: one pass up, inputs doubled for what is to come from above."""
        layers = {0: x}
        for layer in range(1, self.depth + 1):
            sent = self.units(layer - 1).statistic(layers[layer - 1]) @ self.weights[layer - 1]
            twice = 2.0 if layer < self.depth else 1.0
            layers[layer] = jax.nn.sigmoid(twice * sent + self.biases[layer])
        return layers

    def log_bound(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        r"""Return :math:`\mathbb E_q[-E] + H(q)`, a lower bound of :math:`\log p^*(x)`."""
        layers = self.mean_field(x)
        uncertainty = jnp.stack([entropy(layers[n]) for n in range(1, self.depth + 1)])
        return uncertainty.sum() - self.energy(layers)

    def log_counted(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        r"""Return :math:`\log p^*(x)`, every state of the even hidden layers counted and the odd ones summed out."""
        sizes = [self.biases[n].size for n in self.hidden_even]
        ends = np.cumsum(sizes)[:-1]

        def one(number: Array) -> Array:
            bits = ((number >> jnp.arange(sum(sizes))) & 1).astype(x.dtype)
            layers = {0: x, **dict(zip(self.hidden_even, jnp.split(bits, ends), strict=True))}
            own = [jnp.vdot(self.biases[n], layers[n]) for n in self.hidden_even]
            odd = [self.units(n).log_partition(self.field(n, layers)).sum() for n in self.odd]
            return jnp.stack(own + odd).sum()

        total = jax.nn.logsumexp(jax.vmap(one)(jnp.arange(1 << sum(sizes))))
        return total + jnp.vdot(self.biases[0], self.visible.statistic(x)) + self.visible.log_base(x)

    @property
    def countable_units(self) -> int:
        """How many units `log_counted` counts the states of."""
        return sum(self.biases[n].size for n in self.hidden_even)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the means of all hidden layers, from the data upwards."""
        layers = self.mean_field(x)
        return jnp.concatenate([layers[n] for n in range(1, self.depth + 1)])

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the weights and hidden biases, from the data upwards."""
        # What real-valued rows tell is divided by their variances.
        first = jax.vmap(self.visible.statistic, 1, 1)(self.weights[0])
        return tuple(zip((first, *self.weights[1:]), self.biases[1:], strict=True))

    def posterior_above(self, x: Float[Array, " D"]) -> Float[Array, " k"]:
        """Return q(h2 | v), the means of the second layer."""
        return self.mean_field(x)[2]

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[v | h1] at a draw of the first layer's means."""
        h = Binary().sample(key, self.field(1, self.mean_field(x)))
        return self.visible.mean(self.field(0, {1: h}))


def entropy(mean: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the entropy of independent bits with these means, in nats."""
    return (jax.scipy.special.entr(mean) + jax.scipy.special.entr(1.0 - mean)).sum()


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (100, 50),
    learn: Literal["likelihood", "multi-prediction"] = "likelihood",
    pretrain: Pretrain = Pretrain(),
    chain: Literal["pcd", "fpcd", "pt", "tempered"] = "pcd",
    sweeps: int = 1,
    grow: float = 0.0,
    chains: int = 100,
    tempering: Tempering = Tempering(),
    fast: Fast = Fast(),
    mean_field: int = 10,
    centred: bool = True,
    decay: float = 2e-4,
    sparsity: Sparsity = Sparsity(),
    batch: int = 100,
    rate: float = 0.02,
    schedule: Schedule = "linear",
    momentum: Momentum = Momentum(),
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[DBM, Recipe]:
    """Return an untrained machine and how to train all its layers together.

    Args:
        hidden: widths of the hidden layers, from the data upwards; two or more.
        learn: the likelihood's gradient, or to predict hidden cells of the rows from the rest by mean field.
        pretrain: layers learnt one by one first.
        chain: where the model's averages come from: ``pcd`` goes on from step to step, ``fpcd`` is driven by fast
            weights, ``pt`` swaps among replicas, ``tempered`` is heated now and then.
        sweeps: Gibbs sweeps a step (k).
        grow: epochs after which a step takes one sweep more; 0 is never.
        chains: persistent chains.
        tempering: temperatures of ``pt`` and ``tempered``.
        fast: fast weights of ``fpcd``.
        mean_field: rounds of mean field a step, at most.
        centred: centre the gradient, without which large machines do not learn from random weights.
        decay: of the weights, not the biases.
        sparsity: hidden units that are seldom on.
        batch: rows per step.
        rate: learning rate; of ``multi-prediction``, Adam's.
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    visible = learning.visible_units(brief.data, "a dbm")
    if learn == "multi-prediction":
        learning.binary_rows(brief.data, "multi-prediction")
    learning.require("mean_field", mean_field, 1)
    if len(hidden) < 2:
        raise ReverieError(f"hidden: {len(hidden)} layer is an rbm's; give two or more, such as 500,1000")
    how = learning.Learning(
        chain, sweeps, grow, chains, tempering, fast, centred, decay, sparsity, batch, rate, schedule, momentum,
        select=select, valid_every=valid_every,
    )  # fmt: skip
    how.check(hidden)
    pretrain.check()

    def posterior(model: DBM, rows: Float[Array, "B D"], key: PRNGKeyArray) -> tuple[Layers, State]:
        # To a tolerance that the gradient cannot see, so that easy batches stop early.
        layers = jax.vmap(lambda x: model.mean_field(x, mean_field, 1e-3))(rows)
        return layers, model.state(layers)

    def joint(model: DBM, data: Dataset, carry: Any = None) -> tuple[DBM, Recipe]:
        if learn == "multi-prediction":
            return model, prediction.recipe(brief, model, how, mean_field)
        return model, learning.machine(brief, model, posterior, how)

    # Weights near 0 are a saddle of what is predicted, which no chain's noise leads off.
    scale = 0.2 if learn == "multi-prediction" else 0.01
    model = learning.untrained(brief, DBM, hidden, visible, scale)
    return layerwise.layers(model, brief.data, pretrain, batch, joint) if pretrain.epochs else joint(model, brief.data)
