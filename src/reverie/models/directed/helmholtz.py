r"""Helmholtz machine: layers of binary units that generate, and others that recognise, taught by wake and sleep.

Layers in both directions, to any depth, above x = h^0; as sigmoid belief nets

.. math::

    p(x, h) = p(h^L)\,\prod_{l=1}^{L} p(h^{l-1} \mid h^l), \qquad
    p(h^{l-1}_j = 1 \mid h^l) = \sigma\big(W^l_j h^l + b^l_j\big), \quad p(h^L_j = 1) = \sigma(b_j), \qquad
    q(h \mid x) = \prod_{l=1}^{L} q(h^l \mid h^{l-1}), \qquad
    q(h^l_j = 1 \mid h^{l-1}) = \sigma\big(R^l_j h^{l-1} + c^l_j\big),

:math:`p(x \mid h^1)` being the law of the data (Bernoulli, categorical or Gaussian columns).  Any of the conditionals
may hear its own units too, those before each (`_conditionals`): ``darn`` directly, ``nade`` through hidden units, in P
(`p_layers`: from the data upwards, the top last) and in Q (`q_layers`).

Binary units can be drawn but not differentiated, so each way to learn scores draws that it holds fixed
(`prob.score_surrogates`), or goes back through something else (`prob.relaxed_surrogates`):

``wake-sleep``
    Wake: x goes up through q, and p ascends :math:`\log p(x, h)`, by the delta rule
    :math:`(h^{l-1} - \sigma(W^l h^l + b^l))\,h^{l\top}`.  Sleep: p dreams (x, h), and q ascends
    :math:`\log q(h \mid x)`.
``rws``
    Reweighted wake-sleep: k draws of q, weighed by :math:`\tilde w_i \propto p(x, h_i)/q(h_i \mid x)`, teach p and
    (wake) q; dreams teach q too (sleep).  The bias to :math:`\nabla \log p(x)` falls as 1/k.
``vimco``
    p and q ascend the same k-sample bound, each draw praised by what it added to it: no bias, more variance.
``score``
    p and q ascend the evidence lower bound; q by the score function, each draw praised by its log-weight less a
    baseline (`baseline`): no bias, and a variance that depends on the baseline.
``concrete``, ``straight-through``
    Units relaxed to numbers between 0 and 1, whose bound is of another model; or drawn as they are and differentiated
    as if they were their means.  Biased, both; here to be compared.

Draws of `infer` are boolean by type: nothing can go back through them, and Hamiltonian moves (`evaluate --estimator
ais`) are refused.  The likelihood is told as importance sampling's lower bound, for which the papers take 100,000
samples.

Binary layers start sparse (`bias`, of P and Q alike): where every unit is on half of the time at first, upper layers
hear noise, are learnt to be ignored, and stay so.

Traps: wake and sleep need not descend one function, and early on dreams look like no data; q learns from dreams, which
have no missing cells.  Published numbers are of Larochelle & Murray's fixed binarisation of MNIST, about 2 nats apart
from pixels drawn afresh.

References: Hinton, Dayan, Frey & Neal, *The "Wake-Sleep" Algorithm for Unsupervised Neural Networks*, Science 1995;
Dayan, Hinton, Neal & Zemel, *The Helmholtz Machine*, 1995; Bornschein & Bengio, *Reweighted Wake-Sleep*, ICLR 2015;
Mnih & Gregor, *Neural Variational Inference and Learning in Belief Networks*, ICML 2014; Mnih & Rezende, *Variational
Inference for Monte Carlo Objectives*, ICML 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.directed._binary import Helmholtz, untrained
from reverie.models.directed._conditionals import LayerKind
from reverie.models.directed._training import directed_recipe
from reverie.prob.relaxed_surrogates import RELAXED, concrete
from reverie.prob.score_surrogates import SCORED, Baseline, QUpdates, rws, score
from reverie.prob.surrogates import Running, Surrogate
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="The ``Wake-Sleep'' Algorithm for Unsupervised Neural Networks",
    authors="Geoffrey E. Hinton, Peter Dayan, Brendan J. Frey and Radford M. Neal",
    year=1995,
    venue="Science",
    bibtex="""@article{hinton1995wakesleep,
  title = {The ``Wake-Sleep'' Algorithm for Unsupervised Neural Networks},
  author = {Hinton, Geoffrey E. and Dayan, Peter and Frey, Brendan J. and Neal, Radford M.},
  journal = {Science},
  year = {1995},
  volume = {268},
  number = {5214},
  pages = {1158--1161}
}""",
)

PRESETS = {
    "fast": {"epochs": 50},
    "digits": {"latent": (100, 50), "batch": 50, "rate": 2e-2, "schedule": "steps", "epochs": 200},
}  # fmt: skip

TINY = {"latent": (16, 8), "k": 5, "batch": 20, "epochs": 30, "rate": 1e-2, "valid_samples": 10}

#: Hidden units of the input-dependent baseline.
_FORECAST = 100

#: Layers of the deck's row, from the data upwards.
_DEEP = (400, 300, 200, 100, 10)


def _claim(row: str, column: str, data: str, published: float, how: dict[str, Any], cpu: dict[str, Any]) -> Claim:
    letters = data == "ocr-letters"
    few = {"estimator": "importance", "samples": 50, "rows": 200}
    return Claim(
        table="density", row=row, column=column, published=published, source="deck", kind="estimate", data=data,
        split_rule="file" if letters else None, binarisation="as-is",
        settings={**how, "surrogate": "rws", "k": 5 if letters else 10, "batch": 100}, epochs=None,
        evaluation={"estimator": "importance", "samples": 100_000}, notes=() if letters else ("binarisations",),
        budgets={
            "smoke": {"latent": (30, 10), "epochs": 0.2, "valid_samples": 5, "evaluation": few},
            "cpu": {**cpu, "evaluation": {"estimator": "importance", "samples": 1000}},
            "paper": {"epochs": 500, "valid_every": 5.0},
        },
    )  # fmt: skip


#: Adam, larger steps and fewer samples than the paper's gradient descent.
_FAST: dict[str, Any] = {"k": 5, "batch": 20, "select": "average", "valid_every": 5.0, "valid_samples": 50}
_SBN: dict[str, Any] = {"latent": _DEEP}
_NADE: dict[str, Any] = {"latent": (250,), "p_layers": ("nade",), "q_layers": ("nade",)}
_SPARSE: dict[str, Any] = {**_FAST, "bias": -3.0}
_LETTERS: dict[str, Any] = {**_SPARSE, "epochs": 80, "rate": 2e-2, "adam": {"decay": 0.01}}
CLAIMS: tuple[Claim, ...] = (
    _claim("RWS-SBN", "mnist", "binarized-mnist", -85.48, _SBN, {**_SPARSE, "epochs": 40, "rate": 1e-2}),
    _claim("RWS-SBN", "ocr-letters", "ocr-letters", -29.99, _SBN, _LETTERS),
    _claim("RWS-NADE", "mnist", "binarized-mnist", -85.23, _NADE, {**_FAST, "epochs": 5, "rate": 5e-3}),
    _claim("RWS-NADE", "ocr-letters", "ocr-letters", -26.43, _NADE, {**_FAST, "epochs": 15, "rate": 5e-3}),
)


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (200, 200),
    p_layers: tuple[LayerKind, ...] = ("sbn",),
    q_layers: tuple[LayerKind, ...] = ("sbn",),
    ordering: int = 1,
    bias: float = -2.0,
    surrogate: Literal["wake-sleep", "rws", "vimco", "score", "concrete", "straight-through"] = "rws",
    k: int = 5,
    q_updates: QUpdates = "both",
    baseline: Baseline = "leave-one-out",
    temperature: float = 0.5,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[Helmholtz, Recipe]:
    """Return an untrained Helmholtz machine and how to train it.

    Args:
        latent: widths of the binary layers, from the data upwards.
        p_layers: kinds of the laws of P: one for all, or one each: the cells, the layers above them, the top last.
        q_layers: kinds of the laws of Q: one for all, or one each, from the data upwards.
        ordering: number of the order of cells that hear each other, the same for every seed; 0 is the file's own.
        bias: what the biases of the binary units start at; at -2 about one in eight is on, and the layers above are not
            lost in noise before they are of use.
        surrogate: how it learns.
        k: samples of h per row (vimco, and score by leave-one-out, need two or more).
        q_updates: of rws: whether q learns from its own weighed draws, from dreams, or from both.
        baseline: of score: what a draw's log-weight is compared with: the mean of the row's other draws, a running
            mean over batches, what a net of 100 units expects of the row, or nothing.
        temperature: of concrete: how soft the units are.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    known = ways(surrogate, k, q_updates, baseline, temperature)
    asked = surrogate == "score" and baseline == "input"
    model = untrained(brief, latent, p_layers, q_layers, ordering, _FORECAST if asked else 0, bias)
    return model, directed_recipe(
        brief, conditional=False, surrogate=surrogate, k=k, beta=1.0, warmup=0.0, batch=batch, rate=rate,
        schedule_name=schedule, adam=adam, select=select, valid_every=valid_every, valid_samples=valid_samples,
        norm=False, known=known,
    )  # fmt: skip


def ways(
    surrogate: str, k: int, q_updates: QUpdates = "both", baseline: Baseline = "leave-one-out", temperature: float = 0.5
) -> Mapping[str, Surrogate]:
    """Return how binary layers can learn, as asked.

    Raises:
        ReverieError: for what was asked of another surrogate, or one sample where two are compared.
    """
    of = {"q-updates": ("rws", q_updates, "both"), "baseline": ("score", baseline, "leave-one-out"),
          "temperature": ("concrete", temperature, 0.5)}  # fmt: skip
    for name, (owner, value, default) in of.items():
        if value != default and surrogate != owner:
            raise ReverieError(f"{name}: {surrogate} has no such choice; leave it out, or use --surrogate {owner}")
    if k == 1 and (surrogate == "vimco" or (surrogate, baseline) == ("score", "leave-one-out")):
        raise ReverieError(f"k: {surrogate} compares a row's samples with each other, and 1 is too few; give 2 or more")
    if not temperature > 0:
        raise ReverieError(f"temperature: {temperature} must be positive")
    plain = partial(score, baseline=baseline)
    compared: Surrogate = Running(plain) if baseline == "running-mean" else plain
    return {
        **SCORED,
        **RELAXED,
        "rws": partial(rws, q_updates=q_updates),
        "score": compared,
        "concrete": partial(concrete, temperature=temperature),
    }
