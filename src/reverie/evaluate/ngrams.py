r"""The best that anything can foretell of dynamic n-grams: the Bayesian predictor that knows how they are drawn.

Each context c of five bits has a chance of its own from Beta(1/2, 1/2), so that, after :math:`n_0` zeros and
:math:`n_1` ones in it,

.. math:: P(1 \mid c) = \frac{n_1(c) + 1/2}{n_0(c) + n_1(c) + 1} .

References: Graves, Wayne & Danihelka, *Neural Turing Machines*, 2014; Murphy, *Machine Learning*, 2012, 3.3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from reverie.estimate import Estimate

#: The task, the name of the record, and bits of a context.
TASK, NAME, CONTEXT = "dynamic-ngrams", "optimal_bits", 5


def optimal_bits(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
    """Return what the predictor pays, in bits, for the bits of each sequence that follow five others.

    Args:
        rows: sequences of the task, flat: a bit that is heard and the one that follows it, for each step.
    """
    steps = np.asarray(rows, np.float64).reshape(len(rows), -1, 2)
    bits = np.concatenate([steps[:, :, 0], steps[:, -1:, 1]], axis=1).astype(int)
    counts, cost, every = np.full((len(rows), 2**CONTEXT, 2), 0.5), np.zeros(len(rows)), np.arange(len(rows))
    for t in range(CONTEXT, bits.shape[1]):
        context = bits[:, t - CONTEXT : t] @ (2 ** np.arange(CONTEXT)[::-1])
        seen = counts[every, context]
        cost -= np.log2(seen[every, bits[:, t]] / seen.sum(axis=1))
        counts[every, context, bits[:, t]] += 1.0
    return cost


def beside(rows: Float[np.ndarray, "n D"], record: Estimate) -> dict[str, Estimate]:
    """Return the predictor's record on the rows of a model's `record`."""
    return {
        NAME: Estimate.of_rows(
            optimal_bits(rows), kind="exact", estimator="bayes", unit="bits", binarisation=record.binarisation,
            split=record.split, data_hash=record.data_hash, rows_of=record.rows_of,
            note="no model pays less on average; it knows how the sequences are drawn",
        )
    }  # fmt: skip
