r"""What autoregressive models share: the order of the cells, the rows they take, and how they are trained.

.. math:: p(x) = \prod_{d=1}^D p(x_{o_d} \mid x_{o_1}, \dots, x_{o_{d-1}}), \qquad
          \log p(x_j = 1 \mid \cdot) = -\log(1 + e^{-a_j}),

o a permutation of the cells.  The likelihood is a formula (`contracts.Explicit`): nothing is estimated or bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.arrays import log_mean_exp
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.directed._training import check
from reverie.nn.blocks import Linear
from reverie.prob.contracts import Explicit, Given
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, schedule
from reverie.train.recipe import Brief, Player, Recipe

#: ``log_probs(model, rows, key) -> (B,)``: of a batch what is ascended, a row each.
LogProbs = Callable[[Any, Float[Array, "B D"], jax.Array], Float[Array, " B"]]


class Mixture(Explicit):
    r"""An equal mixture of laws that share their weights, :math:`\log p(x) = \log \frac1M \sum_i p_i(x)`."""

    @property
    def members(self) -> int:
        """M."""
        raise NotImplementedError

    def member_log_prob(self, x: Float[Array, " D"], member: int | Int[Array, ""]) -> Float[Array, ""]:
        r"""Return :math:`\log p_i(x)`."""
        raise NotImplementedError

    def member_sample(
        self, key: PRNGKeyArray, member: int | Int[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Draw a row from one of the laws; return it with the mean that each cell was drawn with."""
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


def layered(keys: Array, hidden: tuple[int, ...], bias: Float[Array, " D"]) -> tuple[Linear, ...]:
    """Return random layers from the cells through `hidden` back to the cells, where `bias` stands; a key for each."""
    sizes = (bias.size, *hidden, bias.size)
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
