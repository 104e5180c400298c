r"""Which cells make a row odd: the surprise of each beside the others, less what is usual in its column.

.. math:: e_d = -\log p(x_d \mid \text{others}) - \overline{-\log p(x_d \mid \text{others})},

the mean over held-out rows.  Taken off, a column's units and its noise say nothing any more: what is left, in nats, is
how much less expected the cell is than such cells are.  The others are those that the model has (`abilities.Blames`):
all, or those before it in the model's order; of a pair that does not go together a model of one order blames the
later one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.evaluate.mapped import over_rows

#: Held-out rows that say what is usual, at most.
ROWS = 1000


class Blame(NamedTuple):
    """What each cell of some rows has to do with their being odd.

    Attributes:
        cells: excess surprise e_d in nats, NaN where a cell is missing, shape ``(n, D)``.
    """

    cells: Float[np.ndarray, "n D"]

    @property
    def rows(self) -> Float[np.ndarray, " n"]:
        """The sum over a row's cells; rows that lack different cells can be compared by it."""
        return np.nansum(self.cells, axis=1)

    @property
    def columns(self) -> Int[np.ndarray, "n D"]:
        """The columns of each row, the most to blame first, missing cells last."""
        return np.argsort(-np.nan_to_num(self.cells, nan=-np.inf), axis=1, kind="stable")


def surprises(model: Any, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    """Return the surprise of each cell of rows in the model's units, in nats; NaN where it is missing."""
    with jax.default_matmul_precision("highest"):
        return np.asarray(over_rows(_surprise, model, rows), np.float64)


def _surprise(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> Array:
    return jnp.where(jnp.isnan(x), jnp.nan, -model.cell_log_probs(x, given))


def usual(model: Any, data: Dataset) -> Float[np.ndarray, " D"]:
    """Return each column's mean surprise over validation rows, 0 of one that has no cell there."""
    found = surprises(model, data.rows("valid", 0, ROWS))
    there = ~np.isnan(found)
    return np.nan_to_num(found).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
