r"""Importance weighted autoencoder: the VAE's nets, trained on a tighter bound.

With k samples :math:`h_i \sim q(h \mid x)` and weights :math:`w_i = p(x, h_i)/q(h_i \mid x)`,

.. math:: \mathcal L_k(x) = \mathbb E\Big[\log \tfrac1k \sum_{i=1}^k w_i\Big], \qquad
          \mathcal L_1 \le \mathcal L_k \le \mathcal L_{k+1} \le \log p(x),

and :math:`\nabla \mathcal L_k = \mathbb E[\sum_i \tilde w_i \nabla \log w_i]` with
:math:`\tilde w_i = w_i / \sum_j w_j`.  Other ways to its gradient are surrogates of the same bound: ``one-backward``
draws one i from :math:`\tilde w` and goes back through that sample alone (unbiased, more variance); ``stl`` drops the
score of q (unbiased for k = 1 alone); ``dreg`` gives the encoder
:math:`\sum_i \tilde w_i^2\, \partial \log w_i/\partial h_i\; \partial h_i/\partial \phi` (unbiased, and its
signal-to-noise does not decay with k).  ``elbo`` with k samples is the VAE column of the paper's table.

Traps: the ELBO of an IWAE gets worse as k grows, so weights are selected by the importance-sampled log-likelihood.

References: Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, 2016; Roeder, Wu & Duvenaud, *Sticking
the Landing*, 2017; Tucker et al., *Doubly Reparameterized Gradient Estimators*, 2019.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from reverie.evaluate.claims import Claim, Paper
from reverie.models.directed import vae
from reverie.models.directed.vae import VAE, Schedule, Surrogate
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Importance Weighted Autoencoders",
    authors="Yuri Burda, Roger Grosse and Ruslan Salakhutdinov",
    year=2016,
    venue="ICLR",
    bibtex="""@inproceedings{burda2016importance,
  title = {Importance Weighted Autoencoders},
  author = {Burda, Yuri and Grosse, Roger and Salakhutdinov, Ruslan},
  booktitle = {International Conference on Learning Representations},
  year = {2016},
  note = {arXiv:1509.00519}
}""",
)

PRESETS = {**vae.PRESETS}

TINY = {**vae.TINY, "k": 3}

_ONE, _TWO = {"latent": (50,), "hidden": ((200, 200),)}, {"latent": (100, 50), "hidden": ((200, 200), (100, 100))}


def _claim(layers: int, k: int, kind: str, published: float, active: str) -> Claim:
    settings = {**(_ONE if layers == 1 else _TWO), "k": k, "surrogate": "elbo" if kind == "VAE" else "iwae"}
    few = {"estimator": "importance", "samples": 50, "rows": 200}
    # Fewer updates than the paper's 9.8 million: larger steps, averaged weights and, where the bound allows it
    # without bias, the gradient estimator of less variance (docs/experiments.md).
    quiet = {(1, "VAE"): "stl", (5, "IWAE"): "dreg", (50, "IWAE"): "dreg"}.get((k, kind), "elbo")
    fast = {
        "batch": 100,
        "rate": 3e-3 if layers == 1 else 2e-3,
        "schedule": "cosine",
        "select": "average",
        "valid_every": 40.0,
        "surrogate": quiet,
        "adam": {},
    }
    return Claim(
        table="iwae",
        row=f"{kind}, {layers} layer{'s' * (layers > 1)}, k={k}",
        column="mnist",
        published=published,
        source="deck",
        data="mnist",
        split_rule="iwae",
        binarisation="dynamic",
        settings={**settings, "batch": 20, "schedule": "iwae", "select": "last",
                  "adam": {"epsilon": 5e-6, "momentum": 0.99, "second_moment": 0.0025}},
        epochs=3280,
        evaluation={"estimator": "importance", "samples": 5000},
        budgets={
            "smoke": {**fast, "epochs": 1, "evaluation": few},
            "cpu": {**fast, "epochs": 1500 if (layers, k) == (1, 1) else 400},
            "paper": {},
        },
        beside={"active units": active},
    )  # fmt: skip


def _swap(start: Claim, row: str, published: float, active: str, **other: object) -> Claim:
    """Return the row that goes on from another row's weights and Adam state as the other objective (3^7 epochs)."""
    going_on = {**start.settings, "schedule": "constant", "rate": 1e-4, **other}
    budgets = {name: {**over, **other, "schedule": "constant", "rate": 1e-4} for name, over in start.budgets.items()}
    budgets["cpu"]["epochs"] = 100
    budgets["paper"] = {}
    return replace(start, row=row, published=published, settings=going_on, epochs=2187, budgets=budgets,
                   beside={"active units": active}, init_from=start.row)  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _claim(1, 1, "VAE", -86.76, "19"),
    _claim(2, 1, "VAE", -85.33, "16+5"),
    _claim(1, 5, "VAE", -86.47, "20"),
    _claim(1, 5, "IWAE", -85.54, "22"),
    _claim(2, 5, "VAE", -85.01, "17+5"),
    _claim(2, 5, "IWAE", -83.89, "21+5"),
    _claim(1, 50, "VAE", -86.35, "20"),
    _claim(1, 50, "IWAE", -84.78, "25"),
    _claim(2, 50, "VAE", -84.78, "17+5"),
    _claim(2, 50, "IWAE", -82.90, "26+7"),
    replace(
        _claim(2, 50, "IWAE", -82.90, "26+7"),
        table="density",
        row="IWAE-50, 2 layers",
        run_of=("iwae", "IWAE, 2 layers, k=50"),
    ),
    _swap(_claim(1, 1, "VAE", -86.76, "19"), "VAE, then IWAE k=50", -84.88, "22", surrogate="iwae", k=50),
    _swap(_claim(1, 50, "IWAE", -84.78, "25"), "IWAE k=50, then VAE", -86.02, "23", surrogate="elbo", k=1),
)


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (50,),
    hidden: tuple[tuple[int, ...], ...] = ((200, 200),),
    conv: tuple[int, ...] = (),
    activation: Literal["tanh", "relu", "softplus", "silu"] = "tanh",
    norm: bool = False,
    conditional: bool = False,
    surrogate: Surrogate = "iwae",
    k: int = 5,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Schedule = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[VAE, Recipe]:
    """Return an untrained chain of Gaussian layers and how to train it on the k-sample bound.

    Args:
        latent: widths of the stochastic layers, from the data upwards.
        hidden: widths of the deterministic layers below each stochastic one (mirrored in the decoder).
        conv: channels of rectified convolutions next to the image, from the image upwards, each halving its sides
            (mirrored in the decoder; default: none).
        activation: of the deterministic layers.
        norm: batch-normalise the deterministic layers (statistics are exact and frozen in every evaluation).
        conditional: model p(x | class); the data must have classes.
        surrogate: which gradient of the bound.
        k: samples of h per row.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    return vae.recipe(
        brief, latent=latent, hidden=hidden, conv=conv, activation=activation, norm=norm, conditional=conditional,
        surrogate=surrogate, k=k, batch=batch, rate=rate, schedule=schedule, adam=adam, select=select,
        valid_every=valid_every, valid_samples=valid_samples,
    )  # fmt: skip
