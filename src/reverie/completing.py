"""Rows whose missing cells a model fills in: `reverie impute`, and what a picture of it shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from reverie import asking
from reverie.class_told import asked_of, told_class
from reverie.evaluate import impute as imputing
from reverie.masking import known_cells, soft_view
from reverie.trained import Trained


class Completed(NamedTuple):
    """Rows filled in, all in the file's own units and of shape (n, *shape).

    Attributes:
        rows: with no cell missing that the model can fill in.
        given: as the model was given them; NaN is missing.
        truth: as they were brought; NaN where that is not known either.
    """

    rows: np.ndarray
    given: np.ndarray
    truth: np.ndarray

    def looks(self) -> dict[str, np.ndarray]:
        """Return what is to be seen of each row side by side; the truth only where some of what was hidden is known."""
        shown = {"known (what is not: amber)": self.given, "filled in": self.rows}
        hidden = np.isnan(self.given) & ~np.isnan(self.truth)
        return {**shown, "truth": self.truth} if hidden.any() else shown


def impute(
    run: Trained,
    x: Any,
    mask: Any = None,
    *,
    iterations: int = 100,
    seed: int = 0,
    label: str | int | None = None,
    draw: bool = False,
) -> np.ndarray:
    """Return x with its missing cells filled in by the model's means, shape (n, *shape), in the file's own units.

    Args:
        x: a file or array; NaN is missing.
        mask: True where a cell is known (array, or a file of 0 and 1), or a rule (``drop:0.6``, ``rect:12``,
            ``half``, ``nan``); None is ``nan``.
        iterations: of decoding one's own guess; sweeps of an energy with the known cells held, the second half of
            which are averaged; a model that has the law of any cells given any others takes one.
        seed: of the start and the draws.
        label: class of the rows (class-conditional models, which need it).
        draw: fill in one draw of all missing cells together, not their means (models that have their law).
    """
    return completed(run, x, mask, iterations=iterations, seed=seed, label=label, draw=draw).rows


def completed(
    run: Trained,
    x: Any,
    mask: Any = None,
    *,
    iterations: int = 100,
    seed: int = 0,
    label: str | int | None = None,
    draw: bool = False,
) -> Completed:
    """Return rows with their missing cells filled in, beside what was given and what is true; see `impute`."""
    asking.need(run, "impute")
    (model, label), data = asked_of(run, label), run.facts
    stored = np.asarray(data.like(x))
    rows, told = soft_view(data, stored), told_class(run, len(stored), label, "impute")
    # The model never sees a constant column, but what was given of it is known all the same.
    known = known_cells(mask, np.where(data.constant, stored, rows), data, seed)
    found = imputing.impute(
        model, rows, known, iterations=iterations, seed=seed, given=told, levels=data.levels,
        centre=imputing.centre_of(data), draw=draw,
    )  # fmt: skip
    truth = stored.astype(np.float64)
    given = np.where(known, truth, np.nan)
    # What was known comes back as it was given, not through scaling and back.
    filled = np.where(np.isnan(given), data.restore(found.filled), given)
    return Completed(*(part.reshape(-1, *data.shape) for part in (filled, given, truth)))
