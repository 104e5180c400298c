r"""The least a model must beat: columns that know nothing of each other.

.. math:: \log p(x) = \sum_d \log p_d(x_d), \qquad p_d \text{ fitted to column d of the training rows},

a Bernoulli or categorical law with one pseudo-count for each value (so that no value is impossible), or a Gaussian; of
mixed columns each its own.
Of word counts it is the unigram model: words drawn one by one from their frequencies in the training documents (each
seen once more), given how many there are; its log-likelihood is of the counts, with the multinomial coefficient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from reverie.data.dataset import Dataset
from reverie.estimate import Estimate
from reverie.evaluate.certify import log_scales, with_known

Law = Callable[[np.ndarray], np.ndarray]
_BLOCK = 1000


def independent_baseline(data: Dataset, split: str = "test") -> Estimate:
    """Return the exact mean log-likelihood of a split under independent columns, in the file's own units.

    Missing cells are left out, in training and in scoring, and rows in which there is no other.
    """
    size = data.size(split)
    known = with_known(data, split, np.arange(size))
    return Estimate.of_rows(
        independent_rows(data, split)[known], kind="exact", estimator="independent-columns", measure=data.measure,
        binarisation=data.binarisation, split=split, data_hash=data.hash, rows_of=size if len(known) < size else None,
    )  # fmt: skip


def independent_rows(data: Dataset, split: str = "test") -> Float[np.ndarray, " n"]:
    """Return the exact log-likelihood of each row of a split under independent columns, in the file's own units."""
    laws: dict[str, Callable[[Dataset], Law]] = {
        "bernoulli": _Bernoulli,
        "gaussian": _Gaussian,
        "categorical": _Categorical,
        "counts": _Counts,
        "mixed": _Mixed,
    }
    score = laws[data.likelihood](data)
    values = [score(rows.astype(np.float64)) - log_scales(data, rows) for rows, _ in data.blocks(split, _BLOCK)]
    return np.concatenate(values)


class _Bernoulli:
    def __init__(self, data: Dataset) -> None:
        n = data.size("train")
        p = (n * np.clip(self.means(data), 0.0, 1.0) + 1.0) / (n + 2.0)
        self.log_one, self.log_zero = np.log(p), np.log1p(-p)

    @staticmethod
    def means(data: Dataset) -> Float[np.ndarray, " D"]:
        # Grey rows binarised at a threshold have other means than the grey itself.
        if data.binarisation != "threshold":
            return data.mean
        total, seen = np.zeros(data.width), np.zeros(data.width)
        for rows, _ in data.blocks("train", _BLOCK):
            total, seen = total + np.nansum(rows, axis=0, dtype=np.float64), seen + (~np.isnan(rows)).sum(axis=0)
        return total / np.maximum(seen, 1)

    def __call__(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return np.where(np.isnan(x), 0.0, x * self.log_one + (1.0 - x) * self.log_zero).sum(axis=1)


class _Gaussian:
    def __init__(self, data: Dataset) -> None:
        square, seen, self.mean = np.zeros(data.width), np.zeros(data.width), np.asarray(data.mean, np.float64)
        for rows, _ in data.blocks("train", _BLOCK):
            square += np.nansum((rows - self.mean) ** 2, axis=0, dtype=np.float64)
            seen += (~np.isnan(rows)).sum(axis=0)
        variance = square / np.maximum(seen, 1)
        # A constant column of a table is missing from every row; a pixel that never changes has no density, and what
        # is left of its variance is the rounding of float32.
        self.variance = np.where(variance > 1e-9, variance, 1.0)

    def cells(self, x: np.ndarray) -> Float[np.ndarray, "n D"]:
        cells = -0.5 * (np.log(2 * np.pi * self.variance) + (x - self.mean) ** 2 / self.variance)
        return np.where(np.isnan(x), 0.0, cells)

    def __call__(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return self.cells(x).sum(axis=1)


class _Categorical:
    def __init__(self, data: Dataset) -> None:
        levels = np.asarray(data.column_levels)[:, None]
        counts = data.level_counts + (np.arange(data.level_counts.shape[1]) < levels)
        self.table = np.log(np.maximum(counts, 1) / np.maximum(counts.sum(axis=1, keepdims=True), 1))

    def cells(self, x: np.ndarray) -> Float[np.ndarray, "n D"]:
        # Of numbers, which have no code, any will do.
        codes = np.clip(np.nan_to_num(x), 0, self.table.shape[1] - 1).astype(np.int64)
        return np.where(np.isnan(x), 0.0, self.table[np.arange(x.shape[1]), codes])

    def __call__(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return self.cells(x).sum(axis=1)


class _Mixed:
    def __init__(self, data: Dataset) -> None:
        self.coded = np.asarray(data.column_levels) > 0
        self.numbers = _Gaussian(data)
        self.names = _Categorical(data) if self.coded.any() else None

    def __call__(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        cells = self.numbers.cells(x)
        if self.names is not None:
            cells = np.where(self.coded, self.names.cells(x), cells)
        return cells.sum(axis=1)


class _Counts:
    def __init__(self, data: Dataset) -> None:
        seen = data.mean * data.size("train") + 1.0
        self.log_p = np.log(seen / seen.sum())

    def __call__(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return gammaln(x.sum(axis=1) + 1.0) - gammaln(x + 1.0).sum(axis=1) + x @ self.log_p
