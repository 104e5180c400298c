r"""How good filled-in cells are, and two ways to fill them in that know little: base rates and near rows.

On the missing cells alone: mean squared error, :math:`\mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}` dB for cells in
[0, 1], and the log-loss :math:`-x \log \hat x - (1 - x) \log(1 - \hat x)` in nats a cell, every :math:`\hat x` kept
within 0.001 of 0 and 1, as a method that is sure and wrong once would be infinitely bad.  Of mixed columns the squared
error is that of numbers, and of categories the share filled in wrongly is told; near rows and rates see an indicator
for each category.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

#: Neighbours, training rows they are looked for among, and how near to 0 and 1 a prediction may come.
NEIGHBOURS, AMONG, SURE = 10, 5000, 1e-3


class Quality(NamedTuple):
    """Of the filled-in cells: `psnr`, `log_loss` are NaN where cells are not in [0, 1], `wrong` without categories."""

    mse: float
    psnr: float
    log_loss: float
    wrong: float = np.nan


def quality(
    truth: Float[np.ndarray, "n D"], known: Bool[np.ndarray, "n D"], filled: Float[np.ndarray, "n D"], unit: bool
) -> Quality:
    """Return how good `filled` is on the cells that were not known; `unit` says that cells are in [0, 1]."""
    missing = ~known & ~np.isnan(truth)
    x, guess = truth[missing].astype(np.float64), filled[missing].astype(np.float64)
    if not x.size:
        return Quality(np.nan, np.nan, np.nan)
    mse = float(((x - guess) ** 2).mean())
    if not unit:
        return Quality(mse, np.nan, np.nan)
    safe = np.clip(guess, SURE, 1.0 - SURE)
    loss = -(x * np.log(safe) + (1.0 - x) * np.log1p(-safe))
    return Quality(mse, -10.0 * np.log10(max(mse, 1e-12)), float(loss.mean()))


def mixed_quality(
    truth: Float[np.ndarray, "n D"], known: Bool[np.ndarray, "n D"], filled: Float[np.ndarray, "n D"],
    levels: Sequence[int],
) -> Quality:  # fmt: skip
    """Return how good `filled` is where columns have so many categories, or are of numbers (0)."""
    coded = np.asarray(levels) > 0
    asked = ~known & ~np.isnan(truth) & coded
    wrong = float((truth != filled)[asked].mean()) if asked.any() else np.nan
    return quality(truth, known | coded, filled, False)._replace(wrong=wrong)


def indicators(rows: Float[np.ndarray, "n D"], levels: Sequence[int]) -> Float[np.ndarray, "n E"]:
    """Return rows with an indicator for each category in place of its code, NaN where it is missing."""
    parts = []
    for column, count in zip(rows.T, levels, strict=True):
        each = column[:, None] if not count else np.where(np.isnan(column)[:, None], np.nan,
                                                          column[:, None] == np.arange(count))  # fmt: skip
        parts.append(each)
    return np.concatenate(parts, axis=1)


def codes(rows: Float[np.ndarray, "n E"], levels: Sequence[int]) -> Float[np.ndarray, "n D"]:
    """Return rows of `indicators`, or of shares of categories, with the code of the largest."""
    ends = np.cumsum([max(count, 1) for count in levels])[:-1]
    parts = zip(np.split(rows, ends, axis=1), levels, strict=True)
    return np.stack([part.argmax(axis=1) if count else part[:, 0] for part, count in parts], axis=1)


def base_rates(
    train: Float[np.ndarray, "m D"], rows: Float[np.ndarray, "n D"], known: Bool[np.ndarray, "n D"]
) -> Float[np.ndarray, "n D"]:
    """Fill in each column's mean over the training rows."""
    return np.where(known, rows, _means(train))


def nearest_rows(
    train: Float[np.ndarray, "m D"],
    rows: Float[np.ndarray, "n D"],
    known: Bool[np.ndarray, "n D"],
    neighbours: int = NEIGHBOURS,
) -> Float[np.ndarray, "n D"]:
    """Fill in the mean of the training rows that are nearest on the known cells (Euclidean)."""
    train = np.where(np.isnan(train), _means(train), train).astype(np.float32)
    seen = np.where(known, np.nan_to_num(rows), 0.0).astype(np.float32)
    distances = known.astype(np.float32) @ (train**2).T - 2.0 * seen @ train.T
    count = min(neighbours, len(train))
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    return np.where(known, rows, train[nearest].mean(axis=1))


def _means(train: Float[np.ndarray, "m D"]) -> Float[np.ndarray, " D"]:
    there = ~np.isnan(train)
    return np.nan_to_num(train).sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)
