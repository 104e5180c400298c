r"""Orderless NADE: one network for every order of the cells, so that any of them may be missing; exact all the same.

A deep network is told which cells are known, m in {0, 1}^D, beside their values, and says all others at once:

.. math::

    h^1 = g(W^\top (m \odot x) + U^\top m + b^1), \quad h^l = g(W^{l\top} h^{l-1} + b^l), \qquad
    p(x_j = 1 \mid x_m) = \sigma(V_j h^L + c_j).

Each step draws an order o and a place d of every row anew and ascends

.. math:: \frac{D}{D - d + 1} \sum_{j \notin m} \log p(x_j \mid x_m), \qquad m = \{o_1, \dots, o_{d-1}\},
          \quad d - 1 \sim U\{0, \dots, D - 1\},

whose mean over o and d is the mean over all D! orders of :math:`\log p_o(x) = \sum_d \log p(x_{o_d} \mid x_{o_{<d}})`.
Each order is a law of its own (they need not agree), exact at the cost of one row of V and the layers above the first
for each cell.  The model is the equal mixture of `orderings` of them (EoNADE),

.. math:: \log p(x) = \log \frac1O \sum_o p_o(x) \ge \frac1O \sum_o \log p_o(x),

a law again: `evaluate` tells it, of kind ``exact``, and ``--samples 128`` mixes as many orders.

Missing cells: known ones come first, in whatever order, and the network says the others given them.
:math:`\mathbb E[x_j \mid x_m]` of each missing cell is one pass (`impute`); a draw of all of them together says them
in a random order (``impute --draw``).  Rows to learn from may have missing cells, which are then neither shown nor
said: D is the number of cells that are there, and log p(x) is that of those, each order skipping the others.

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
    require_binary,
    require_widths,
)
from reverie.nn.blocks import ACTIVATIONS, Linear
from reverie.nn.laws import Mean, base_logits, bernoulli_log_prob
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
}  # fmt: skip

TINY = {"hidden": (32,), "orderings": 2, "batch": 20, "rate": 1e-2, "epochs": 30}

CLAIMS: tuple[Claim, ...] = ()

#: What a pass says: logits of all cells.
Logits = Float[Array, " D"]


class OrderlessNADE(Mixture):
    """A network of any known cells, and the orders of which the model is the mixture; see the module's page.

    Attributes:
        layers: of the hidden units: W, b^1 first (from the cells' values), and last V and c.
        flags: U, from which cells are known.
        orders: o of each law of the mixture.
        activation: g.
    """

    layers: tuple[Linear, ...]
    flags: Float[Array, "D F"]
    orders: Int[Array, "O D"]
    activation: str = eqx.field(static=True)

    @property
    def members(self) -> int:
        return len(self.orders)

    def logits(self, x: Float[Array, " D"], known: Bool[Array, " D"]) -> Logits:
        """Return the logits of p(cell = 1 | known cells) of all cells; those of known ones say nothing."""
        # A cell that is not there may be NaN, and nought times that is no nought.
        seen = jnp.where(known, x, 0.0)
        last = self.layers[-1]
        return self._top(self._field(seen, known.astype(seen.dtype))) @ last.weight + last.bias

    def _field(self, seen: Float[Array, " D"], known: Float[Array, " D"]) -> Float[Array, " F"]:
        return self.layers[0](seen) + known @ self.flags

    def _top(self, field: Float[Array, " F"]) -> Float[Array, " G"]:
        """Return the last hidden layer, of the first one's field."""
        act = ACTIVATIONS[self.activation]
        h = act(field)
        for layer in self.layers[1:-1]:
            h = act(layer(h))
        return h

    def member_log_prob(self, x: Float[Array, " D"], member: int | Int[Array, ""]) -> Float[Array, ""]:
        r"""Return :math:`\log p_o(x)` by the order of that number; the first field grows by a cell at a time."""
        order, last = self.orders[member], self.layers[-1]

        def cell(field: Array, own: tuple[Array, ...]) -> tuple[Array, Array]:
            x, w, u, v, c = own
            there = ~jnp.isnan(x)
            value = jnp.where(there, x, 0.0)
            said = bernoulli_log_prob(value, self._top(field) @ v + c)
            return field + there * (value * w + u), there * said

        _, said = jax.lax.scan(cell, self.layers[0].bias, (x[order], *self._in(order, last)))
        return said.sum()

    def _in(self, order: Int[Array, " D"], last: Linear) -> tuple[Array, Array, Array, Array]:
        return self.layers[0].weight[order], self.flags[order], last.weight.T[order], last.bias[order]

    def member_sample(
        self, key: PRNGKeyArray, member: int | Int[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw the cells in the order of that number; return the row and the probability that each was drawn with."""
        nothing = jnp.zeros(self.orders.shape[1], bool)
        return self._said(key, jnp.zeros(nothing.shape), nothing, self.orders[member])

    def _said(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], order: Int[Array, " D"]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw what is not known in an order, given what is; return x and the cells' probabilities (x if known)."""
        start = self._field(jnp.where(known, x, 0.0), known.astype(x.dtype))

        def cell(field: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            coin, x, fixed, w, u, v, c = own
            p = jax.nn.sigmoid(self._top(field) @ v + c)
            drawn = jax.random.bernoulli(coin, p).astype(p.dtype)
            # What is known is in the field from the start.
            grown = jnp.where(fixed, field, field + drawn * w + u)
            return grown, (jnp.where(fixed, x, drawn), jnp.where(fixed, x, p))

        coins = jax.random.split(key, order.size)
        _, said = jax.lax.scan(cell, start, (coins, x[order], known[order], *self._in(order, self.layers[-1])))
        drawn, p = (jnp.zeros_like(one).at[order].set(one) for one in said)
        return drawn, p

    def complete(self, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return x with E[cell | known cells] in place of the others, in one pass."""
        return jnp.where(known, x, jax.nn.sigmoid(self.logits(x, known)))

    def draw_missing(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None
    ) -> Float[Array, " D"]:
        """Return x with all other cells drawn together, in a random order."""
        which, rest = jax.random.split(key)
        return self._said(rest, x, known, jax.random.permutation(which, x.size))[0]

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
    there = ~jnp.isnan(x)
    said = bernoulli_log_prob(jnp.where(there, x, 0.0), model.logits(x, known))
    return weight * jnp.where(there & ~known, said, 0.0).sum()


def batch_estimates(model: OrderlessNADE, x: Float[Array, "B D"], key: PRNGKeyArray) -> Float[Array, " B"]:
    """Return of each row an unbiased estimate of the mean over orders of its log-likelihood."""

    def one(own: PRNGKeyArray, row: Float[Array, " D"]) -> Float[Array, ""]:
        return row_estimate(model, row, *split_row(own, ~jnp.isnan(row)))

    return jax.vmap(one)(jax.random.split(key, len(x)), x)


def untrained(key: PRNGKeyArray, mean: Mean, hidden: tuple[int, ...], orderings: int, activation: str) -> OrderlessNADE:
    """Return random weights, and biases at which cells are independent columns of the data's mean."""
    bias = base_logits(mean)
    keys = jax.random.split(key, len(hidden) + 2)
    flags = Linear.init(keys[0], bias.size, hidden[0]).weight
    orders = jnp.stack([drawn_order(i + 1, bias.size) for i in range(orderings)])
    return OrderlessNADE(layered(keys[1:], hidden, bias), flags, orders, activation)


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (500,),
    orderings: int = 8,
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
        activation: of the hidden layers.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_rows: validation rows, by one order: a row costs a pass for every cell.
    """
    require_binary(brief.data, "an orderless-nade")
    require_widths(hidden)
    for name, number in (("orderings", orderings), ("valid_rows", valid_rows)):
        if number < 1:
            raise ReverieError(f"{name}: {number} is too few; give 1 or more")
    model = untrained(brief.key, brief.data.mean, hidden, orderings, activation)
    return model, explicit_recipe(
        brief, batch_estimates, validator(valid_rows, 1), batch=batch, rate=rate, schedule_name=schedule, adam=adam,
        select=select, valid_every=valid_every,
    )  # fmt: skip
