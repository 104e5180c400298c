r"""What autoregressive models share: the order of the cells, the rows they take, and how they are trained.

.. math:: p(x) = \prod_{d=1}^D p(x_{o_d} \mid x_{o_1}, \dots, x_{o_{d-1}}), \qquad
          p(x_j \mid \cdot) \text{ by } a_j = V_j h + b_j,

o a permutation of the cells, and :math:`a_j` what the law of a cell is made of (`nn.cells`): a logit of a binary one,
a mixture of Gaussians of a number, a softmax of categories.  The likelihood is a formula (`contracts.Explicit`):
nothing is estimated or bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from reverie.arrays import log_mean_exp
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.directed._particles import particles, weighted_mean
from reverie.models.directed._training import check
from reverie.nn.blocks import Linear
from reverie.nn.cells import Cells
from reverie.prob.contracts import Explicit, Given
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, schedule
from reverie.train.recipe import Brief, Player, Recipe

#: ``log_probs(model, rows, key) -> (B,)``: of a batch what is ascended, a row each.
LogProbs = Callable[[Any, Float[Array, "B D"], jax.Array], Float[Array, " B"]]


class InOrder(Explicit):
    """A model that says the cells of a row one after the other, each given those before it.

    While it does, a `state` holds what it has seen.  Where it is a mixture of several orders (`Mixture`), `member`
    says by which.

    Attributes:
        cells: what the features and outputs of the cells are.
    """

    mixed: ClassVar[bool] = True
    cells: Cells = eqx.field(static=True)

    @property
    def members(self) -> int:
        return 1

    def order_of(self, member: int | Int[Array, ""]) -> Int[Array, " D"]:
        """Return the cells in the order in which they are said."""
        raise NotImplementedError

    def begin(self) -> PyTree:
        """Return the state that has seen nothing."""
        raise NotImplementedError

    def told(self, state: PyTree, member: int | Int[Array, ""], cell: Int[Array, ""]) -> Float[Array, " most"]:
        """Return the outputs of a cell's law (`nn.cells`), all cells before it having been seen."""
        raise NotImplementedError

    def grown(self, state: PyTree, cell: Int[Array, ""], x: Float[Array, ""]) -> PyTree:
        """Return the state that has seen one cell more."""
        raise NotImplementedError

    def in_turn(
        self, key: PRNGKeyArray, member: int | Int[Array, ""], order: Int[Array, " D"], state: PyTree,
        x: Float[Array, " D"], known: Bool[Array, " D"],
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:  # fmt: skip
        """Draw what is not known in an order; return the row, and the mean that each cell was drawn with (or x).

        What is known is in the state from the start.
        """

        def one(state: PyTree, own: tuple[Array, Array]) -> tuple[PyTree, tuple[Array, Array]]:
            coin, cell = own
            said = self.told(state, member, cell)
            drawn = self.cells.draw(coin, said, cell)
            grown = self.grown(state, cell, drawn)
            state = jax.tree.map(lambda old, new: jnp.where(known[cell], old, new), state, grown)
            mean = self.cells.mean(said, cell)
            return state, (jnp.where(known[cell], x[cell], drawn), jnp.where(known[cell], x[cell], mean))

        _, said = jax.lax.scan(one, state, (jax.random.split(key, order.size), order))
        drawn, mean = (jnp.zeros_like(one).at[order].set(one) for one in said)
        return drawn, mean

    def member_sample(
        self, key: PRNGKeyArray, member: int | Int[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw a row by one of the orders; return it with the mean that each cell was drawn with."""
        nothing = jnp.zeros(self.cells.width, bool)
        return self.in_turn(key, member, self.order_of(member), self.begin(), jnp.zeros(nothing.shape), nothing)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        return self.member_sample(key, 0)

    def complete(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None
    ) -> Float[Array, " D"]:
        """Return x with E[cell | known cells] (or the most probable category) in place of the others, by particles."""
        rows, log_weights = particles(self, key, x, known)
        return jnp.where(known, x, weighted_mean(self.cells, rows, log_weights))

    def draw_missing(
        self, key: PRNGKeyArray, x: Float[Array, " D"], known: Bool[Array, " D"], given: Given = None
    ) -> Float[Array, " D"]:
        """Return x with all other cells drawn together: one of the particles, by their weights."""
        first, second = jax.random.split(key)
        rows, log_weights = particles(self, first, x, known)
        return jnp.where(known, x, rows[jax.random.categorical(second, log_weights)])


class Mixture(InOrder):
    r"""An equal mixture of laws that share their weights, :math:`\log p(x) = \log \frac1M \sum_i p_i(x)`."""

    @property
    def members(self) -> int:
        """M."""
        raise NotImplementedError

    def member_log_prob(self, x: Float[Array, " D"], member: int | Int[Array, ""]) -> Float[Array, ""]:
        r"""Return :math:`\log p_i(x)`."""
        raise NotImplementedError

    def log_prob(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        each = jax.lax.map(lambda i: self.member_log_prob(x, i), jnp.arange(self.members))
        return log_mean_exp(each)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw one of the laws, and a row from it."""
        which, rest = jax.random.split(key)
        return self.member_sample(rest, jax.random.randint(which, (), 0, self.members))


def drawn_order(number: int, width: int) -> Int[Array, " D"]:
    """Return the order of the cells with a number, which depends on that and their count alone; 0 is their own."""
    if number < 0:
        raise ReverieError(f"ordering: {number} is not the number of an order; give 0 or more")
    order = np.random.default_rng([number, width]).permutation(width) if number else np.arange(width)
    return jnp.asarray(order, jnp.int32)


def layered(keys: Array, hidden: tuple[int, ...], cells: Cells, bias: Float[Array, " P"]) -> tuple[Linear, ...]:
    """Return random layers from the cells through `hidden` back to the cells, where `bias` stands; a key for each."""
    sizes = (cells.features, *hidden, cells.outputs)
    layers = [Linear.init(k, a, b) for k, (a, b) in zip(keys, pairwise(sizes), strict=True)]
    return (*layers[:-1], replace(layers[-1], bias=bias))


def require_widths(hidden: tuple[int, ...]) -> None:
    """Refuse widths of hidden layers that are none."""
    if not hidden or min(hidden) < 1:
        raise ReverieError(f"hidden: {hidden}: give one width or more, each at least 1")


def require_binary(data: Dataset, model: str) -> None:
    """Refuse rows whose cells are not binary; `model` with its article."""
    if data.likelihood != "bernoulli":
        raise ReverieError(
            f"likelihood: {model} needs binary data, not {data.likelihood}; give --likelihood bernoulli for values of "
            "0 to 1, or train a vae, which takes others"
        )


def require_whole(data: Dataset, model: str) -> None:
    """Refuse rows with missing cells; `model` with its article."""
    if data.missing:
        raise ReverieError(
            f"{data.name}: {model} goes through all cells in one order and takes no missing ones; fill them in, or "
            "train an orderless-nade, which leaves them out"
        )


def explicit_recipe(
    brief: Brief,
    log_probs: LogProbs,
    validate: Callable[..., Any],
    *,
    batch: int,
    rate: float,
    schedule_name: str,
    adam: Adam,
    select: str,
    valid_every: float | None,
) -> Recipe:
    """Return the recipe of one player that ascends log p(x), or an unbiased estimate of it."""
    check(brief.data, batch=batch, rate=rate)

    def objective(model: Any, rows: dict[str, Any], carry: Any, key: jax.Array) -> tuple[jax.Array, Any, dict]:
        value = log_probs(model, rows["x"], key).mean()
        return -value, carry, {"log_likelihood": value}

    return Recipe(
        draw=minibatch(brief.data, batch),
        players=(Player(adam(schedule(schedule_name, rate, brief.steps(batch))), objective),),
        batch=batch,
        select=select,  # type: ignore[arg-type]
        validate=validate,
        valid_every=valid_every or max(1.0, round(brief.epochs / 50)),
    )
