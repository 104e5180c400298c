r"""Orderless NADE: one network for every order of the cells, so that any of them may be missing; exact all the same.

A deep network is told which cells are known, m in {0, 1}^D, beside their values, and says all others at once:

.. math::

    h^1 = g(W^\top (m \odot x) + U^\top m + b^1), \quad h^l = g(W^{l\top} h^{l-1} + b^l), \qquad
    p(x_j = 1 \mid x_m) = \sigma(V_j h^L + c_j).

Of a number or a category the network sees its standardised value or an indicator of each category, and says a mixture
of C Gaussians or a softmax (`nn.cells`).

Each step draws an order o and a place d of every row anew and ascends

.. math:: \frac{D}{D - d + 1} \sum_{j \notin m} \log p(x_j \mid x_m), \qquad m = \{o_1, \dots, o_{d-1}\},
          \quad d - 1 \sim U\{0, \dots, D - 1\},

whose mean over o and d is the mean over all D! orders of :math:`\log p_o(x) = \sum_d \log p(x_{o_d} \mid x_{o_{<d}})`.
Each order is a law of its own (they need not agree), exact at the cost of one row of V and the layers above the first
for each cell.  The model is the equal mixture of `orderings` of them (EoNADE),

.. math:: \log p(x) = \log \frac1O \sum_o p_o(x) \ge \frac1O \sum_o \log p_o(x),

a law again: `evaluate` tells it, of kind ``exact``, and ``--samples 128`` mixes as many orders.

Missing cells: known ones come first, in whatever order, and the network says the others given them.
:math:`\mathbb E[x_j \mid x_m]` of each missing cell, of categories the most probable, is one pass (`impute`); a draw of
all of them together says them in a random order (``impute --draw``).  Rows to learn from may have missing cells,
which are then neither shown nor said: D is the number of cells that are there, and log p(x) is that of those, each
order skipping the others.

Traps: the law of the known cells is one for each set of them and no marginal of that of whole rows; so are the means of
missing ones, said in one pass.  The reported bound by single orders is a nat or two below the ensemble's number; say
which.  The journal's ``log_likelihood`` is the noisy estimate above, of single orders.

References: Uria, Murray & Larochelle, *A Deep and Tractable Density Estimator*, ICML 2014; Uria, Côté, Gregor, Murray &
Larochelle, *Neural Autoregressive Distribution Estimation*, JMLR 2016.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.explicit import validator
from reverie.models.directed._autoregressive import (
    Mixture,
    drawn_order,
    explicit_recipe,
    layered,
    require_widths,
)
from reverie.nn.blocks import ACTIVATIONS, Linear
from reverie.nn.cells import Cells
from reverie.prob.contracts import Given
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="A Deep and Tractable Density Estimator",
    authors="Benigno Uria, Iain Murray and Hugo Larochelle",
    year=2014,
    venue="ICML",
    bibtex="""@inproceedings{uria2014deep,
  title = {A Deep and Tractable Density Estimator},
  author = {Uria, Benigno and Murray, Iain and Larochelle, Hugo},
  booktitle = {International Conference on Machine Learning},
  year = {2014},
  note = {arXiv:1310.1757}
}""",
)

PRESETS = {
    "fast": {"epochs": 100},
    "digits": {"hidden": (200,), "batch": 50, "rate": 3e-3, "schedule": "steps", "epochs": 300},
    "deep": {"hidden": (500, 500)},
    "table": {"hidden": (100,), "batch": 50, "rate": 3e-3, "epochs": 200},
}  # fmt: skip

TINY = {"hidden": (32,), "orderings": 2, "batch": 20, "rate": 1e-2, "epochs": 30}

CLAIMS: tuple[Claim, ...] = ()


class OrderlessNADE(Mixture):
    """A network of any known cells, and the orders of which the model is the mixture; see the module's page.

    Attributes:
        layers: of the hidden units: W, b^1 first (from the cells' values), and last V and c.
        flags: U, from which cells are known.
        orders: o of each law of the mixture.
        activation: g.
    """

    layers: tuple[Linear, ...]
    flags: Float[Array, "D G"]
    orders: Int[Array, "O D"]
    activation: str = eqx.field(static=True)

    @property
    def members(self) -> int:
        return len(self.orders)

    def says(self, x: Float[Array, " D"], known: Bool[Array, " D"]) -> Float[Array, "D most"]:
        """Return the outputs of p(cell | known cells) of all cells; those of known ones say nothing."""
        last = self.layers[-1]
        return self.cells.spread(self._top(self._field(x, known)) @ last.weight + last.bias)

    def _field(self, x: Float[Array, " D"], known: Bool[Array, " D"]) -> Float[Array, " G"]:
        """Return the field of the first layer; a cell that is not known may be NaN, and leaves nothing there."""
        return self.layers[0](self.cells.seen(jnp.where(known, x, jnp.nan))) + known.astype(x.dtype) @ self.flags

    def _top(self, field: Float[Array, " G"]) -> Float[Array, " H"]:
        """Return the last hidden layer, of the first one's field."""
        act = ACTIVATIONS[self.activation]
        h = act(field)
        for layer in self.layers[1:-1]:
            h = act(layer(h))
        return h

    def _of(self, cell: Int[Array, ""], x: Float[Array, ""]) -> Float[Array, " G"]:
        """Return what a cell adds to the field; nothing where it is missing."""
        here = self.cells.seen_of(jnp.where(jnp.isnan(x), 0.0, x), cell) @ self.cells.rows_of(
            self.layers[0].weight, cell
        )
        return jnp.where(jnp.isnan(x), 0.0, here + self.flags[cell])

    def order_of(self, member: int | Int[Array, ""]) -> Int[Array, " D"]:
        return self.orders[member]

    def begin(self) -> Float[Array, " G"]:
        return self.layers[0].bias

    def told(
        self, state: Float[Array, " G"], member: int | Int[Array, ""], cell: Int[Array, ""]
    ) -> Float[Array, " most"]:
        last = self.layers[-1]
        return self.cells.spread_of(last.weight.T, cell) @ self._top(state) + self.cells.spread_of(last.bias, cell)

    def grown(self, state: Float[Array, " G"], cell: Int[Array, ""], x: Float[Array, ""]) -> Float[Array, " G"]:
        return state + self._of(cell, x)

    def member_log_prob(self, x: Float[Array, " D"], member: int | Int[Array, ""]) -> Float[Array, ""]:
        r"""Return :math:`\log p_o(x)` by the order of that number; the first field grows by a cell at a time."""

        def one(field: Array, cell: Array) -> tuple[Array, Array]:
            said = self.cells.log_prob(self.told(field, member, cell), x[cell], cell)
            return self.grown(field, cell, x[cell]), said

        _, said = jax.lax.scan(one, self.begin(), self.orders[member])
        return said.sum()

    def cell_log_probs(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return log p(cell | all others that are there) of each cell; 0 of one that is missing."""
        whole = self._field(x, ~jnp.isnan(x))

        def one(cell: Array) -> Array:
            return self.cells.log_prob(self.told(whole - self._of(cell, x[cell]), 0, cell), x[cell], cell)

        return jax.lax.map(one, jnp.arange(x.size))

    def complete(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None
    ) -> Float[Array, " D"]:
        """Return x with E[cell | known cells] (or the most probable category) in place of the others, in one pass."""
        return jnp.where(known, x, self.cells.mean(self.says(x, known)))

    def draw_missing(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None
    ) -> Float[Array, " D"]:
        """Return x with all other cells drawn together, in a random order."""
        which, rest = jax.random.split(key)
        return self.in_turn(rest, 0, jax.random.permutation(which, x.size), self._field(x, known), x, known)[0]

    def ensemble(self, n: int) -> OrderlessNADE:
        """Return the mixture of n orders; those past the model's own are drawn by their numbers."""
        columns = self.orders.shape[1]
        more = [drawn_order(i + 1, columns)[None] for i in range(self.members, n)]
        return replace(self, orders=jnp.concatenate([self.orders, *more])[:n])


def split_row(key: PRNGKeyArray, there: Bool[Array, " D"]) -> tuple[Bool[Array, " D"], Float[Array, ""]]:
    """Draw an order of the cells that are there and a place in it; return what comes before it, and D / (D - d + 1)."""
    first, second = jax.random.split(key)
    place = jnp.argsort(jnp.argsort(jnp.where(there, jax.random.uniform(first, there.shape), 2.0)))
    count = jnp.maximum(there.sum(), 1)
    before = jax.random.randint(second, (), 0, count)
    return (place < before) & there, count / (count - before)


def row_estimate(
    model: OrderlessNADE, x: Float[Array, " D"], known: Bool[Array, " D"], weight: Float[Array, ""]
) -> Float[Array, ""]:
    r"""Return :math:`\frac{D}{D - d + 1}\sum_{j \notin m} \log p(x_j \mid x_m)`, of the cells there are."""
    said = model.cells.log_prob(model.says(x, known), x)
    return weight * jnp.where(known, 0.0, said).sum()


def batch_estimates(model: OrderlessNADE, x: Float[Array, "B D"], key: PRNGKeyArray) -> Float[Array, " B"]:
    """Return of each row an unbiased estimate of the mean over orders of its log-likelihood."""

    def one(own: PRNGKeyArray, row: Float[Array, " D"]) -> Float[Array, ""]:
        return row_estimate(model, row, *split_row(own, ~jnp.isnan(row)))

    return jax.vmap(one)(jax.random.split(key, len(x)), x)


def untrained(
    key: PRNGKeyArray, cells: Cells, base: Float[Array, " P"], hidden: tuple[int, ...], orderings: int, activation: str
) -> OrderlessNADE:
    """Return random weights, and biases `base`, at which cells are independent columns."""
    keys = jax.random.split(key, len(hidden) + 2)
    flags = Linear.init(keys[0], cells.width, hidden[0]).weight
    orders = jnp.stack([drawn_order(i + 1, cells.width) for i in range(orderings)])
    return OrderlessNADE(cells, layered(keys[1:], hidden, cells, base), flags, orders, activation)


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (500,),
    orderings: int = 8,
    components: int = 5,
    floor: float = 0.01,
    activation: Literal["relu", "tanh", "softplus", "silu", "sigmoid"] = "relu",
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "linear",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_rows: int = 300,
) -> tuple[OrderlessNADE, Recipe]:
    """Return an untrained orderless NADE and how to train it.

    Args:
        hidden: widths of the hidden layers, from the data upwards.
        orderings: orders of the cells of which the model is the mixture; training takes all there are.
        components: Gaussians of the mixture that a number is said by (C).
        floor: their least standard deviation, in standard deviations of the column.
        activation: of the hidden layers.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_rows: validation rows, by one order: a row costs a pass for every cell.
    """
    require_widths(hidden)
    for name, number in (("orderings", orderings), ("valid_rows", valid_rows)):
        if number < 1:
            raise ReverieError(f"{name}: {number} is too few; give 1 or more")
    # Which cells are known is told beside the cells, missing ones among them.
    cells = Cells.of(brief.data, components, floor, flagged=False)
    model = untrained(brief.key, cells, cells.base(brief.data), hidden, orderings, activation)
    return model, explicit_recipe(
        brief, batch_estimates, validator(valid_rows, 1), batch=batch, rate=rate, schedule_name=schedule, adam=adam,
        select=select, valid_every=valid_every,
    )  # fmt: skip
