r"""Principal components beside a model that gives rows back: as many as its code has numbers.

.. math:: \hat x = \bar x + P P^\top (x - \bar x), \qquad \sum_i (x_i - \hat x_i)^2,

P the leading eigenvectors of the training rows' covariance: of all linear codes of that length the one with the least
squared error on them.  No number of a nonlinear code is worth much that does not stand beside it.

Reference: Hinton & Salakhutdinov, *Reducing the Dimensionality of Data with Neural Networks*, 2006.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from reverie.data.dataset import Dataset
from reverie.estimate import Estimate

#: The metric that components can be put beside, what theirs is called, and training rows they are fitted to.
METRIC, BESIDE, FITTED = "squared_error", "pca_squared_error", 60_000


def beside(model: Any, data: Dataset, rows: Float[np.ndarray, "m D"], record: Estimate) -> dict[str, Estimate]:
    """Return the squared error of principal components on the same rows, and both records with what a cell is."""
    count = min(int(model.components), data.width, data.size("train"))
    values = ((np.nan_to_num(rows) - rebuilt(data, rows, count)) ** 2).sum(axis=1, dtype=np.float64)
    words = f"summed over the {data.width:,} cells of a row; {cells(data)}"
    linear = Estimate.of_rows(
        values, kind="exact", estimator=f"pca-{count}",
        note=f"{words}; {count} principal components of {min(FITTED, data.size('train')):,} training rows",
    )  # fmt: skip
    rest = ("unit", "binarisation", "split", "data_hash", "rows_of")
    linear = dataclasses.replace(linear, **{name: getattr(record, name) for name in rest})
    return {METRIC: dataclasses.replace(record, note=words), BESIDE: linear}


def cells(data: Dataset) -> str:
    """Return in which units a cell is."""
    if data.likelihood == "gaussian":
        one = "one" if np.ndim(data.scale) == 0 else "its column's"
        return f"a cell is the stored value less the training rows' mean, divided by {one} standard deviation"
    if data.binarisation != "means":
        return f"cells are 0 or 1 (binarisation: {data.binarisation})"
    return f"a cell is the stored value divided by {float(np.max(data.scale)):g}, from 0 to 1"


def rebuilt(data: Dataset, rows: Float[np.ndarray, "m D"], count: int) -> Float[np.ndarray, "m D"]:
    """Return rows in the model's units from so many principal components of the training rows."""
    fitted = _fitted(_Key(data), count)
    return fitted.inverse_transform(fitted.transform(np.nan_to_num(rows).astype(np.float64)))


class _Key:
    """Training rows, known by their hash and how they are taken."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.name = data, (data.hash, data.binarisation, data.likelihood)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.name == other.name


@lru_cache(maxsize=2)
def _fitted(key: _Key, count: int) -> Any:
    from sklearn.decomposition import PCA

    rows = np.nan_to_num(key.data.rows("train", 0, FITTED)).astype(np.float64)
    return PCA(count, svd_solver="covariance_eigh" if len(rows) > key.data.width else "full").fit(rows)
