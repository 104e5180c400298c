"""Rows given back by a model: without their noise, and with how far off each comes back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reverie import asking
from reverie.class_told import asked_of, told_class
from reverie.evaluate import tasks
from reverie.masking import soft_view
from reverie.trained import Trained


class Rebuilt(NamedTuple):
    """Rows given back.

    Attributes:
        rows: in the file's own units, shape (n, *shape).
        squared_errors: of each row, shape (n,), in the model's units.
    """

    rows: np.ndarray
    squared_errors: Float[np.ndarray, " n"]


def rebuilt(run: Trained, x: Any, *, seed: int = 0, label: str | int | None = None) -> Rebuilt:
    """Return rows as the model gives them back, and the squared error of each; see `reconstruct`."""
    asking.need(run, "reconstruct")
    (model, label), rows = asked_of(run, label), soft_view(run.facts, asking.new_rows(run, x))
    found = tasks.reconstructions(model, rows, seed=seed, given=told_class(run, len(rows), label, "reconstruct"))
    # A cell that is missing, or always the same, has nothing to be compared with.
    squares = np.nansum((rows.astype(np.float64) - found) ** 2, axis=1)
    return Rebuilt(asking.shaped(run.facts, found), squares)


def reconstruct(run: Trained, x: Any, *, seed: int = 0, label: str | int | None = None) -> np.ndarray:
    r"""Return :math:`\hat x`, each row as the model gives it back, in the file's own units, shape (n, *shape).

    An autoencoder gives back the decoded code: a denoising one the row without its noise.  A model with a law of the
    code gives :math:`\mathbb E[x \mid h]` at one draw of h given the row.

    Args:
        x: a file or array of rows in the file's own units; grey cells are taken as they are.  Cells may be missing
            where those of training were.
        seed: of the draw; a row's depends on (seed, the row) alone.
        label: class of the rows (class-conditional models, which need it).

    Raises:
        ReverieError: for a model that gives no rows back, or rows unlike those of training.
    """
    return rebuilt(run, x, seed=seed, label=label).rows


def reconstruction_errors(
    run: Trained, x: Any, *, seed: int = 0, label: str | int | None = None
) -> Float[np.ndarray, " n"]:
    r"""Return :math:`\lVert x - \hat x \rVert^2` of each row, shape (n,): the greatest are the odd ones out.

    It is in the model's units, in which every column of a table has the same say, and is summed over the cells that
    are there.  Of an autoencoder it is what `evaluate` averages.  For the arguments see `reconstruct`.
    """
    return rebuilt(run, x, seed=seed, label=label).squared_errors
