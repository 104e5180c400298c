r"""Class-conditional models: what they are conditioned on, and their marginal.

.. math:: \log p(x) = \log \sum_y p(y)\, p(x \mid y)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from reverie.errors import ReverieError
from reverie.evaluate.rows import RowResult, Sweep


def classes_of(model: Any) -> int:
    """Return the number of classes `model` must be told one of, 0 for none."""
    return int(model.classes) if getattr(model, "conditional", False) else 0


def conditioning(
    model: Any, n: int, given: np.ndarray | None, class_prior: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return (what rows are conditioned on, the prior over classes to sum over), one of them or both None.

    Raises:
        ReverieError: when they do not fit the model or the rows.
    """
    classes = classes_of(model)
    if not classes:
        if given is not None:
            raise ReverieError("given: this model is not class-conditional; leave it out")
        return None, None
    if given is not None:
        given = np.asarray(given, np.float32)
        if given.shape != (n, classes):
            raise ReverieError(f"given: shape {given.shape} is not ({n}, {classes}); give a one-hot class for each row")
        return given, None
    prior = np.full(classes, 1.0 / classes) if class_prior is None else np.asarray(class_prior, np.float64)
    if prior.shape != (classes,) or (prior < 0).any() or not np.isclose(prior.sum(), 1.0):
        raise ReverieError(f"class_prior: give {classes} frequencies that sum to 1")
    return None, prior


def result_of(sweep: Sweep, prior: Float[np.ndarray, " C"] | None, samples: int, estimator: str) -> RowResult:
    """Walk over the rows, and over the classes of each where there is a `prior`."""
    indices, arrays = sweep.run()
    found = {name: np.asarray(a, np.float64) for name, a in arrays.items()}
    by_class = None if prior is None else found["values"]
    if prior is not None:
        found = marginal(found, prior)
    rest = {name: a for name, a in found.items() if name not in ("values", "variances", "ess")}
    return RowResult(
        found["values"], found["variances"], found["ess"], indices, samples, estimator, sweep.seed, len(sweep.rows),
        by_class=by_class, info=rest,
    )  # fmt: skip


def marginal(found: dict[str, np.ndarray], prior: Float[np.ndarray, " C"]) -> dict[str, np.ndarray]:
    r"""Return the arrays of :math:`\log \sum_y p(y) p(x \mid y)` from those of each class, shape ``(m, C)``.

    The classes share their random numbers, so that their errors are taken to add up in full (an upper estimate):
    :math:`\mathrm{sd} = \sum_y p(y \mid x)\,\mathrm{sd}_y`.
    """
    with np.errstate(divide="ignore"):
        joint = found["values"] + np.log(np.asarray(prior, np.float64))
    values = logsumexp(joint, axis=1)
    posterior = np.exp(joint - values[:, None])
    spread = (posterior * np.sqrt(found["variances"])).sum(axis=1)
    rest = {name: (posterior * a).sum(axis=1) for name, a in found.items() if name not in ("values", "variances")}
    return {**rest, "values": values, "variances": spread**2}


def one_hot(labels: np.ndarray | None, classes: int) -> Float[np.ndarray, "n C"]:
    """Return one-hot classes.

    Raises:
        ReverieError: without labels.
    """
    if labels is None:
        raise ReverieError(
            "labels: the rows have no classes, and this model is class-conditional; give data with labels"
        )
    return np.eye(classes, dtype=np.float32)[np.asarray(labels, np.int64)]
