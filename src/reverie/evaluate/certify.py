"""From per-row values to certified numbers: averages, errors, units, and what a reader must be told besides."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.rows import RowResult

#: Below so many effective samples a bound says little about how far it is from the likelihood.
LOW_ESS = 5.0


def certify(
    result: RowResult,
    data: Dataset,
    split: str,
    *,
    note: str | None = None,
    indices: Int[np.ndarray, " n"] | None = None,
) -> Estimate:
    """Return the mean of per-row values with its certificate, in the file's own units.

    Args:
        result: of `likelihood.importance`, `likelihood.elbo` or `annealed.annealed`.
        data, split: what the rows are of.
        note: what a reader must know besides.
        indices: which rows of the split were handed in, where it was not all of them.

    Raises:
        ReverieError: when a value is not a number, which names the first such row.
    """
    result = in_file_units(at(result, indices, data.size(split)), data, split)
    require_numbers(result)
    return Estimate.of_rows(
        result.values,
        row_variances=result.variances,
        kind=result.kind,
        estimator=result.estimator,
        measure=data.measure,
        binarisation=data.binarisation,
        split=split,
        data_hash=data.hash,
        seed=result.seed,
        rows_of=result.rows_of if len(result.values) < result.rows_of else None,
        note=_joined(note, result.note, low_ess(result)),
    )


def at(result: RowResult, indices: np.ndarray | None, size: int) -> RowResult:
    """Return `result` with indices into the split, when rows `indices` of its `size` were handed in."""
    if indices is None:
        return result
    return dataclasses.replace(result, indices=np.asarray(indices)[result.indices], rows_of=size)


def in_file_units(result: RowResult, data: Dataset, split: str) -> RowResult:
    r"""Return `result` as densities in the file's own units: :math:`\log p - \sum_d \log s_d` over the cells there."""
    if result.units == "file" or data.measure == "mass":
        return dataclasses.replace(result, units="file")
    shift = log_scales(data, data.rows(split)[result.indices]) if data.missing else data.log_scale
    by_class = None if result.by_class is None else result.by_class - np.reshape(shift, (-1, 1))
    return dataclasses.replace(result, values=result.values - shift, by_class=by_class, units="file")


def log_scales(data: Dataset, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
    """Return the sum of log scales over the observed cells of each row; 0 for discrete data."""
    if data.measure == "mass":
        return np.zeros(len(rows))
    return np.where(np.isnan(rows), 0.0, data.log_scales).sum(axis=1)


def with_known(data: Dataset, split: str, index: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Return those of rows `index` of a split in which a cell is known; of the others there is nothing to be said.

    Raises:
        ReverieError: where there is none.
    """
    if not data.missing or data.whole:
        return index
    known = np.concatenate([~np.isnan(rows).all(axis=1) for rows, _ in data.blocks(split, 1000)])
    if not known[index].any():
        raise ReverieError(f"{data.name}: none of {len(index):,} {split} rows has a known cell; fill some in")
    return index[known[index]]


def left_out(blank: int, total: int) -> str | None:
    """Return what is said of rows without a known cell, None where there is none."""
    return f"{blank:,} of {total:,} rows have no known cell: they are not in the mean" if blank else None


def require_numbers(result: RowResult) -> None:
    """Refuse values that are NaN.

    Raises:
        ReverieError: naming the first such row.
    """
    bad = np.flatnonzero(np.isnan(result.values))
    if bad.size:
        first = int(result.indices[bad[0]]) + 1
        raise ReverieError(
            f"log-likelihood: {bad.size} of {len(result.values)} rows (first: row {first}) are not a number; "
            "look for NaN in the data (use a model for missing cells) or in the weights"
        )


def low_ess(result: RowResult) -> str | None:
    """Return a warning when the weights of most draws count for nothing."""
    mean = float(np.mean(result.ess))
    if mean >= LOW_ESS or result.samples <= LOW_ESS:
        return None
    return (
        f"effective sample size {mean:.1f} of {result.samples}: the bound may be loose; "
        "use more samples or annealed importance sampling"
    )


def _joined(*notes: str | None) -> str | None:
    return "; ".join(n for n in notes if n) or None


def class_frequencies(data: Dataset) -> Float[np.ndarray, " C"]:
    """Return the frequencies of the classes among the training rows.

    Raises:
        ReverieError: without classes.
    """
    labels = data.labels("train")
    if labels is None or not data.classes:
        raise ReverieError(f"{data.name}: there are no classes to sum over; give data with labels")
    counts = np.bincount(np.asarray(labels, np.int64), minlength=data.classes)
    return counts / counts.sum()


def certify_classes(
    result: RowResult, data: Dataset, split: str, prior: Float[np.ndarray, " C"]
) -> dict[str, Estimate]:
    r"""Return the conditional log-likelihood and the error of :math:`\arg\max_y p(y)\,p(x \mid y)` on labelled rows.

    Args:
        result: of a class-conditional model, its indices into the split.
        prior: p(y), as the marginal was computed with.

    Raises:
        ReverieError: for a result without classes or a split without labels.
    """
    labels = data.labels(split)
    if result.by_class is None or labels is None:
        raise ReverieError("classes: a class-conditional model and labelled rows are needed")
    result = in_file_units(result, data, split)
    truth = np.asarray(labels, np.int64)[result.indices]
    own = result.by_class[np.arange(len(truth)), truth]  # type: ignore[index]
    with np.errstate(divide="ignore"):
        wrong = (result.by_class + np.log(prior)).argmax(axis=1) != truth
    # The bounds' errors are all but the same for every class: the random numbers are.
    given = certify(dataclasses.replace(result, values=own), data, split, note="log p(x given its class)")
    error = Estimate.of_rows(wrong, kind="estimate", estimator=f"argmax-{result.estimator}", unit="fraction")
    rest = ("binarisation", "split", "data_hash", "seed", "rows_of")
    error = dataclasses.replace(error, **{name: getattr(given, name) for name in rest})
    return {"conditional_log_likelihood": given, "classification_error": error}


def summary_of_seeds(estimates: Sequence[Estimate]) -> Estimate:
    r"""Return the mean over runs that differ in their seed, its standard error that of the runs, :math:`s/\sqrt r`.

    Raises:
        ReverieError: without an estimate, or for estimates of different things.
    """
    if not estimates:
        raise ReverieError("seeds: no runs to summarise")
    same = {(e.estimator, e.split, e.data_hash, e.binarisation, e.measure, e.n) for e in estimates}
    if len(same) > 1:
        raise ReverieError("seeds: the runs were evaluated differently; evaluate them alike first")
    values = np.asarray([e.value for e in estimates])
    own = np.asarray([e.monte_carlo_error for e in estimates]) ** 2
    mean = Estimate.of_rows(values, row_variances=own, kind=estimates[0].kind, estimator=estimates[0].estimator)
    note = f"mean of {len(values)} runs; its standard error is over runs, not over test rows"
    return dataclasses.replace(estimates[0], value=mean.value, standard_error=mean.standard_error,
                               monte_carlo_error=mean.monte_carlo_error, seed=None, note=note)  # fmt: skip


def log_posterior(by_class: Float[np.ndarray, "m C"], prior: Float[np.ndarray, " C"]) -> Float[np.ndarray, "m C"]:
    r"""Return :math:`\log p(y \mid x)` from :math:`\log p(x \mid y)` by Bayes' rule."""
    with np.errstate(divide="ignore"):
        joint = by_class + np.log(prior)
    return joint - logsumexp(joint, axis=1, keepdims=True)
