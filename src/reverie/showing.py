"""Rows of a run as pictures show them: which, told which class, and as what greys."""

from __future__ import annotations

import numpy as np

from reverie.errors import ReverieError
from reverie.trained import Trained

#: Training rows whose least and greatest values are black and white.
_LOOKED_AT = 1000


def shown(run: Trained, n: int, split: str = "test") -> tuple[np.ndarray, np.ndarray | None]:
    """Return the first n rows of a split in the model's units, and their one-hot classes if the model needs them."""
    rows, labels = run.data.rows(split, 0, n), run.data.labels(split, 0, n)
    if not getattr(run.model, "conditional", False) or labels is None:
        return rows, None
    return rows, np.eye(run.data.classes, dtype=np.float32)[labels]


def display(run: Trained, rows: np.ndarray) -> np.ndarray:
    """Return model rows as greys in [0, 1] for pictures; tables stay in the model's units."""
    data = run.facts
    if data.likelihood == "bernoulli":
        return np.clip(rows, 0.0, 1.0)
    if data.likelihood == "categorical":
        return rows / max(data.levels - 1, 1)
    if len(data.shape) < 2:
        return rows
    low, high = _range(run)
    return np.clip((data.restore(rows) - low) / (high - low), 0.0, 1.0)


def limits(run: Trained) -> tuple[float, float] | None:
    """Return which values of images are black and white, in the file's units, as the report has them.

    None for other rows, and where training data of real values are gone: pictures then go from their least to their
    greatest.
    """
    data = run.facts
    if len(data.shape) < 2:
        return None
    if data.likelihood != "gaussian":
        # Ends of the scale, whatever was drawn: stretched, a pale picture would look like a good one.
        ends = np.array([0.0, 1.0 if data.likelihood == "bernoulli" else max(data.levels - 1, 1)])
        low, high = data.restore(np.repeat(ends[:, None], data.width, axis=1))[:, 0]
        return float(low), float(high)
    try:
        return _range(run)
    except ReverieError:
        return None


def _range(run: Trained) -> tuple[float, float]:
    stored = np.asarray(run.data.splits["train"].x[:_LOOKED_AT], np.float64)
    low, high = float(np.nanmin(stored)), float(np.nanmax(stored))
    return low, high if high > low else low + 1.0
