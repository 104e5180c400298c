r"""Ladder network: classes told from few labelled rows, and features learnt by taking noise away from all.

.. math:: \tilde z^l = \mathrm{BN}(\tilde h^{l-1} W_l) + n^l, \qquad \tilde h^l = \max(0, \tilde z^l + \beta_l), \qquad
          \tilde h^L = \mathrm{softmax}(\gamma(\tilde z^L + \beta_L)), \qquad n^l \sim \mathcal N(0, \sigma^2 I),

from :math:`\tilde z^0 = x + n^0`; the clean way up, with h and z, is the same without noise.  Down again, with
:math:`u^L = \mathrm{BN}(\tilde h^L)` and :math:`u^l = \mathrm{BN}(\hat z^{l+1} V_{l+1})`,

.. math:: \hat z^l = g_l(\tilde z^l, u^l), \qquad C = -\log \tilde h^L_y + \sum_l \frac{\lambda_l}{d_l}
          \Big\lVert z^l - \frac{\hat z^l - m^l}{s^l} \Big\rVert^2,

m and s being the batch's mean and deviation that the clean layer was normalised by.  What a layer is denoised with
comes beside it, so that upper layers need not keep the details that a plain autoencoder's must, and may be as free of
them as classes are.  The first term is of labelled rows, the others of all training rows; both halves of a batch have
statistics of their own.  Rows are told by the clean way up, with statistics of all training rows.

With :math:`\lambda = 0` it is a supervised net with noise, the control.  A lambda of the input and none above is what
the paper calls bottom, of the top alone its Gamma model.

Traps: batch statistics over both halves together leak from one into the other; the clean layer is no constant to
gradients; validation rows are labelled too, so weights are not chosen by them unless asked for (``select``).  It is no
model of the rows: lateral connections leave the decoder no code to generate from.

References: Rasmus, Valpola, Honkala, Berglund & Raiko, *Semi-Supervised Learning with Ladder Networks*, 2015, and its
code; Valpola, *From Neural PCA to Deep Unsupervised Learning*, 2015.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.data.order import batch_indices
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.classification import balanced
from reverie.evaluate.task import validator
from reverie.models.conditional._ladder import Ladder, untrained
from reverie.train.draws import Feed
from reverie.train.optimise import Adam
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Draw, Player, Recipe
from reverie.train.statistics import exact_statistics

PAPER = Paper(
    title="Semi-Supervised Learning with Ladder Networks",
    authors="Antti Rasmus, Harri Valpola, Mikko Honkala, Mathias Berglund and Tapani Raiko",
    year=2015,
    venue="NIPS 28",
    bibtex="""@inproceedings{rasmus2015semi,
  title = {Semi-Supervised Learning with Ladder Networks},
  author = {Rasmus, Antti and Valpola, Harri and Honkala, Mikko and Berglund, Mathias and Raiko, Tapani},
  booktitle = {Advances in Neural Information Processing Systems 28},
  year = {2015}
}""",
)

_MNIST = {"hidden": (1000, 500, 250, 250, 250), "epochs": 150}
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 30},
    "full": {**_MNIST, "costs": (1000.0, 10.0, 0.1)},
    "bottom": {**_MNIST, "costs": (5000.0, 0.0)},
    "gamma": {**_MNIST, "costs": (0.0,), "top_cost": 0.5},
    "supervised": {**_MNIST, "costs": (0.0,), "noise": 0.5},
    "digits": {"hidden": (100, 50), "labels": 50, "rate": 5e-3, "epochs": 100},
}

TINY = {"hidden": (40,), "epochs": 20, "batch": 50, "rate": 5e-3}

#: The paper's errors were not read in a source, so no number of ours stands beside one.
CLAIMS: tuple[Claim, ...] = ()
#: Added to the seed of the order in which labelled rows are met.
_ORDER = 0x9E3779B9


def drawing(data: Dataset, batch: int, labels: int | None, seed: int) -> Draw:
    """Return the draw of a batch of training rows, ``x``, and one of labelled rows, ``taught`` with classes ``given``.

    Labelled rows are met in a shuffled order of their own, few of them more than once a batch, and are among the
    others too.
    """
    y = data.labels("train")
    # A model that is opened without its data draws nothing.
    few = None if labels is None or y is None else jnp.asarray(balanced(np.asarray(y), labels, seed), jnp.int32)
    classes = data.classes

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        first, second = jax.random.split(key)
        stored, _, index = feed.rows(step, batch)
        size = feed.source.size if few is None else len(few)
        # Another order than that of all rows, which may be the same ones.
        taught = batch_indices(feed.seed + jnp.uint32(_ORDER), step, batch, size)
        shown, y = feed.source.take(taught if few is None else few[taught])
        given, prepare = jax.nn.one_hot(y, classes), feed.source.prepare
        return {
            "x": prepare(first, stored), "taught": prepare(second, shown), "given": given, "index": index, "step": step
        }, carry  # fmt: skip

    return draw


def objective(noise: float) -> Any:
    """Return the cross-entropy of labelled rows told through the noise plus the costs of denoising the others."""

    def found(model: Ladder, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        taught, rows = batch["taught"], batch["x"]
        passes = jnp.stack([taught, rows, rows] if model.rungs else [taught])
        added = noise * jax.random.normal(key, (*passes.shape[:2], sum(model.units)), passes.dtype)
        added = added.at[2].set(0.0) if model.rungs else added
        up = model.up(passes, added if noise else None)
        told = _told(up.logits[0], batch["given"])
        if not model.rungs:
            return told, carry, {"cross_entropy": told}
        costs = sum(model.denoising_costs(up.of(2), up.of(1)), start=jnp.zeros(()))
        return told + costs, carry, {"cross_entropy": told, "denoising": costs}

    return found


def _told(logits: Array, given: Array) -> Array:
    return -(jax.nn.log_softmax(logits) * given).sum(axis=1).mean()


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
    costs: tuple[float, ...] = (1000.0, 10.0, 0.1),
    top_cost: float | None = None,
    combinator: Literal["gauss", "sig"] = "gauss",
    noise: float = 0.3,
    labels: int | None = None,
    labels_seed: int = 0,
    batch: int = 100,
    rate: float = 2e-3,
    schedule: Literal["constant", "linear", "cosine", "ladder"] = "ladder",
    select: Literal["best", "last", "average"] = "last",
    valid_every: float | None = None,
) -> tuple[Ladder, Recipe]:
    """Return an untrained ladder network and how to train it.

    Args:
        hidden: widths of the layers of rectified units, from the data upwards; the classes' is added.
        costs: of denoising the input, the first layer and so on, each divided by its width; the last goes for all
            above.
        top_cost: of the classes' layer, where it is another.
        combinator: the denoising functions, normal ones or the sigmoid ones with products.
        noise: standard deviation of the noise of the input and of every layer.
        labels: learn the classes of so many rows alone, as many of each class (default: all).
        labels_seed: of which these are.
        batch: labelled rows per step, and as many of all training rows, of which noise is taken away.
        rate: learning rate of Adam.
        schedule: how it falls over the planned epochs (``ladder``: to nothing in their last third).
        select: which weights count: last, best on validation (whose rows are labelled), or an exponential average.
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    data = brief.data
    _check(data, hidden, costs, top_cost, noise)
    for name, value in (("batch", batch), ("rate", rate)):
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    widths = (data.width, *hidden, data.classes)
    each = [costs[min(number, len(costs) - 1)] for number in range(len(widths))]
    each[-1] = each[-1] if top_cost is None else top_cost
    model = untrained(brief.key, widths, tuple(each), combinator)
    return model, Recipe(
        draw=drawing(data, batch, labels, labels_seed),
        players=(Player(Adam()(falling(schedule, rate, brief.steps(batch))), objective(noise), moves=model.moves),),
        batch=batch,
        select=select,
        validate=validator(),
        valid_every=brief.valid_every(valid_every),
        finish=exact_statistics,
    )


def _check(
    data: Dataset, hidden: tuple[int, ...], costs: tuple[float, ...], top: float | None, noise: float
) -> None:  # fmt: skip
    if not data.classes:
        raise ReverieError(f"{data.name}: has no classes to be told apart; give data with labels (`reverie data`)")
    if data.likelihood not in ("bernoulli", "gaussian"):
        raise ReverieError(
            f"likelihood: a ladder takes pixels or real values, not {data.likelihood}; give --likelihood gaussian"
        )
    if data.missing and not data.whole:
        raise ReverieError(f"{data.name}: a ladder takes no missing cells; fill them in first (`reverie impute`)")
    if not hidden or min(hidden) < 1:
        raise ReverieError(f"hidden: {hidden} are no widths; give one or more, such as 500,250")
    if not costs or min((*costs, top or 0.0)) < 0:
        raise ReverieError(f"costs: {(*costs, *(() if top is None else (top,)))} are no costs; give 0 or more, such as "
                           "1000,10,0.1")  # fmt: skip
    if len(costs) > len(hidden) + 2:
        raise ReverieError(f"costs: {len(costs)} of {len(hidden) + 2} layers, input and classes among them")
    if noise < 0:
        raise ReverieError(f"noise: {noise:g} is no standard deviation; give 0 or more")
