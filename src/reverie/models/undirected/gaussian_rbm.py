r"""Gaussian-Bernoulli restricted Boltzmann machine: binary features of real-valued rows, with learnt variances.

.. math:: E(v, h) = \sum_i \frac{(v_i - \mu_i)^2}{2 s_i^2} - \sum_{ij} \frac{v_i}{s_i^2} W_{ij} h_j - c^\top h,

.. math:: p(h_j = 1 \mid v) = \sigma\big(c_j + ((v / s^2)\, W)_j\big), \qquad
          p(v \mid h) = \mathcal N\big(\mu + W h,\ \mathrm{diag}\, s^2\big)

(the code's constant is :math:`-\sum \mu_i^2/2s_i^2` less, in energies and in :math:`\log Z` alike).  The machine is a
mixture of :math:`2^F` Gaussians of one diagonal covariance, whose means are sums of columns of W, and

.. math:: \log p(v) = -\sum_i \frac{(v_i - \mu_i)^2}{2 s_i^2}
          + \sum_j \log\big(1 + e^{c_j + ((v/s^2) W)_j}\big) - \log Z.

Learning is that of the binary machine, with the gradient of :math:`z = \log s^2` beside the others,

.. math:: \nabla_z \log f = \Big\langle \frac{v^2/2 - v\,(\mu + W h)}{s^2} \Big\rangle, \qquad f = e^{-E},

what adds to the mean of v moved along :math:`s^2` times its gradient, and the whole gradient cut to a norm.  Besides
the binary machine's chains there is ``langevin``: from noise, never from the data (`_langevin`).

Columns should have mean 0 and variance 1, which the data's own scale sees to.  Columns that never change have no
density and are left out; other missing cells must be filled in first.

Traps: too high a rate makes variances run away; a density has no largest value, so that a column
which the features explain, or a picture's constant border, is worth the more the less `least_variance` allows;
pictures of 256 levels are no densities at all below the distance of two levels.

References: Welling, Rosen-Zvi & Hinton, *Exponential Family Harmoniums*, 2005; Hinton, *A Practical Guide to Training
Restricted Boltzmann Machines*, 2010; Cho, Ilin & Raiko, *Improved Learning of Gaussian-Bernoulli Restricted Boltzmann
Machines*, 2011; Liao, Kornblith, Ren, Fleet & Hinton, *Gaussian-Bernoulli RBMs Without Tears*, 2022.
"""

from __future__ import annotations

import jax
from jaxtyping import Array

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.undirected import _learning as learning
from reverie.models.undirected._chains import Fast, RealChain, Tempering
from reverie.models.undirected._langevin import Langevin
from reverie.models.undirected._learning import Schedule, Select, Sparsity
from reverie.models.undirected.rbm import RBM, posterior
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Improved Learning of Gaussian-Bernoulli Restricted Boltzmann Machines",
    authors="KyungHyun Cho, Alexander Ilin and Tapani Raiko",
    year=2011,
    venue="ICANN",
    bibtex="""@inproceedings{cho2011improved,
  title = {Improved Learning of {G}aussian-{B}ernoulli Restricted {B}oltzmann Machines},
  author = {Cho, KyungHyun and Ilin, Alexander and Raiko, Tapani},
  booktitle = {International Conference on Artificial Neural Networks},
  pages = {10--17},
  year = {2011}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("real",)

PRESETS = {
    "fast": {"epochs": 100},
    "langevin": {"chain": "langevin", "sweeps": 100, "schedule": "cosine", "momentum": {"start": 0.0, "end": 0.0},
                 "epochs": 100},
    "digits": {"hidden": 20, "batch": 50, "epochs": 300},
}  # fmt: skip

TINY = {"hidden": 12, "batch": 50, "epochs": 40}

BATTERY = {"likelihood": "gaussian"}

CLAIMS: tuple[Claim, ...] = ()

#: No variance may fall below this: its inverse would leave float32 no digits.
_LEAST = 1e-8


class GaussianRBM(RBM):
    """Real visible units of learnt variance, hidden binary units; see the module's page."""

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the weights and hidden biases of a network that sees v itself: W divided by the variances."""
        return ((jax.vmap(self.visible.statistic, 1, 1)(self.weights[0]), self.biases[1]),)


def recipe(
    brief: Brief,
    *,
    hidden: int = 100,
    learn_variance: bool = True,
    least_variance: float = learning.LEAST,
    chain: RealChain = "pcd",
    sweeps: int = 1,
    grow: float = 0.0,
    chains: int = 100,
    tempering: Tempering = Tempering(),
    fast: Fast = Fast(),
    langevin: Langevin = Langevin(),
    centred: bool = True,
    decay: float = 2e-4,
    sparsity: Sparsity = Sparsity(),
    scale: float = 0.1,
    batch: int = 100,
    rate: float = 0.03,
    schedule: Schedule = "linear",
    momentum: Momentum = Momentum(),
    clip: float = 10.0,
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[GaussianRBM, Recipe]:
    """Return an untrained machine and how to train it.

    Args:
        hidden: hidden units (F).
        learn_variance: learn a variance for each column; without, all are 1 (the scale of the training rows).
        least_variance: below which none falls, in units of the training rows' own.
        chain: where the model's averages come from: ``cd`` starts at the data, ``pcd`` goes on from step to step,
            ``fpcd`` is driven by fast weights, ``pt`` swaps among replicas, ``tempered`` is heated now and then,
            ``langevin`` walks from noise.
        sweeps: Gibbs (or Gibbs-Langevin) sweeps a step (k).
        grow: epochs after which a step takes one sweep more; 0 is never.
        chains: persistent chains, or those from noise.
        tempering: temperatures of ``pt`` and ``tempered``.
        fast: fast weights of ``fpcd``.
        langevin: steps of ``langevin``.
        centred: centre the gradient.
        decay: of the weights, not the biases or variances.
        sparsity: hidden units that are seldom on.
        scale: standard deviation of the first weights, in units of the columns'.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs; ``inverse`` obeys Robbins and Monro.
        momentum: of the steps.
        clip: largest norm of a gradient; 0 is any.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    learning.real_rows(brief.data, "a gaussian-rbm")
    if not least_variance >= _LEAST:
        raise ReverieError(f"least_variance: {least_variance:g} is too little; give {_LEAST:g} or more")
    how = learning.Learning(
        chain, sweeps, grow, chains, tempering, fast, centred, decay, sparsity, batch, rate, schedule, momentum, clip,
        select, valid_every, langevin, () if learn_variance else ("visible.log_variance",),
    )  # fmt: skip
    how.check((hidden,))
    visible = learning.real_units(brief.data, *((least_variance, True) if learn_variance else (0.0, False)))
    model = learning.untrained(brief, GaussianRBM, (hidden,), visible, scale)
    return model, learning.machine(brief, model, posterior, how)
