r"""Variational autoencoder with any number of stochastic layers.

A decoder (P-net) :math:`p(x, h) = p(h^L) \prod_l p(h^l \mid h^{l+1})\, p(x \mid h^1)` with
:math:`h^L \sim \mathcal N(0, I)` is trained together with an encoder (Q-net)
:math:`q(h \mid x) = \prod_l q(h^l \mid h^{l-1})` by ascending the evidence lower bound

.. math:: \mathcal L(x) = \mathbb E_q[\log w], \quad w = \frac{p(x, h)}{q(h \mid x)}, \qquad
          \mathcal L(x) = \log p(x) - \mathrm{KL}(q(h \mid x)\,\|\,p(h \mid x)),

through the reparameterisation :math:`h^l = \mu_l(h^{l-1}) + \sigma_l(h^{l-1})\,\epsilon^l`.  Every conditional is a
diagonal Gaussian computed by a small network, except :math:`p(x \mid h^1)`, which is the law of the data
(Bernoulli, categorical or Gaussian columns).  Missing cells are left out of the likelihood: the bound is then on the
observed cells.

With `beta` other than 1, or during `warmup`, what is ascended is
:math:`\mathbb E_q[\log p(x \mid h)] - \beta\,\mathrm{KL}`: the journal then calls it an objective and logs the ELBO
beside it.

With `conv` the network next to the image is of convolutions: rectified ones of 4 x 4 pixels with stride 2 on the way
up, and their mirror on the way down, a rectified linear layer and then enlargements, each with a convolution of 3 x 3
(the convolution-deconvolution VAE that alignDRAW was compared with; here it is told no caption).  Any size comes back
as it was, grey or in colour.

Traps: the upper layers of a deep chain collapse onto their prior (see the active units in the report); the analytic
KL exists for one layer alone; numbers on dynamically and fixedly binarised digits are two nats apart.

References: Kingma & Welling, *Auto-Encoding Variational Bayes*, 2014; Rezende, Mohamed & Wierstra, *Stochastic
Backpropagation*, 2014; Mansimov, Parisotto, Ba & Salakhutdinov, *Generating Images from Captions with Attention*, 2016
(the convolution-deconvolution baseline).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from reverie.evaluate.claims import PRIOR_DRAWS, Claim, Paper, on_frey_faces, on_toronto_faces
from reverie.models.directed._gaussian import LayeredGaussian, build
from reverie.models.directed._training import directed_recipe
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

Surrogate = Literal["elbo", "elbo-analytic", "iwae", "one-backward", "stl", "dreg"]
Schedule = Literal["constant", "cosine", "steps", "iwae", "mem"]

PAPER = Paper(
    title="Auto-Encoding Variational Bayes",
    authors="Diederik P. Kingma and Max Welling",
    year=2014,
    venue="ICLR",
    bibtex="""@inproceedings{kingma2014autoencoding,
  title = {Auto-Encoding Variational {B}ayes},
  author = {Kingma, Diederik P. and Welling, Max},
  booktitle = {International Conference on Learning Representations},
  year = {2014},
  note = {arXiv:1312.6114}
}""",
)

PRESETS = {
    "fast": {"epochs": 100},
    "paper": {"epochs": 3280, "batch": 20, "schedule": "iwae", "select": "last",
              "adam": {"epsilon": 5e-6, "momentum": 0.99, "second_moment": 0.0025}},
    "one-layer": {"latent": (50,), "hidden": ((200, 200),)},
    "two-layer": {"latent": (100, 50), "hidden": ((200, 200), (100, 100))},
    "conv": {"conv": (16, 32), "latent": (20,), "hidden": ((),), "epochs": 100},
    "digits": {"latent": (16,), "hidden": ((100, 100),), "batch": 50, "schedule": "steps", "epochs": 300},
}  # fmt: skip

#: Of the generative auto encoder's slides: VAEs of its widths, by draws from the prior.
_FEW = {"estimator": "prior", "samples": 100, "rows": 200}
_DRAWS: tuple[Claim, ...] = tuple(
    Claim(
        table="gae", row=f"VAE, {n} layer{'s' * (n > 1)}", column="mnist", published=published, source="deck",
        kind="estimate", data="binarized-mnist", epochs=None,
        settings={"latent": (50,), "hidden": ((500,) * n,), "activation": "relu"},
        evaluation={"estimator": "prior", "samples": 10_000}, notes=("prior-draws",), beside={"importance": ""},
        budgets={
            "smoke": {"latent": (5,), "hidden": ((30,) * n,), "epochs": 0.1, "valid_samples": 2, "evaluation": _FEW},
            "cpu": {"epochs": 60, "valid_every": 10.0, "latent": (10 if n == 1 else 8,), "evaluation": PRIOR_DRAWS},
            "paper": {},
        },
    )
    for n, published in enumerate((-107.18, -96.94, -97.62, -102.97), 1)
)  # fmt: skip
#: The slides do not say how many layers this one has; ours has one, and windows are around the means of grey pixels.
_WINDOWS = dataclasses.replace(
    _DRAWS[0], table="parzen", row="VAE", published=296.77, metric="parzen", data="mnist", binarisation="dynamic",
    evaluation={"estimator": "parzen", "samples": 10_000}, beside={}, notes=("windows", "gae-windows"),
    budgets={**_DRAWS[0].budgets,
             "smoke": {**_DRAWS[0].budgets["smoke"], "evaluation": {**_FEW, "estimator": "parzen"}},
             "cpu": {"epochs": 60, "valid_every": 10.0, "latent": (10,)}},
)  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    *_DRAWS,
    _WINDOWS,
    on_toronto_faces(_WINDOWS, 2572.59, "deck", "gae-windows"),
    on_frey_faces(_WINDOWS, epochs=600),
)

TINY = {"latent": (4,), "hidden": ((16,),), "batch": 20, "epochs": 30, "rate": 5e-3, "valid_samples": 10}


class VAE(LayeredGaussian):
    """A chain of Gaussian layers; see the module's page."""


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (50,),
    hidden: tuple[tuple[int, ...], ...] = ((200, 200),),
    conv: tuple[int, ...] = (),
    activation: Literal["tanh", "relu", "softplus", "silu"] = "tanh",
    norm: bool = False,
    conditional: bool = False,
    surrogate: Surrogate = "elbo",
    k: int = 1,
    beta: float = 1.0,
    warmup: float = 0.0,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Schedule = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[VAE, Recipe]:
    """Return an untrained VAE and how to train it.

    Args:
        latent: widths of the stochastic layers, from the data upwards.
        hidden: widths of the deterministic layers below each stochastic one (mirrored in the decoder).
        conv: channels of rectified convolutions next to the image, from the image upwards, each halving its sides
            (mirrored in the decoder; default: none).
        activation: of the deterministic layers.
        norm: batch-normalise the deterministic layers (statistics are exact and frozen in every evaluation).
        conditional: model p(x | class); the data must have classes.
        surrogate: what is ascended.
        k: samples of h per row.
        beta: weight of the KL term.
        warmup: epochs over which that weight grows from 0.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    model = build(VAE, brief.key, brief.data, latent, hidden, activation, norm, 1.0, conditional, conv)
    return model, directed_recipe(  # type: ignore[return-value]
        brief, conditional=conditional, surrogate=surrogate, k=k, beta=beta, warmup=warmup, batch=batch, rate=rate,
        schedule_name=schedule, adam=adam, select=select, valid_every=valid_every, valid_samples=valid_samples,
        norm=norm,
    )  # fmt: skip
