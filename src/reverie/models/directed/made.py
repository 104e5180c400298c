r"""MADE, the masked autoencoder: an exact likelihood of binary rows and mixed tables in one pass of a deep network.

An autoencoder whose weights are masked so that output d sees no cell but those before it in an order o. Cell
:math:`o_d` has degree d, each unit k of layer l a degree :math:`m^l(k)` between the least of the layer below and D - 1,
and (the paper's letters)

.. math::

    h^l = g\big((W^l \odot M^l) h^{l-1} + b^l\big), \quad M^l_{kk'} = 1_{m^l(k) \ge m^{l-1}(k')}, \qquad
    a = (V \odot M^V) h^L + (A \odot M^A) x + c, \quad M^V_{dk} = 1_{d > m^L(k)}, \ M^A_{dd'} = 1_{d > d'},

so that :math:`p(x) = \prod_d \sigma(a_d)^{x_d}(1 - \sigma(a_d))^{1 - x_d}` is a law: it is what `evaluate` tells, of
kind ``exact``.  Of a number or a category x holds what the network sees and a what it says of it (`nn.cells`): features
and outputs have the degree of their cell.  All conditionals of a row cost one pass, where `nade` goes through the
cells; a draw costs D passes.

With `masks` above 1 there are as many orders and sets of degrees, of which each step takes one at random; the model
is then their equal mixture, :math:`\log p(x) = \log \frac1M \sum_i p_i(x)`, a law again, and ``evaluate --samples n``
mixes other numbers of them.  Masks are not stored: they follow from the degrees that the model holds.

Missing cells of rows to learn from are shown as missing, and not said; log p(x) is that of the cells that are there,
each given those before it that are, and need not agree with a marginal of the law of whole rows.  By that law they are
filled in, by particles (`_particles`).

Traps: one mask overfits less with fewer units, many masks need more units and longer training.

References: Germain, Gregor, Murray & Larochelle, *MADE: Masked Autoencoder for Distribution Estimation*, ICML 2015.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
    title="MADE: Masked Autoencoder for Distribution Estimation",
    authors="Mathieu Germain, Karol Gregor, Iain Murray and Hugo Larochelle",
    year=2015,
    venue="ICML",
    bibtex="""@inproceedings{germain2015made,
  title = {{MADE}: Masked Autoencoder for Distribution Estimation},
  author = {Germain, Mathieu and Gregor, Karol and Murray, Iain and Larochelle, Hugo},
  booktitle = {International Conference on Machine Learning},
  year = {2015},
  note = {arXiv:1502.03509}
}""",
)

PRESETS = {
    "fast": {"epochs": 50},
    "digits": {"hidden": (200,), "masks": 8, "batch": 50, "rate": 3e-3, "schedule": "steps", "epochs": 200},
    "masks": {"masks": 8},
    "table": {"hidden": (100,), "batch": 50, "epochs": 60},
}

TINY = {"hidden": (32,), "batch": 20, "rate": 1e-2, "epochs": 15}

CLAIMS: tuple[Claim, ...] = ()


class MADE(Mixture):
    """A masked network, and one order and set of degrees for each law of the mixture; see the module's page.

    Attributes:
        layers: W^l and b^l, from the data upwards, and last V and c.
        direct: A, from features of cells to outputs; None without.
        places: degree of each cell, 0 for the one that is said first; a row for each law.
        degrees: of the units, layer by layer.
        activation: g.
    """

    layers: tuple[Linear, ...]
    direct: Float[Array, "F P"] | None
    places: Int[Array, "M D"]
    degrees: tuple[Int[Array, "M _"], ...]
    activation: str = eqx.field(static=True)

    @property
    def members(self) -> int:
        return len(self.places)

    def says(self, x: Float[Array, " D"], member: int | Int[Array, ""] = 0) -> Float[Array, "D most"]:
        """Return the outputs of p(cell | cells before it) by one of the laws."""
        place, units = self.places[member], [degree[member] for degree in self.degrees]
        layout, seen = self.cells.layout, self.cells.seen(x)
        # Features and outputs have the degree of their cell.
        first, final = place[layout.cell], place[layout.says]
        h, below = seen, first
        for layer, above in zip(self.layers[:-1], units, strict=True):
            # A unit of degree m sees cells 0 to m; the last cell is seen by none, so that degrees end at D - 2.
            mask = below[:, None] <= above[None, :]
            h = ACTIVATIONS[self.activation](h @ (layer.weight * mask) + layer.bias)
            below = above
        last = self.layers[-1]
        a = h @ (last.weight * (below[:, None] < final[None, :])) + last.bias
        if self.direct is not None:
            a = a + seen @ (self.direct * (first[:, None] < final[None, :]))
        return self.cells.spread(a)

    def member_log_prob(self, x: Float[Array, " D"], member: int | Int[Array, ""]) -> Float[Array, ""]:
        return self.cells.log_prob(self.says(x, member), x).sum()

    def cell_log_probs(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return log p(cell | cells before it) of each cell, the mean over the orders; 0 of one that is missing."""
        each = jax.lax.map(lambda i: self.cells.log_prob(self.says(x, i), x), jnp.arange(self.members))
        return each.mean(axis=0)

    def order_of(self, member: int | Int[Array, ""]) -> Int[Array, " D"]:
        return jnp.argsort(self.places[member])

    def begin(self) -> Float[Array, " D"]:
        # What stands where nothing was seen yet is masked.
        return jnp.zeros(self.cells.width)

    def told(
        self, state: Float[Array, " D"], member: int | Int[Array, ""], cell: Int[Array, ""]
    ) -> Float[Array, " most"]:
        return self.says(state, member)[cell]

    def grown(self, state: Float[Array, " D"], cell: Int[Array, ""], x: Float[Array, ""]) -> Float[Array, " D"]:
        return state.at[cell].set(x)

    def ensemble(self, n: int) -> MADE:
        """Return the equal mixture of n masks; those past the ones that were learnt with are drawn anew."""
        widths = tuple(degree.shape[1] for degree in self.degrees)
        found = [drawn_degrees(i, self.places.shape[1], widths) for i in range(self.members, n)]
        more = [np.concatenate([np.asarray(a), *(f[i][None] for f in found)])[:n] for i, a in
                enumerate((self.places, *self.degrees))]  # fmt: skip
        return replace(self, places=jnp.asarray(more[0]), degrees=tuple(jnp.asarray(a) for a in more[1:]))


def drawn_degrees(number: int, columns: int, widths: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return the places of the cells and the degrees of the units of a set of masks, by its number."""
    rng = np.random.default_rng([number, columns, *widths])
    found = [np.argsort(np.asarray(drawn_order(number + 1, columns))).astype(np.int32)]
    least = 0
    for width in widths:
        found.append(rng.integers(least, max(columns - 1, least + 1), width, dtype=np.int32))
        least = int(found[-1].min())
    return tuple(found)


def batch_log_probs(model: MADE, x: Float[Array, "B D"], key: PRNGKeyArray) -> Float[Array, " B"]:
    """Return log p of several rows by one of the laws, drawn for all of them together."""
    member = jax.random.randint(key, (), 0, model.members)
    return jax.vmap(lambda row: model.member_log_prob(row, member))(x)


def untrained(
    key: PRNGKeyArray, cells: Cells, base: Float[Array, " P"], hidden: tuple[int, ...], masks: int, direct: bool,
    activation: str,
) -> MADE:  # fmt: skip
    """Return random weights, and biases `base`, at which cells are independent columns."""
    columns, layers = cells.width, layered(jax.random.split(key, len(hidden) + 1), hidden, cells, base)
    sets = zip(*(drawn_degrees(i, columns, hidden) for i in range(masks)), strict=True)
    places, *degrees = (jnp.asarray(np.stack(one)) for one in sets)
    blank = jnp.zeros((cells.features, cells.outputs)) if direct else None
    return MADE(cells, layers, blank, places, tuple(degrees), activation)


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (500,),
    masks: int = 1,
    direct: bool = True,
    components: int = 5,
    floor: float = 0.01,
    activation: Literal["relu", "tanh", "softplus", "silu"] = "relu",
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[MADE, Recipe]:
    """Return an untrained MADE and how to train it.

    Args:
        hidden: widths of the hidden layers, from the data upwards.
        masks: orders of the cells, each with degrees of its own; the model is their mixture.
        direct: connect cells to the cells after them.
        components: Gaussians of the mixture that a number is said by (C).
        floor: their least standard deviation, in standard deviations of the column.
        activation: of the hidden layers.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
    """
    require_widths(hidden)
    if masks < 1:
        raise ReverieError(f"masks: {masks} is not a number of masks; give 1 or more")
    cells = Cells.of(brief.data, components, floor)
    model = untrained(brief.key, cells, cells.base(brief.data), hidden, masks, direct, activation)
    return model, explicit_recipe(
        brief, batch_log_probs, validator(), batch=batch, rate=rate, schedule_name=schedule, adam=adam, select=select,
        valid_every=valid_every,
    )  # fmt: skip
