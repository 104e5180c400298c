r"""DARN, the deep autoregressive network: a code of binary units that hear each other, and a decoder that may, too.

An autoencoder whose code and whose cells are said one after the other (the paper's letters):

.. math::

    p(h) = \prod_j \mathrm{Bern}\big(\sigma(U_j h_{<j} + b_j)\big), \qquad
    p(x \mid h) = \prod_i \mathrm{Bern}\big(\sigma(V_i h + U'_i x_{<i} + d_i)\big), \qquad
    q(h \mid x) = \prod_j \mathrm{Bern}\big(\sigma(W_j x + c_j)\big).

The units of the code are drawn one after the other where x is dreamt, and all at once where a row is encoded, so that
training costs matrix products alone.  It is a Helmholtz machine (`helmholtz`) whose layers of P are ``darn`` and of Q
``sbn``: with more widths in `latent` the code has several layers, each autoregressive; `cells` says whether the cells
hear each other.

The authors ascend the description length's gradient, gone through draws as through their means (``straight-through``
is its simplest form, and biased); ``vimco`` and ``rws`` are not, or less the more samples there are, and are the
defaults.  The likelihood is told as importance sampling's lower bound.

Traps: published numbers are importance-sampled and of the fixed binarisation of MNIST; the best of them was trained
with adaptive weight noise, which is not here.  A triangle scored the other way round than it is drawn passes every
test of shapes: draws are compared with the law that scores them.

References: Gregor, Danihelka, Mnih, Blundell & Wierstra, *Deep AutoRegressive Networks*, ICML 2014.
"""

from __future__ import annotations

from typing import Any, Literal

from reverie.evaluate.claims import Claim, Paper
from reverie.models.directed._binary import Helmholtz, untrained
from reverie.models.directed._conditionals import LayerKind
from reverie.models.directed._training import directed_recipe
from reverie.models.directed.helmholtz import ways
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Deep AutoRegressive Networks",
    authors="Karol Gregor, Ivo Danihelka, Andriy Mnih, Charles Blundell and Daan Wierstra",
    year=2014,
    venue="ICML",
    bibtex="""@inproceedings{gregor2014deep,
  title = {Deep AutoRegressive Networks},
  author = {Gregor, Karol and Danihelka, Ivo and Mnih, Andriy and Blundell, Charles and Wierstra, Daan},
  booktitle = {International Conference on Machine Learning},
  year = {2014},
  pages = {1242--1250}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("binary",)

PRESETS = {
    "fast": {"epochs": 50},
    "digits": {"latent": (50,), "batch": 50, "rate": 1e-2, "schedule": "steps", "epochs": 100},
}  # fmt: skip

TINY = {"latent": (16,), "k": 5, "batch": 20, "epochs": 20, "rate": 1e-2, "valid_samples": 10}


def _claim(column: str, data: str, published: float, cpu: dict[str, Any]) -> Claim:
    few = {"estimator": "importance", "samples": 50, "rows": 200}
    return Claim(
        table="density", row="DARN", column=column, published=published, source="deck", kind="estimate", data=data,
        split_rule="file" if data == "ocr-letters" else None, binarisation="as-is",
        settings={"latent": (500,), "k": 5, "batch": 100}, epochs=None,
        evaluation={"estimator": "importance", "samples": 100_000},
        notes=() if data == "ocr-letters" else ("binarisations",),
        budgets={
            "smoke": {"latent": (30,), "epochs": 0.2, "valid_samples": 5, "evaluation": few},
            "cpu": {**cpu, "evaluation": {"estimator": "importance", "samples": 1000}},
            "paper": {"epochs": 500, "valid_every": 5.0},
        },
    )  # fmt: skip


#: Small batches, large steps, averaged weights, and a decay without which it learns rows by heart.
_FAST: dict[str, Any] = {
    "batch": 20, "adam": {"decay": 0.01}, "select": "average", "valid_every": 5.0, "valid_samples": 50,
}  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    _claim("mnist", "binarized-mnist", -84.13, {**_FAST, "epochs": 30, "rate": 1e-2}),
    _claim("ocr-letters", "ocr-letters", -28.17, {**_FAST, "epochs": 100, "rate": 3e-2}),
)


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (500,),
    cells: Literal["darn", "nade", "sbn"] = "darn",
    ordering: int = 1,
    bias: float = -2.0,
    surrogate: Literal["vimco", "rws", "score", "concrete", "straight-through", "wake-sleep"] = "rws",
    k: int = 5,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[Helmholtz, Recipe]:
    """Return an untrained DARN and how to train it.

    Args:
        latent: widths of the layers of the code, from the data upwards.
        cells: how cells depend on each other given the code: on those before, through hidden units, or not at all.
        ordering: number of the order of the cells, the same for every seed; 0 is the file's own.
        bias: what the biases of the binary units start at; at -2 about one in eight is on, and the layers above are not
            lost in noise before they are of use.
        surrogate: how it learns.
        k: samples of h per row (vimco and score need two or more).
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    above: list[LayerKind] = ["darn"] * len(latent)
    model = untrained(brief, latent, (cells, *above), ("sbn",), ordering, bias=bias)
    return model, directed_recipe(
        brief, conditional=False, surrogate=surrogate, k=k, beta=1.0, warmup=0.0, batch=batch, rate=rate,
        schedule_name=schedule, adam=adam, select=select, valid_every=valid_every, valid_samples=valid_samples,
        norm=False, known=ways(surrogate, k),
    )  # fmt: skip
