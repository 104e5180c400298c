r"""The log-likelihood of a formula: exact for every row, to rounding, with no draw at all.

Of a model whose law is a mixture of as many laws as one asks for (`Ensembles`: orderings of the cells), the mixture's,

.. math:: \log p(x) = \log \frac1O \sum_{o=1}^O p_o(x) \ge \frac1O \sum_{o=1}^O \log p_o(x),

which is a law of its own and exact all the same; by Jensen it scores no row lower than its members do on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from reverie.arrays import placed
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.classes import conditioning, result_of
from reverie.evaluate.likelihood import maybe, validating
from reverie.evaluate.rows import RowResult, Sweep, Watch, as_rows, fingerprint, on_device
from reverie.prob.abilities import Ensembles
from reverie.prob.contracts import Explicit, Given, Row

NAME = "exact"
#: Rows at once, always: a row's value does not depend on how many stand beside it.
_ROWS = 100


def exact(
    model: Explicit,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int | None = None,
    seed: int = 0,
    block: int | None = None,
    minutes: float | None = None,
    given: Float[np.ndarray, "n C"] | None = None,
    class_prior: Float[np.ndarray, " C"] | None = None,
    resume: Path | None = None,
    progress: Watch | None = None,
) -> RowResult:
    r"""Return :math:`\log p(x)` of each row, in nats.

    Args:
        model: one example at a time.
        rows: in the model's units, shape ``(n, D)``.
        samples: members of an ensemble (default: as many as the model has); of other models no number of draws makes
            what is exact any better: it is left out of account, and the note says so.
        seed: of the order in which rows are visited, nothing else.
        block: rows at a time.
        minutes: stop after so long; the rows done are a random part of all.
        given: one-hot classes, for log p(x given class) of a class-conditional model.
        class_prior: p(y), for its marginal (default: uniform).
        resume: file of partial results (.npz).
        progress: called with the number of rows done, and their mean as `value`.

    Raises:
        ReverieError: for rows of a wrong shape, or a number that makes no sense.
    """
    if samples is not None and samples < 1:
        raise ReverieError(f"samples: {samples} is not a number of members; give 1 or more, or leave it out")
    several, note = samples is not None and isinstance(model, Ensembles), _note(model, samples)
    rows, model = as_rows(rows), on_device(model.ensemble(samples) if several else model)  # type: ignore[attr-defined]
    given, prior = conditioning(model, len(rows), given, class_prior)
    name = f"{NAME}-{samples}" if several else NAME

    def score(x: np.ndarray, y: np.ndarray | None, words: np.ndarray) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            values = np.asarray(_block(model, placed(x), maybe(y)))
        return {"values": values, "variances": np.zeros_like(values), "ess": np.ones_like(values)}

    sweep = Sweep(
        score, rows, given, _ROWS if block is None else block, seed, fingerprint(model, rows, name, seed, given),
        resume, minutes, progress, 0 if prior is None else len(prior),
    )  # fmt: skip
    return replace(result_of(sweep, prior, 1, name), kind="exact", note=note)


def _note(model: Explicit, samples: int | None) -> str | None:
    """Return which law the number is of, where there are several, or that there are none to ask for."""
    if not isinstance(model, Ensembles):
        return None if samples is None else "samples change nothing: the likelihood is one formula, without draws"
    own = int(model.members)
    n = own if samples is None else samples
    if n > 1:
        return f"equal mixture of {n} orders of the cells"
    return f"one order of the cells alone, where evaluate mixes {own}" if own > 1 else None


@eqx.filter_jit
def _block(model: Explicit, rows: Array, given: Array | None) -> Array:
    def one(x: Row, y: Given) -> Array:
        return model.log_prob(x, y)

    return jax.vmap(one, in_axes=(0, None if given is None else 0))(rows, given)


def validator(rows: int = 10_000, samples: int | None = None) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate``: the exact log-likelihood of validation rows.

    Args:
        rows: at most so many, chosen at random once and for all.
        samples: members of an ensemble.
    """
    return validating(partial(exact, samples=samples), rows, 0)
