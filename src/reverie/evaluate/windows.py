r"""Sums of Gaussian windows, exact to a thousandth of a nat at the speed of one float32 matrix product.

.. math:: \log \hat p(x) = \log \frac1N \sum_{s=1}^N e^{-\|x - \mu_s\|^2 / 2\sigma^2} - D \log(\sigma \sqrt{2\pi})

With everything centred, :math:`-\|x - \mu\|^2/2 = x^\top\mu - \|\mu\|^2/2 - \|x\|^2/2`: one product for a tile of rows
and windows, which serves every bandwidth.

Trap: float32 sums of 784 products are off by some 1e-5, and :math:`1/\sigma^2` (100 at :math:`\sigma = 0.1`) makes that
milli-nats, or, where norms are large, nats.  Centring alone does not help: near pairs are those whose product is
large.  So the few windows that make up a row's sum (a share over `SHARE`, or that might have one) are computed again
from the difference of the two rows, where nothing cancels, and put in place of what the product said; the errors of
all others are weighed by their small shares and average out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

#: Rows and windows of a tile; pairs that are computed again at once.
ROWS, WINDOWS, _PAIRS = 500, 5000, 4096
#: Windows with more than this share of a row's sum are computed again, where doubt (in nats) is over `DOUBT`.
SHARE, DOUBT = 1e-3, 1e-4
_EPSILON = 8 * float(np.finfo(np.float32).eps)


class Windows:
    """What N windows, added block after block, say of n rows, for several bandwidths at once.

    Memory: the rows, 1 + B numbers each, a tile and a block of windows, whatever N is.
    """

    def __init__(self, rows: Float[np.ndarray, "n D"], bandwidths: Float[np.ndarray, " B"]) -> None:
        self.rows, self.precisions = rows, 1.0 / np.asarray(bandwidths, np.float64) ** 2
        self.centre = np.mean(rows, axis=0, dtype=np.float64).astype(np.float32)
        self.top = np.full(len(rows), -np.inf, np.float32)
        self.sums = np.zeros((len(rows), len(self.precisions)))
        self.count = 0

    def add(self, means: Float[np.ndarray, "m D"]) -> None:
        """Add windows around so many means."""
        pieces = -(-len(means) // WINDOWS)
        for block in np.array_split(np.asarray(means, np.float32), pieces):
            centred = block - self.centre
            half = _half_squares(centred)
            for start in range(0, len(self.rows), ROWS):
                self._tile(slice(start, start + ROWS), block, centred, half)
        self.count += len(means)

    def log_density(self) -> Float[np.ndarray, "n B"]:
        """Return the log-density of each row under each bandwidth, in nats, float64."""
        half = np.concatenate([_half_squares(self.rows[i : i + ROWS] - self.centre)
                               for i in range(0, len(self.rows), ROWS)])  # fmt: skip
        width = self.rows.shape[1]
        scale = np.log(self.count) + 0.5 * width * np.log(2 * np.pi / self.precisions)
        return (self.top - half)[:, None] * self.precisions + np.log(self.sums) - scale

    def _tile(self, part: slice, means: np.ndarray, centred: np.ndarray, half: np.ndarray) -> None:
        raw = np.asarray(self.rows[part], np.float32)
        x = raw - self.centre
        logs = x @ centred.T
        logs -= half.astype(np.float32)
        top = np.maximum(self.top[part], logs.max(axis=1))
        logs -= top[:, None]
        # What float32 may be wrong by in the products, before the precision multiplies it.
        doubt = _EPSILON * max(float(half.max()), float(_half_squares(x).max()))
        for b, precision in enumerate(self.precisions):
            terms = np.exp(logs * np.float32(precision))
            kept = self.sums[part, b] * np.exp((self.top[part] - top) * precision)
            total = kept + terms.sum(axis=1)
            if doubt * precision > DOUBT:
                slack = np.exp(-min(4 * doubt * precision, 60.0))
                rows, columns = np.divmod(np.flatnonzero(terms > (SHARE * slack * total)[:, None]), terms.shape[1])
                shift = (_half_squares(x) - top)[rows]
                exact = shift - _half_gaps(raw, means, rows, columns)
                total += np.bincount(rows, np.exp(exact * precision) - terms[rows, columns], len(x))
            self.sums[part, b] = total
        self.top[part] = top


def _half_squares(rows: np.ndarray) -> Float[np.ndarray, " n"]:
    return 0.5 * np.einsum("ij,ij->i", rows, rows, dtype=np.float64)


def _half_gaps(
    x: np.ndarray, means: np.ndarray, rows: Int[np.ndarray, " p"], columns: Int[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    r"""Return :math:`\|x - \mu\|^2/2` at some pairs, from the difference of the rows, where nothing cancels."""
    parts = [slice(start, start + _PAIRS) for start in range(0, len(rows), _PAIRS)]
    return np.concatenate([np.zeros(0), *(_half_squares(x[rows[p]] - means[columns[p]]) for p in parts)])


def log_density(
    rows: Float[np.ndarray, "n D"], means: Float[np.ndarray, "N D"], bandwidths: Float[np.ndarray, " B"]
) -> Float[np.ndarray, "n B"]:
    """Return the log-density of each row under windows of each bandwidth around `means`, in nats."""
    windows = Windows(rows, bandwidths)
    windows.add(means)
    return windows.log_density()
