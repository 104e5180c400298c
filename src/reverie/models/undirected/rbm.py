r"""Restricted Boltzmann machine: binary features whose product of experts is the density of the data.

.. math:: -E(v, h) = b^\top v + c^\top h + v^\top W h, \qquad
          p(h_j = 1 \mid v) = \sigma(c_j + (v W)_j), \quad p(v_i = 1 \mid h) = \sigma(b_i + (W h)_i)

and, h summed out, :math:`\log p(v) = b^\top v + \sum_j \log(1 + e^{c_j + (v W)_j}) - \log Z`.  Each hidden unit is an
expert that multiplies in a factor of one or of :math:`1 + e^{c_j + v W_j}`.

:math:`\log Z` is exact where one side has at most 25 units; else annealed from both sides (`prob.partition`), and the
log-likelihood is a bracket.

Traps: the reconstruction error is not what is learned, and gets better while the likelihood gets worse; chains that
start at the data (``cd``) leave regions of the model unseen; persistent chains need a rate that falls to nothing.

References: Smolensky 1986; Hinton, *Training Products of Experts by Minimizing Contrastive Divergence*, 2002; Tieleman
2008; Salakhutdinov & Murray 2008; Hinton, *A Practical Guide to Training Restricted Boltzmann Machines*, 2010;
Montavon & Müller 2012.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.evaluate.claims import Claim, Paper
from reverie.models.undirected import _learning as learning
from reverie.models.undirected._chains import Chain, Fast, Tempering
from reverie.models.undirected._layered import Boltzmann, Layers, State
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.nn.units import Binary
from reverie.prob.contracts import Given
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Training Products of Experts by Minimizing Contrastive Divergence",
    authors="Geoffrey E. Hinton",
    year=2002,
    venue="Neural Computation 14",
    bibtex="""@article{hinton2002training,
  title = {Training Products of Experts by Minimizing Contrastive Divergence},
  author = {Hinton, Geoffrey E.},
  journal = {Neural Computation},
  volume = {14},
  number = {8},
  pages = {1771--1800},
  year = {2002}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("binary",)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": 500, "chain": "pcd", "epochs": 250},
    "digits": {"hidden": 20, "batch": 50, "epochs": 300, "rate": 0.1, "decay": 2e-4},
}

TINY = {"hidden": 12, "batch": 50, "epochs": 40, "rate": 0.1}

#: A look at a row: short chains, few rows.
_FEW = {"samples": 16, "temperatures": 50, "most": 50, "rows": 200}
_SMOKE = {"hidden": 30, "epochs": 0.2, "valid_every": 100.0, "evaluation": _FEW}
#: Log Z within half a nat: another half costs as much again.
_CPU = {"chains": 200, "epochs": 200, "valid_every": 50, "select": "last", "evaluation": {"tolerance": 0.5}}


def _thresholded(row: str, published: float, hidden: int, epochs: float | None, centred: bool, **more: Any) -> Claim:
    """Return a row of MelJan/PyDeep, which learns and judges thresholded pixels."""
    smoke = {**_SMOKE, "hidden": min(hidden, 30)}
    return Claim(
        table="boltzmann-likelihood", row=row, column="mnist", published=published, source="code", data="mnist",
        settings={"hidden": hidden, "centred": centred, "select": "last"}, epochs=epochs, binarisation="threshold",
        budgets={"smoke": smoke, "cpu": _CPU, "paper": {"epochs": 200}}, **more,
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim(
        table="boltzmann-likelihood",
        row="RBM 500, CD-25",
        column="mnist",
        published=-86.34,
        source="quoted",
        kind="estimate",
        data="mnist",
        # As the released code has it, whose rate falls with the sweeps.
        settings={"hidden": 500, "chain": "cd", "grow": 10.0, "centred": False, "schedule": "inverse",
                  "momentum": {"end": 0.9}, "select": "last"},
        epochs=250,
        binarisation="sampled-fixed",
        budgets={
            "smoke": _SMOKE,
            "cpu": {**_CPU, "chain": "pcd", "grow": 0.0, "centred": True, "schedule": "linear",
                    "momentum": {"end": 0.5}, "binarisation": None},
            "paper": {},
        },
        notes=("grown", "bound-and-point", "misdated"),
    ),
    _thresholded("RBM 16, centred", -142.564, 16, None, True, kind="exact", notes=("threshold",)),
    _thresholded("RBM 16, uncentred", -149.053, 16, None, False, kind="exact", notes=("threshold",)),
    _thresholded("RBM 500, centred, PCD-1", -84.86, 500, 200, True, kind="estimate",
                 beside={"reverse end": "−96.61"}, notes=("threshold", "one-sided")),
)  # fmt: skip


class RBM(Boltzmann):
    """Visible and hidden binary units; see the module's page."""

    def log_unnormalised(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        r"""Return :math:`\log \sum_h e^{-E(x, h)}`."""
        hidden = self.units(1).log_partition(self.field(1, {0: x})).sum()
        return jnp.vdot(self.biases[0], self.visible.statistic(x)) + self.visible.log_base(x) + hidden

    def draw_state(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> State:
        """Draw h given v, exactly."""
        return self.state(self.draw(key, self.odd, {0: x}))

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " F"]:
        """Return E[h | v]."""
        return self.means(self.odd, {0: x})[1]

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the weights and hidden biases, from the data upwards."""
        return tuple(zip(self.weights, self.biases[1:], strict=True))

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[v | h] at a draw of h given v."""
        return self.mean(self.draw_state(key, x))


def posterior(model: Boltzmann, rows: Float[Array, "B D"], key: PRNGKeyArray) -> tuple[Layers, State]:
    """Return the rows with E[h | v], and draws of h given them."""
    means = jax.vmap(lambda x: model.means(model.odd, {0: x}))(rows)
    drawn = jax.vmap(lambda k, x: model.state(model.draw(k, model.odd, {0: x})))(jax.random.split(key, len(rows)), rows)
    return {0: rows, **means}, drawn


def recipe(
    brief: Brief,
    *,
    hidden: int = 100,
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
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[RBM, Recipe]:
    """Return an untrained machine and how to train it.

    Args:
        hidden: hidden units (F).
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
        rate: learning rate.
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    learning.binary_rows(brief.data, "an rbm")
    how = learning.Learning(
        chain, sweeps, grow, chains, tempering, fast, centred, decay, sparsity, batch, rate, schedule, momentum,
        select=select, valid_every=valid_every,
    )  # fmt: skip
    how.check((hidden,))
    model = learning.untrained(brief, RBM, (hidden,), Binary())
    return model, learning.machine(brief, model, posterior, how)
