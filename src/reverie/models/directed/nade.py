r"""NADE, the neural autoregressive distribution estimator: an exact likelihood of binary rows, and of mixed tables.

The cells are said one after the other in a fixed order o, each by a network that has seen those before it, and the
networks share their weights (the paper's letters):

.. math::

    p(x) = \prod_{d=1}^D p(x_{o_d} \mid x_{o_{<d}}), \qquad
    h_d = g\big(W_{o_{<d}}^\top\, \phi(x_{o_{<d}}) + c\big), \qquad
    p(x_{o_d} \mid x_{o_{<d}}) \text{ of outputs } a_d = V_{o_d} h_d + b_{o_d}.

Of a binary cell :math:`\phi` is its value and the one output a logit; of a number (RNADE) its standardised value, and
the outputs a mixture of C Gaussians; of a category an indicator for each, and a softmax (`nn.cells`).  W has a row for
each feature, V for each output; g is the paper's sigmoid for binary rows, and as in RNADE :math:`\max(0, \cdot)` for
others, which was 1.5 nats better on a table of seven mixed columns.

The field of the hidden units grows by one cell at a time,
:math:`z_{d+1} = z_d + W_{o_d}^\top \phi(x_{o_d})`, so that a row costs O(HD), and so does a draw.  No bound, no
sampling: what is ascended is log p(x), and that is what `evaluate` tells, of kind ``exact``.

The gradient is written out: with :math:`\delta_d` that of the outputs (:math:`x_{o_d} - p(x_{o_d} = 1 \mid \cdot)` of
a binary cell) and going backwards,

.. math::

    \partial V_{o_d} = \delta_d h_d^\top, \qquad \partial W_{o_d} = \phi(x_{o_d})\, g_d^\top, \qquad
    g_{d-1} = g_d + V_{o_d}^\top \delta_d \odot g'(h_d), \quad g_D = 0,

:math:`g_d` being the gradient of the field; it is summed over a batch as it goes.  Only every :math:`\sqrt D`-th field
is kept and those between are computed anew.  At 784 binary cells, 500 units and 100 rows on one busy core, a step took
0.05 s so, 0.11 by automatic differentiation of recomputed chunks of 16 cells, 0.18 by that of one loop over the cells.

The order is drawn from its number and the number of cells alone (`ordering`), the same for every seed of a run, and the
model holds it.  The features of a whole row, :math:`g(W^\top \phi(x) + c)`, are its code.

Missing cells of rows to learn from are shown as missing, and not said: log p(x) is that of the cells that are there,
each given those before it that are.  Such laws, one for each set of cells, need not agree: that of a row with a hole is
no marginal of that of whole rows.  Filling in goes by the law of whole rows: `_particles` draws missing cells in order
and weighs by what is known after them.

Traps: Larochelle & Murray's binarisation of MNIST is fixed, and about 2 nats apart from pixels drawn afresh; the model
overfits soon, so that validation chooses the weights.  A density grows without end on values that repeat: `floor`
bounds it, and columns of few values are better taken as categories.

References: Larochelle & Murray, *The Neural Autoregressive Distribution Estimator*, AISTATS 2011; Uria, Côté, Gregor,
Murray & Larochelle, *Neural Autoregressive Distribution Estimation*, JMLR 2016; Uria, Murray & Larochelle, *RNADE: The
real-valued neural autoregressive density-estimator*, NIPS 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.arrays import in_chunks
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.explicit import validator
from reverie.models.directed._autoregressive import InOrder, drawn_order, explicit_recipe
from reverie.nn.blocks import ACTIVATIONS, glorot_uniform
from reverie.nn.cells import Cells
from reverie.prob.contracts import Given
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
    "table": {"hidden": 100, "batch": 50, "rate": 1e-3, "epochs": 100},
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


#: Few steps that are large, averaged, their weights shrunk: of so few rows the model learns too much otherwise.
_FAST: dict[str, Any] = {"rate": 1e-2, "adam": {"decay": 0.03}, "select": "average", "valid_every": 2.0}
CLAIMS: tuple[Claim, ...] = (
    _claim("mnist", "binarized-mnist", -88.86, {**_FAST, "epochs": 12}),
    _claim("ocr-letters", "ocr-letters", -27.22, {**_FAST, "epochs": 25}),
)


Activation = Literal["sigmoid", "relu"]
#: The derivative of each activation, of its value h.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda h: h * (1.0 - h),
    "relu": lambda h: (h > 0).astype(h.dtype),
}


class NADE(InOrder):
    """One order of the cells, one layer of units; see the module's page.

    Attributes:
        weight: W, a row for each feature of each cell.
        output: V, a row for each output.
        hidden_bias: c.
        cell_bias: b.
        order: o; the cell that is said first stands first.
        activation: of the hidden units.
    """

    weight: Float[Array, "F H"]
    output: Float[Array, "P H"]
    hidden_bias: Float[Array, " H"]
    cell_bias: Float[Array, " P"]
    order: Int[Array, " D"]
    activation: Activation = eqx.field(static=True, default="sigmoid")

    def batch_says(self, x: Float[Array, "B D"]) -> Float[Array, "B D most"]:
        """Return the outputs of p(cell | cells before it) of several rows, cells in their own places."""
        o, cells = self.order, self.cells
        seen = cells.seen_of(x[:, o], o)
        weights = cells.rows_of(self.weight, o), cells.spread_of(self.output, o), self.hidden_bias
        said = says_in_order(self.activation, *weights, seen)
        return jnp.zeros_like(said).at[:, o].set(said) + cells.spread(self.cell_bias)

    def says(self, x: Float[Array, " D"]) -> Float[Array, "D most"]:
        """Return the outputs of one row."""
        return self.batch_says(x[None])[0]

    def cell_log_probs(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return log p(cell | cells before it) of each cell; 0 of one that is missing."""
        return self.cells.log_prob(self.says(x), x)

    def log_prob(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(x)`, of the cells that are there."""
        return self.cell_log_probs(x).sum()

    def order_of(self, member: int | Int[Array, ""]) -> Int[Array, " D"]:
        return self.order

    def begin(self) -> Float[Array, " H"]:
        return self.hidden_bias

    def told(
        self, state: Float[Array, " H"], member: int | Int[Array, ""], cell: Int[Array, ""]
    ) -> Float[Array, " most"]:
        v, b = (self.cells.spread_of(a, cell) for a in (self.output, self.cell_bias))
        return v @ ACTIVATIONS[self.activation](state) + b

    def grown(self, state: Float[Array, " H"], cell: Int[Array, ""], x: Float[Array, ""]) -> Float[Array, " H"]:
        return state + self.cells.seen_of(x, cell) @ self.cells.rows_of(self.weight, cell)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " H"]:
        r"""Return :math:`\sigma(Wx + c)`, the hidden units once every cell is known."""
        return ACTIVATIONS[self.activation](self.cells.seen(x) @ self.weight + self.hidden_bias)

    def filters(self) -> Float[Array, "H D"]:
        """Return what each hidden unit looks for."""
        return self.cells.strongest(self.weight).T


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def says_in_order(
    activation: Activation, weight: Float[Array, "D F H"], output: Float[Array, "D P H"], bias: Float[Array, " H"],
    x: Float[Array, "B D F"],
) -> Float[Array, "B D P"]:  # fmt: skip
    r"""Return :math:`V_d\,\sigma(c + \sum_{i<d} W_i^\top x_i)`, all in the order of the cells."""
    return _forward(activation, weight, output, bias, x)[0]


def _forward(
    activation: Activation, weight: Array, output: Array, bias: Array, x: Array
) -> tuple[Array, tuple[Array, ...]]:
    act = ACTIVATIONS[activation]
    chunks = tuple(in_chunks(a) for a in (jnp.swapaxes(x, 0, 1), weight, output))

    def chunk(a: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        after, said = jax.lax.scan(lambda a, t: (_grown(a, t), act(a) @ t[2].T), a, own)
        return after, (a, said)

    _, (starts, said) = jax.lax.scan(chunk, jnp.broadcast_to(bias, (len(x), bias.size)), chunks)
    return jnp.swapaxes(_flat(said, x.shape[1]), 0, 1), (starts, *chunks)


def _backward(
    activation: Activation, kept: tuple[Array, ...], slope: Float[Array, "B D P"]
) -> tuple[Array, Array, Array, Array]:
    act = ACTIVATIONS[activation]
    starts, *chunks = kept
    columns = slope.shape[1]

    def chunk(g: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        start, x, w, v, d = own
        _, h = jax.lax.scan(lambda a, t: (_grown(a, t), act(a)), start, (x, w))
        return jax.lax.scan(partial(_back, SLOPES[activation]), g, (x, w, v, d, h), reverse=True)

    whole = (starts, *chunks, in_chunks(jnp.swapaxes(slope, 0, 1)))
    g, (dw, dv, dx) = jax.lax.scan(chunk, jnp.zeros_like(starts[0]), whole, reverse=True)
    return _flat(dw, columns), _flat(dv, columns), g.sum(axis=0), jnp.swapaxes(_flat(dx, columns), 0, 1)


def _grown(a: Float[Array, "B H"], cell: tuple[Array, ...]) -> Float[Array, "B H"]:
    """Return the field once a cell is known."""
    return a + cell[0] @ cell[1]


def _back(
    slope: Callable[[Array], Array], g: Float[Array, "B H"], cell: tuple[Array, ...]
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Go back over a cell: the field's gradient before it, and those of its weights, of V's and of the cell itself."""
    x, w, v, d, h = cell
    return g + (d @ v) * slope(h), (x.T @ g, d.T @ h, g @ w.T)


def _flat(a: Float[Array, "C K ..."], columns: int) -> Float[Array, "D ..."]:
    return a.reshape(-1, *a.shape[2:])[:columns]


says_in_order.defvjp(_forward, _backward)


def batch_log_probs(model: NADE, x: Float[Array, "B D"], key: Any = None) -> Float[Array, " B"]:
    """Return log p of several rows in one pass, whose gradient is summed as it goes."""
    return model.cells.log_prob(model.batch_says(x), x).sum(axis=1)


def untrained(
    key: PRNGKeyArray, cells: Cells, base: Float[Array, " P"], hidden: int, ordering: int,
    activation: Activation = "sigmoid",
) -> NADE:  # fmt: skip
    """Return random weights, and biases `base`, at which cells are independent columns."""
    first, second = jax.random.split(key)
    weight, output = (glorot_uniform(k, n, hidden) for k, n in ((first, cells.features), (second, cells.outputs)))
    return NADE(cells, weight, output, jnp.zeros(hidden), base, drawn_order(ordering, cells.width), activation)


def recipe(
    brief: Brief,
    *,
    hidden: int = 500,
    ordering: int = 1,
    components: int = 5,
    floor: float = 0.01,
    activation: Literal["sigmoid", "relu"] | None = None,
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
        components: Gaussians of the mixture that a number is said by (C).
        floor: their least standard deviation, in standard deviations of the column.
        activation: of the hidden units (default: sigmoid where all cells are binary, else relu).
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
    """
    if hidden < 1:
        raise ReverieError(f"hidden: {hidden} is not a number of units; give 1 or more")
    cells = Cells.of(brief.data, components, floor)
    chosen: Activation = activation or ("sigmoid" if brief.data.likelihood == "bernoulli" else "relu")
    model = untrained(brief.key, cells, cells.base(brief.data), hidden, ordering, chosen)
    return model, explicit_recipe(
        brief, batch_log_probs, validator(), batch=batch, rate=rate, schedule_name=schedule, adam=adam, select=select,
        valid_every=valid_every,
    )  # fmt: skip
