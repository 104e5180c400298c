r"""Autoencoder: rows through a code and back; plain or deep, denoising, sparse, contractive, stacked.

.. math:: a^0 = \tilde x, \qquad a^l = s(a^{l-1} W_l + c_l), \qquad z = s_z(a^{L-1} W_L + c_L), \qquad
          \tilde a^L = z, \quad \tilde a^{l-1} = s(\tilde a^l V_l + b_{l-1}), \qquad \hat x = \tilde a^0,

with :math:`V_l = W_l^\top` where weights are tied.  Means of pixels are given back by their cross-entropy,
:math:`-\sum_i x_i \log \hat x_i + (1 - x_i) \log(1 - \hat x_i)`, real values by half the squared error.  What keeps a
code from merely copying the row is one of

- few numbers: a linear code of k numbers finds the plane of the first k principal components, and no more;
- noise (Vincent et al. 2010): :math:`\tilde x` is x with cells masked, set to their least or greatest value, or with
  normal noise added, and x is what must come back.  With noise of variance :math:`s^2` the best linear map is Wiener's,
  :math:`\Sigma(\Sigma + s^2 I)^{-1}`; without any limit the best map is
  :math:`\tilde x + s^2 \nabla \log p_s(\tilde x)`;
- seldom being on: :math:`\beta \sum_j \rho \log\frac{\rho}{\hat\rho_j} + (1-\rho) \log\frac{1-\rho}{1-\hat\rho_j}`,
  with :math:`\hat\rho_j` the mean of unit j; or of a linear code only the k largest numbers are kept, and gradients go
  through these alone (Makhzani & Frey 2014);
- standing still (Rifai et al. 2011): :math:`\lambda \lVert \partial z/\partial x \rVert_F^2`, which for one layer of
  sigmoids is :math:`\lambda \sum_j (z_j (1 - z_j))^2 \sum_i W_{ij}^2`.

Layers may first be learnt one by one (``pretrain``), each by an autoencoder of the same kind on what those below make
of clean rows.

It is no model of the rows: it is judged by the squared error of what it gives back, a denoising one by that of what it
makes of corrupted rows, beside the error of these.

Traps: with untied weights a contraction costs nothing, as W shrinks and V grows; the mean over a small batch put into
the divergence is too large by much; units that are left out for good must be kept from it by beginning with more of
them; the squared error of binarised rows is not that of grey ones.

References: Vincent, Larochelle, Lajoie, Bengio & Manzagol, *Stacked Denoising Autoencoders*, 2010; Bengio, Lamblin,
Popovici & Larochelle, *Greedy Layer-Wise Training of Deep Networks*, 2007; Ng, *Sparse Autoencoder*, 2011; Makhzani &
Frey, *k-Sparse Autoencoders*, 2014; Rifai, Vincent, Muller, Glorot & Bengio, *Contractive Auto-Encoders*, 2011.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.reconstructing import _stack as layerwise
from reverie.models.reconstructing._learning import (
    Contraction,
    Schedule,
    Select,
    Sparsity,
    check_numbers,
    objective,
    whole,
)
from reverie.models.reconstructing._net import ENDS, Corruption, Net, UnitsName, check_rows, check_widths, untrained
from reverie.models.reconstructing._stack import How, Stack
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local Denoising "
    "Criterion",
    authors="Pascal Vincent, Hugo Larochelle, Isabelle Lajoie, Yoshua Bengio and Pierre-Antoine Manzagol",
    year=2010,
    venue="JMLR 11",
    bibtex="""@article{vincent2010stacked,
  title = {Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local Denoising
           Criterion},
  author = {Vincent, Pascal and Larochelle, Hugo and Lajoie, Isabelle and Bengio, Yoshua and Manzagol, Pierre-Antoine},
  journal = {Journal of Machine Learning Research},
  volume = {11},
  pages = {3371--3408},
  year = {2010}
}""",
)

_SMALL = {"batch": 50, "rate": 3e-3, "epochs": 100}
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 30},
    "deep": {**_SMALL, "hidden": (64, 32), "code": 10, "units": "tanh", "code_units": "linear", "tied": False},
    "denoising": {**_SMALL, "corruption": {"kind": "masking"}},
    "sparse": {**_SMALL, "code": 128, "sparsity": {"cost": 3.0}},
    "k-sparse": {**_SMALL, "code": 128, "code_units": "linear", "loss": "squared", "sparsity": {"keep": 10}},
    "contractive": {**_SMALL, "contraction": {"cost": 0.1}},
    "stacked": {
        **_SMALL, "hidden": (100,), "code": 50, "pretrain": "dae", "corruption": {"kind": "masking"},
        "stack": {"epochs": 30}, "epochs": 50,
    },
}  # fmt: skip

TINY = {"hidden": (24,), "code": 6, "pretrain": "dae", "corruption": {"kind": "masking"}, "stack": {"epochs": 2},
        "batch": 50, "epochs": 20, "rate": 5e-3}  # fmt: skip


def _error(column: str, **more: Any) -> Claim:
    """Return a row of the lecture's tables that they lack: denoising layers, then taught the classes."""
    return Claim(
        table="recognition", row="stacked denoising autoencoder", column=column, published=None, source=None,
        data=column, metric="classification_error", epochs=None,
        binarisation="means" if column == "mnist" else None, evaluation={"epochs": 30, "refit": True},
        settings={"hidden": (1000, 1000), "code": 1000, "corruption": {"kind": "masking"}, "pretrain": "dae",
                  "select": "last"},
        budgets={
            "smoke": {"hidden": (30,), "code": 20, "stack": {"epochs": 0.1}, "epochs": 0.2, "valid_every": 100.0,
                      "evaluation": {"epochs": 5, "labels": 300}},
            # The layers are what is taught; all together they need not be learnt to the end.
            "cpu": {"stack": {"epochs": 10}, "epochs": 5,
                    "evaluation": {"epochs": 30, "refit": True, "dropout": 0.5, "input_dropout": 0.2}},
            "paper": {"stack": {"epochs": 100}, "epochs": 100},
        },
        notes=("unread", *more.pop("notes", ())), **more,
    )  # fmt: skip


#: What is known here of the papers' errors of denoising, contractive and k-sparse nets was not read in a source.
CLAIMS: tuple[Claim, ...] = (_error("mnist"), _error("ocr-letters", split_rule="shuffled", notes=("ocr-size",)))


class Autoencoder(Net):
    """Layers up to a code and down again; see the module's page."""


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (),
    code: int = 100,
    units: UnitsName = "sigmoid",
    code_units: UnitsName = "sigmoid",
    tied: bool = True,
    loss: Literal["auto", "cross-entropy", "squared"] = "auto",
    corruption: Corruption = Corruption(),
    sparsity: Sparsity = Sparsity(),
    contraction: Contraction = Contraction(),
    pretrain: How = "none",
    stack: Stack = Stack(),
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Schedule = "cosine",
    select: Select = "best",
    valid_every: float | None = None,
) -> tuple[Autoencoder, Recipe]:
    """Return an untrained autoencoder and how to train it.

    Args:
        hidden: widths of the layers between data and code, from the data upwards; none is one layer, the code.
        code: numbers in the code.
        units: what the hidden layers are made of.
        code_units: what the code is made of.
        tied: the way down has the weights of the way up.
        loss: cross-entropy of means of pixels, squared error of real values; or the squared error of either, given back
            linear.
        corruption: what is done to rows that are to be given back clean.
        sparsity: codes of which few units are on.
        contraction: codes that move little when the row does.
        pretrain: layers first learnt one by one, as plain, denoising (``dae``) or contractive (``cae``) autoencoders,
            or as restricted Boltzmann machines; or not.
        stack: how long they are learnt, and how machines are.
        batch: rows per step.
        rate: learning rate of Adam, of the whole net and of shallow autoencoders.
        schedule: how it falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a thirtieth of the plan).
    """
    data = brief.data
    check_rows(data, "autoencoder")
    check_widths((*hidden, code), 1)
    check_numbers(batch=batch, rate=rate)
    sparsity.check(code, code_units)
    contraction.check()
    stack.check()
    _check_corruption(data, corruption, pretrain, units if hidden else None)
    _check_together(data, loss, code_units, sparsity, contraction)
    _check_pretrain(pretrain, units, code_units, corruption, sparsity, contraction)
    model = untrained(
        brief, Autoencoder, (data.width, *hidden, code), small=pretrain == "rbm", tied=tied,
        real=None if loss == "auto" else loss == "squared", units=units, code_units=code_units, keep=sparsity.keep,
        wide=sparsity.wide, corruption=corruption,
    )  # fmt: skip

    def main() -> Recipe:
        aim = objective(sparsity, contraction, brief.steps(batch))
        return whole(
            brief, aim, jnp.zeros(code) if sparsity.cost else None, batch=batch, rate=rate, schedule=schedule,
            select=select, valid_every=valid_every,
        )  # fmt: skip

    if pretrain == "none":
        return model, main()
    return model, layerwise.stage_of(model, data, pretrain, stack, rate, batch, 0, main, contraction.cost)


def _check_corruption(data: Dataset, corruption: Corruption, pretrain: str, units: str | None) -> None:
    """`units` are those of the layers whose codes a denoising stack corrupts too; None where there are none."""
    corruption.check()
    if corruption.kind != "salt-and-pepper":
        return
    if data.likelihood != "bernoulli":
        raise ReverieError("corruption.kind: real values have no least and greatest; give masking or gaussian")
    if pretrain == "dae" and units is not None and units not in ENDS:
        raise ReverieError(f"corruption.kind: {units} units have no least and greatest value; give masking or gaussian")


def _check_together(
    data: Dataset, loss: str, code_units: str, sparsity: Sparsity, contraction: Contraction
) -> None:  # fmt: skip
    if loss == "cross-entropy" and data.likelihood != "bernoulli":
        raise ReverieError("loss: real values have no cross-entropy; give squared, or leave it out")
    if sparsity.keep and code_units != "linear":
        raise ReverieError(f"sparsity.keep: numbers are kept of a linear code, not of {code_units} units; give "
                           "--code-units linear")  # fmt: skip
    if sparsity.keep and contraction.cost:
        raise ReverieError("sparsity.keep, contraction.cost: two ways to the same end; give one of them")


def _check_pretrain(
    how: str, units: str, code_units: str, corruption: Corruption, sparsity: Sparsity, contraction: Contraction
) -> None:
    if how == "rbm" and (units != "sigmoid" or code_units not in ("sigmoid", "linear")):
        raise ReverieError("pretrain: machines are of sigmoid units, the code's may be linear; give ae in place of rbm")
    if how == "rbm" and sparsity.keep:
        raise ReverieError("pretrain: machines keep all numbers of a code; give ae in place of rbm, or none")
    if how == "dae" and corruption.kind == "none":
        raise ReverieError("pretrain: a denoising stack needs noise; give --corruption.kind masking, or another")
    if how == "cae" and not contraction.cost:
        raise ReverieError("pretrain: a contractive stack needs --contraction.cost, such as 0.1")
