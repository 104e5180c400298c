r"""NADE, the neural autoregressive distribution estimator: an exact likelihood of binary rows.

The cells are said one after the other in a fixed order o, each by a network that has seen those before it, and the
networks share their weights (the paper's letters):

.. math::

    p(x) = \prod_{d=1}^D p(x_{o_d} \mid x_{o_{<d}}), \qquad
    h_d = \sigma\big(W_{\cdot, o_{<d}}\, x_{o_{<d}} + c\big), \qquad
    p(x_{o_d} = 1 \mid x_{o_{<d}}) = \sigma\big(V_{o_d} h_d + b_{o_d}\big).

The field of the hidden units grows by one cell at a time,
:math:`a_{d+1} = a_d + W_{\cdot, o_d} x_{o_d}`, so that a row costs O(HD), and so does a draw.  No bound, no sampling:
what is ascended is log p(x), and that is what `evaluate` tells, of kind ``exact``.

The gradient is written out: with :math:`\delta_d = x_{o_d} - p(x_{o_d} = 1 \mid \cdot)` and going backwards,

.. math::

    \partial V_{o_d} = \delta_d h_d, \qquad \partial W_{\cdot, o_d} = x_{o_d}\, g_{d}, \qquad
    g_{d-1} = g_d + \delta_d V_{o_d} \odot h_d \odot (1 - h_d), \quad g_D = 0,

:math:`g` being the gradient of the field; it is summed over a batch as it goes.  Only every :math:`\sqrt D`-th field is
kept and those between are computed anew.  At 784 cells, 500 units and 100 rows on one busy core, a step took 0.05 s so,
0.11 by automatic differentiation of recomputed chunks of 16 cells, 0.18 by that of one loop over the cells.

The order is drawn from its number and the number of cells alone (`ordering`), the same for every seed of a run, and the
model holds it.  The features of a whole row, :math:`\sigma(Wx + c)`, are its code.

Traps: Larochelle & Murray's binarisation of MNIST is fixed, and about 2 nats apart from pixels drawn afresh; the model
overfits soon, so that validation chooses the weights.  Missing cells cannot be skipped in one order: `orderless-nade`.

References: Larochelle & Murray, *The Neural Autoregressive Distribution Estimator*, AISTATS 2011; Uria, Côté, Gregor,
Murray & Larochelle, *Neural Autoregressive Distribution Estimation*, JMLR 2016.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.explicit import validator
from reverie.models.directed._autoregressive import (
    drawn_order,
    explicit_recipe,
    require_binary,
    require_whole,
)
from reverie.nn.blocks import glorot_uniform
from reverie.nn.laws import base_logits, bernoulli_log_prob
from reverie.prob.contracts import Explicit, Given
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="The Neural Autoregressive Distribution Estimator",
    authors="Hugo Larochelle and Iain Murray",
    year=2011,
    venue="AISTATS",
    bibtex="""@inproceedings{larochelle2011neural,
  title = {The Neural Autoregressive Distribution Estimator},
  author = {Larochelle, Hugo and Murray, Iain},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2011},
  pages = {29--37}
}""",
)

PRESETS = {
    "fast": {"epochs": 30},
    "digits": {"hidden": 100, "batch": 50, "rate": 1e-2, "schedule": "steps", "epochs": 60},
}  # fmt: skip

TINY = {"hidden": 16, "batch": 20, "rate": 1e-2, "epochs": 15}


def _claim(column: str, data: str, published: float, cpu: dict[str, Any]) -> Claim:
    return Claim(
        table="density", row="NADE", column=column, published=published, source="deck", kind="exact", data=data,
        split_rule="file" if data == "ocr-letters" else None, binarisation="as-is", settings={"hidden": 500},
        epochs=None, evaluation={"estimator": "exact"}, notes=() if data == "ocr-letters" else ("binarisations",),
        budgets={
            "smoke": {"hidden": 30, "epochs": 0.2, "evaluation": {"estimator": "exact", "rows": 200}},
            "cpu": cpu,
            "paper": {"epochs": 500, "valid_every": 5.0},
        },
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _claim("mnist", "binarized-mnist", -88.86, {"epochs": 30, "rate": 1e-2, "valid_every": 2.0}),
    _claim("ocr-letters", "ocr-letters", -27.22, {"epochs": 60, "rate": 1e-2, "valid_every": 2.0}),
)


class NADE(Explicit):
    """One order of the cells, one layer of units; see the module's page.

    Attributes:
        weight: W, a row for each cell.
        output: V.
        hidden_bias: c.
        cell_bias: b.
        order: o; the cell that is said first stands first.
    """

    weight: Float[Array, "D H"]
    output: Float[Array, "D H"]
    hidden_bias: Float[Array, " H"]
    cell_bias: Float[Array, " D"]
    order: Int[Array, " D"]

    def batch_logits(self, x: Float[Array, "B D"]) -> Float[Array, "B D"]:
        """Return the logits of p(cell = 1 | cells before it) of several rows, cells in their own places."""
        o = self.order
        said = logits_in_order(self.weight[o], self.output[o], self.hidden_bias, x[:, o])
        return jnp.zeros_like(said).at[:, o].set(said) + self.cell_bias

    def logits(self, x: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return the logits of one row."""
        return self.batch_logits(x[None])[0]

    def log_prob(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(x)`."""
        return bernoulli_log_prob(x, self.logits(x)).sum()

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw the cells in turn; return the row and the probability that each was drawn with."""
        o = self.order

        def cell(a: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            coin, w, v, b = own
            p = jax.nn.sigmoid(jax.nn.sigmoid(a) @ v + b)
            x = jax.random.bernoulli(coin, p).astype(p.dtype)
            return a + x * w, (x, p)

        coins = jax.random.split(key, o.size)
        _, said = jax.lax.scan(cell, self.hidden_bias, (coins, self.weight[o], self.output[o], self.cell_bias[o]))
        x, p = (jnp.zeros_like(one).at[o].set(one) for one in said)
        return x, p

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " H"]:
        r"""Return :math:`\sigma(Wx + c)`, the hidden units once every cell is known."""
        return jax.nn.sigmoid(x @ self.weight + self.hidden_bias)

    def filters(self) -> Float[Array, "H D"]:
        """Return what each hidden unit looks for."""
        return self.weight.T


@jax.custom_vjp
def logits_in_order(
    weight: Float[Array, "D H"], output: Float[Array, "D H"], bias: Float[Array, " H"], x: Float[Array, "B D"]
) -> Float[Array, "B D"]:
    r"""Return :math:`V_d\,\sigma(c + \sum_{i<d} W_i x_i)`, all in the order of the cells; see the module's page."""
    return _forward(weight, output, bias, x)[0]


def _forward(weight: Array, output: Array, bias: Array, x: Array) -> tuple[Array, tuple[Array, ...]]:
    chunks = tuple(_chunked(a) for a in (x.T, weight, output))

    def chunk(a: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        after, said = jax.lax.scan(lambda a, t: (_grown(a, t), jax.nn.sigmoid(a) @ t[2]), a, own)
        return after, (a, said)

    _, (starts, said) = jax.lax.scan(chunk, jnp.broadcast_to(bias, (len(x), bias.size)), chunks)
    return said.reshape(-1, len(x))[: x.shape[1]].T, (starts, *chunks)


def _backward(kept: tuple[Array, ...], slope: Float[Array, "B D"]) -> tuple[Array, Array, Array, Array]:
    starts, *chunks = kept
    columns = slope.shape[1]

    def chunk(g: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        start, x, w, v, d = own
        _, h = jax.lax.scan(lambda a, t: (_grown(a, t), jax.nn.sigmoid(a)), start, (x, w))
        return jax.lax.scan(_back, g, (x, w, v, d, h), reverse=True)

    whole = (starts, *chunks, _chunked(slope.T))
    g, (dw, dv, dx) = jax.lax.scan(chunk, jnp.zeros_like(starts[0]), whole, reverse=True)
    return _flat(dw, columns), _flat(dv, columns), g.sum(axis=0), _flat(dx, columns).T


def _grown(a: Float[Array, "B H"], cell: tuple[Array, ...]) -> Float[Array, "B H"]:
    """Return the field once a cell is known."""
    return a + cell[0][:, None] * cell[1]


def _back(g: Float[Array, "B H"], cell: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array, Array]]:
    """Go back over a cell: the field's gradient before it, and those of its weights, of V's and of the cell itself."""
    x, w, v, d, h = cell
    return g + (d[:, None] * v) * (h * (1.0 - h)), (x @ g, d @ h, g @ w)


def _chunked(a: Float[Array, "D ..."]) -> Float[Array, "C K ..."]:
    """Cut the cells into chunks of about their square root; zeros at the end say nothing and change no field."""
    size = math.isqrt(len(a) - 1) + 1
    padded = jnp.pad(a, [(0, -len(a) % size), *[(0, 0)] * (a.ndim - 1)])
    return padded.reshape(-1, size, *a.shape[1:])


def _flat(a: Float[Array, "C K ..."], columns: int) -> Float[Array, "D ..."]:
    return a.reshape(-1, *a.shape[2:])[:columns]


logits_in_order.defvjp(_forward, _backward)


def batch_log_probs(model: NADE, x: Float[Array, "B D"], key: Any = None) -> Float[Array, " B"]:
    """Return log p of several rows in one pass, whose gradient is summed as it goes."""
    return bernoulli_log_prob(x, model.batch_logits(x)).sum(axis=1)


def untrained(key: PRNGKeyArray, mean: Any, hidden: int, ordering: int) -> NADE:
    """Return random weights, and biases at which cells are independent columns of the data's `mean`."""
    first, second = jax.random.split(key)
    b = base_logits(mean)
    weight, output = (glorot_uniform(k, b.size, hidden) for k in (first, second))
    return NADE(weight, output, jnp.zeros(hidden), b, drawn_order(ordering, b.size))


def recipe(
    brief: Brief,
    *,
    hidden: int = 500,
    ordering: int = 1,
    batch: int = 100,
    rate: float = 3e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[NADE, Recipe]:
    """Return an untrained NADE and how to train it.

    Args:
        hidden: hidden units (H).
        ordering: number of the order in which the cells are said, the same for every seed; 0 is the file's own.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
    """
    require_binary(brief.data, "a nade")
    require_whole(brief.data, "a nade")
    if hidden < 1:
        raise ReverieError(f"hidden: {hidden} is not a number of units; give 1 or more")
    model = untrained(brief.key, brief.data.mean, hidden, ordering)
    return model, explicit_recipe(
        brief, batch_log_probs, validator(), batch=batch, rate=rate, schedule_name=schedule, adam=adam, select=select,
        valid_every=valid_every,
    )  # fmt: skip
