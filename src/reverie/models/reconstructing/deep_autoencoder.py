r"""Deep autoencoder: a row through a narrow code and back, its layers learnt one by one first.

.. math:: a^0 = x, \qquad a^l = \sigma(a^{l-1} W_l + c_l), \qquad z = a^{L-1} W_L + c_L, \qquad
          \tilde a^L = z, \quad \tilde a^{l-1} = \sigma(\tilde a^l V_l + b_{l-1}), \qquad \hat x = \tilde a^0,

the code z being linear and, for rows of real values, :math:`\hat x` too.  It is learnt by the cross-entropy of the
pixels, :math:`-\sum_i x_i \log \hat x_i + (1 - x_i) \log (1 - \hat x_i)`, grey ones as they are, or by half the squared
error of real values.

From random weights a deep narrow net used to learn the mean of the data.  So each pair of layers is first a restricted
Boltzmann machine of its own, on what the layers below make of the data (their means); the top one has real hidden
units of variance one, :math:`z \mid a \sim \mathcal N(a W + c, 1)`.  Unrolled, :math:`V_l = W_l^\top` to begin with,
and both then go their own ways (Hinton & Salakhutdinov 2006).  ``pretrain=ae`` learns each pair of layers as a shallow
autoencoder instead (Bengio et al. 2007); ``pretrain=none`` is the control, which with today's initial weights and Adam
is hard to beat.

It is no model of the rows: it is judged by the squared error of what it gives back, beside principal components as many
as the code has numbers.

Traps: a linear layer needs a rate a hundred times smaller, or it runs away; the squared error of rows that were
binarised is not that of grey ones; a mean over pixels is not a sum.

References: Hinton & Salakhutdinov, *Reducing the Dimensionality of Data with Neural Networks*, 2006; Bengio, Lamblin,
Popovici & Larochelle, *Greedy Layer-Wise Training of Deep Networks*, 2007.
"""

from __future__ import annotations

from typing import Any, Literal

from reverie.evaluate.claims import Claim, Paper
from reverie.models.reconstructing import _stack as layerwise
from reverie.models.reconstructing._learning import Schedule, Select, check_numbers, objective, whole
from reverie.models.reconstructing._net import Net, check_rows, check_widths, untrained
from reverie.models.reconstructing._stack import Stack
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Reducing the Dimensionality of Data with Neural Networks",
    authors="Geoffrey E. Hinton and Ruslan R. Salakhutdinov",
    year=2006,
    venue="Science 313",
    bibtex="""@article{hinton2006reducing,
  title = {Reducing the Dimensionality of Data with Neural Networks},
  author = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  journal = {Science},
  volume = {313},
  number = {5786},
  pages = {504--507},
  year = {2006}
}""",
)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": (1000, 500, 250), "code": 30, "stack": {"epochs": 50}, "epochs": 200, "batch": 100},
    # Mean squared error of a test image 1.04, of ten principal components 1.27; at the rate 1e-3 it is 1.28.
    "digits": {"batch": 50, "stack": {"epochs": 50}, "epochs": 300, "rate": 3e-3},
}

TINY = {"hidden": (24,), "code": 6, "stack": {"epochs": 2}, "batch": 50, "epochs": 30, "rate": 5e-3}


def _error(column: str, published: float, **more: Any) -> Claim:
    """Return a row of the lecture's tables: layers learnt as shallow autoencoders, then taught the classes."""
    stack = {"hidden": (500, 500), "code": 30, "pretrain": "ae", "select": "last"}
    return Claim(
        table="recognition", row="deep autoencoder", column=column, published=published, source="deck", data=column,
        metric="classification_error", settings={**stack, "stack": {"epochs": 50}}, epochs=None,
        binarisation="means" if column == "mnist" else None, evaluation={"epochs": 30, "refit": True},
        budgets={
            "smoke": {"hidden": (30, 30), "code": 5, "stack": {"epochs": 0.1}, "epochs": 0.2, "valid_every": 100.0,
                      "evaluation": {"epochs": 5, "labels": 300}},
            "cpu": {"stack": {"epochs": 10}, "epochs": 20},
            "paper": {"epochs": 100},
        },
        **more,
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _error("mnist", 0.0140),
    _error("ocr-letters", 0.1005, split_rule="shuffled", notes=("ocr-size",)),
)


class DeepAutoencoder(Net):
    """Layers of sigmoids up to a linear code and down again; see the module's page."""


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (128, 64),
    code: int = 10,
    pretrain: Literal["rbm", "ae", "none"] = "rbm",
    stack: Stack = Stack(),
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Schedule = "cosine",
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[DeepAutoencoder, Recipe]:
    """Return an untrained autoencoder and how to train it.

    Args:
        hidden: widths of the layers of sigmoids, from the data upwards.
        code: numbers in the code, which is linear.
        pretrain: layers first learnt one by one, as restricted Boltzmann machines or as shallow autoencoders; or not.
        stack: how they are learnt.
        batch: rows per step.
        rate: learning rate of Adam, of the whole net and of shallow autoencoders.
        schedule: how it falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a thirtieth of the plan).
    """
    check_rows(brief.data, "deep-autoencoder")
    check_widths((*hidden, code), 2)
    stack.check()
    check_numbers(batch=batch, rate=rate)
    model = untrained(brief, DeepAutoencoder, (brief.data.width, *hidden, code), small=pretrain == "rbm")

    def main() -> Recipe:
        return whole(
            brief, objective(), None, batch=batch, rate=rate, schedule=schedule, select=select, valid_every=valid_every
        )

    if pretrain == "none":
        return model, main()
    return model, layerwise.stage_of(model, brief.data, pretrain, stack, rate, batch, 0, main)
