"""How good a model is on a split, or on rows of one's own: estimators joined with a data set."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reverie.data.dataset import EVALUATION_SEED, Dataset
from reverie.errors import ReverieError, an, nearest
from reverie.estimate import Estimate
from reverie.evaluate import annealed, energy, explicit, lengths, likelihood, observed, parzen, prior_sampling
from reverie.evaluate.certify import (
    at,
    certify,
    certify_classes,
    class_frequencies,
    in_file_units,
    left_out,
    log_scales,
    require_numbers,
    with_known,
)
from reverie.evaluate.classes import classes_of
from reverie.evaluate.observed import Observed
from reverie.evaluate.rows import RowResult, Watch, as_rows, row_words, visiting_order
from reverie.evaluate.task import ESTIMATOR, Telling, evaluate_task
from reverie.prob.abilities import Tells
from reverie.prob.contracts import Energy, Explicit, Implicit, Judged, Marginal, OfLengths, Topped

#: By contract: of a row's own latents (`Latent`), of the partition function (`Energy`), or of nothing (`Explicit`).
LATENT: dict[str, Callable[..., RowResult]] = {
    "importance": likelihood.importance,
    "elbo": likelihood.elbo,
    "ais": annealed.annealed,
    prior_sampling.NAME: prior_sampling.prior,
}
ENERGY: dict[str, Callable[..., RowResult]] = {
    "exact": partial(energy.annealed_energy, exact=True),
    "ais": partial(energy.annealed_energy, exact=False),
}
#: Of a formula.
EXPLICIT: dict[str, Callable[..., RowResult]] = {explicit.NAME: explicit.exact}
#: Of documents of many lengths, each with a partition function of its own.
LENGTHS: dict[str, Callable[..., RowResult]] = {
    "exact": partial(lengths.annealed_lengths, exact=True),
    "ais": partial(lengths.annealed_lengths, exact=False),
}
#: Of generators whose law is no formula: windows around what they generate, and annealing through noise around it.
IMPLICIT: dict[str, Callable[..., Any]] = {parzen.NAME: parzen.evaluate_parzen, "ais": annealed.annealed}
#: Draws (chains, windows) per row, unless another number is asked for.
SAMPLES = {"importance": 1000, "elbo": 100, "ais": 16, prior_sampling.NAME: 10_000, parzen.NAME: parzen.SAMPLES}
#: Rows of a split that does not fit in memory, unless another number is asked for.
MOST_ROWS = 10_000


def evaluate(
    model: Any,
    data: Dataset,
    split: str = "test",
    *,
    estimator: str | None = None,
    samples: int | None = None,
    rows: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    resume: Path | None = None,
    progress: Watch | None = None,
    **more: Any,
) -> tuple[dict[str, Estimate], RowResult]:
    """Return the certified numbers of a model on a split, and the per-row values for the run folder.

    Args:
        split: ``train``, ``valid`` or ``test``.
        estimator: ``importance``, ``elbo`` or ``ais`` of a model with latents; ``exact`` or ``ais`` of an energy;
            ``exact`` of a formula; ``parzen`` of whatever generates, or ``ais`` with a ``variance`` (default: the first
            that the model allows).
        samples: draws per row (chains of ``ais``, windows of ``parzen``, orderings of an ensemble's ``exact``).
        rows: score so many rows, chosen at random by `seed`; a smaller number chooses some of a larger one's.
        minutes: stop after so long; the record then says how many rows were done.
        resume: file of partial results, to be given again to go on.
        more: further arguments of the estimator, such as ``temperatures`` of ``ais``.

    Returns:
        ``log_likelihood`` (of the marginal, for a class-conditional model, which then also has
        ``conditional_log_likelihood`` and ``classification_error`` on labelled rows; a joint
        model of rows and classes the error and its ``cross_entropy``); values by ascending index into the split, in
        the file's own units.  Of a model judged by its task: its metrics, and the first one's values.  By windows:
        ``parzen``, which is no log-likelihood; through noise around a generator: ``noisy_log_likelihood``.

    Raises:
        ReverieError: for an unknown split or estimator, or numbers that make no sense.
    """
    estimator = check(model, data, split, estimator, rows)
    _require_known(model, estimator, more)
    size, (chosen, blank) = data.size(split), judged_rows(data, split, rows, seed)
    if isinstance(model, Judged):
        if samples is not None:
            raise ReverieError(f"samples: {an(type(model).__name__)} draws none to be judged; leave it out")
        return evaluate_task(model, data, split, gather(data, split, chosen), chosen, progress)
    if estimator == parzen.NAME:
        _untimed(minutes)
        data = parzen.judged_view(data)
        number: dict[str, Any] = {} if samples is None else {"samples": samples}
        return parzen.evaluate_parzen(
            model, data, split, gather(data, split, chosen), chosen, seed=seed, watch=progress, **number, **more
        )
    model = observed.taken(model, data, estimator, more, seed)
    data = parzen.judged_view(data) if isinstance(model, Observed) else data
    prior = class_frequencies(data) if classes_of(model) else None
    result = estimators(model)[estimator](
        model, gather(data, split, chosen), **_samples(model, estimator, samples), seed=seed, minutes=minutes,
        class_prior=prior, resume=resume, progress=progress, **more,
    )  # fmt: skip
    result = in_file_units(at(result, chosen, size), data, split)
    if isinstance(model, Observed):
        result = dataclasses.replace(result, estimator=observed.named(model, result.estimator))
        return observed.certified(certify(result, data, split, note=blank), model), result
    if isinstance(model, OfLengths):
        return lengths.records(result, data, split, gather(data, split, chosen)), result
    certificate = energy.certify_energy if isinstance(model, Energy) else certify
    records = {"log_likelihood": certificate(result, data, split, note=blank)}
    if prior is not None and data.labels(split) is not None:
        records |= certify_classes(result, data, split, prior)
    if isinstance(model, Tells) and data.labels(split) is not None:
        records |= evaluate_task(Telling(model), data, split, gather(data, split, chosen), chosen)[0]
    return records, result


def judged_rows(data: Dataset, split: str, rows: int | None, seed: int) -> tuple[Int[np.ndarray, " n"], str | None]:
    """Return which rows of a split are judged, and what is said of those that cannot be, having no known cell."""
    size = data.size(split)
    limit = rows if rows is not None else (size if data.resident else MOST_ROWS)
    chosen = np.sort(visiting_order(size, seed)[:limit])
    known = with_known(data, split, chosen)
    return known, left_out(len(chosen) - len(known), len(chosen))


def _require_known(model: Any, estimator: str, more: Mapping[str, Any]) -> None:
    """Refuse an argument that an estimator does not take; annealing of decoders has a plan of its own to refuse by."""
    taken = inspect.signature(estimators(model)[estimator]).parameters
    if any(name in ("plan", "more") for name in taken):
        return
    for name in more:
        if name not in taken:
            raise ReverieError(f"{name}: {estimator} of {an(type(model).__name__)} does not take it; leave it out")


def most_work(model: Energy, more: Mapping[str, Any]) -> int:
    """Return how many temperatures the sides of log Z take at most: each path is as long as all before it."""
    if isinstance(model, OfLengths) and lengths.countable(model):
        return 100
    plan = energy.Plan(**{name: value for name, value in more.items() if name == "temperatures"})
    sides = 3 if isinstance(model, Marginal) else 2
    return sides * (2 * max(plan.most, plan.temperatures) - plan.temperatures)


def estimators(model: Any) -> dict[str, Callable[..., Any]]:
    """Return what can estimate a model's log-likelihood (or judge it by its task), by name."""
    if isinstance(model, Judged):
        return {ESTIMATOR: evaluate_task}
    if isinstance(model, OfLengths):
        return LENGTHS
    if isinstance(model, Implicit):
        return IMPLICIT
    windows = {parzen.NAME: parzen.evaluate_parzen}
    if isinstance(model, Topped):
        return {**ENERGY, "importance": energy.annealed_energy, **windows}
    if isinstance(model, Explicit):
        return {**EXPLICIT, **windows}
    return {**(ENERGY if isinstance(model, Energy) else LATENT), **windows}


def default_estimator(model: Any) -> str:
    """Return the estimator that is used where none is asked for."""
    if isinstance(model, Energy):
        counts = lengths.countable if isinstance(model, OfLengths) else energy.countable
        return "exact" if counts(model) else "ais"
    if isinstance(model, Implicit):
        return parzen.NAME
    if isinstance(model, Explicit):
        return explicit.NAME
    return ESTIMATOR if isinstance(model, Judged) else "importance"


def _untimed(minutes: float | None) -> None:
    if minutes is not None:
        raise ReverieError(
            f"minutes: {parzen.NAME} does all rows at once and takes none; give fewer --samples or --rows"
        )


def _samples(model: Any, estimator: str, samples: int | None) -> dict[str, int | None]:
    if isinstance(model, Topped) and estimator == "importance":
        return {"importance": SAMPLES[estimator] if samples is None else samples}
    if isinstance(model, Energy):
        return {} if samples is None else {"chains": samples}
    if isinstance(model, Explicit):
        return {"samples": samples}
    number = SAMPLES[estimator] if samples is None else samples
    return {"chains" if estimator == "ais" else "samples": number}


def check(model: Any, data: Dataset, split: str, estimator: str | None, rows: int | None) -> str:
    """Refuse what cannot be evaluated, before anything is computed; return the estimator that will be used."""
    if isinstance(model, Judged) and estimator not in (None, ESTIMATOR):
        raise ReverieError(
            f"estimator: {an(type(model).__name__)} is judged by {', '.join(model.metrics)}, not by a likelihood; "
            "leave it out"
        )
    estimator, known = estimator or default_estimator(model), estimators(model)
    if estimator not in known:
        raise ReverieError(f"estimator: {estimator!r} is not one of {', '.join(known)}{nearest(estimator, known)}")
    if split not in data.splits:
        raise ReverieError(f"split: {split!r} is not one of {', '.join(data.splits)}{nearest(split, data.splits)}")
    if rows is not None and rows < 1:
        raise ReverieError(f"rows: {rows} is not a number of rows; give 1 or more")
    return estimator


def gather(data: Dataset, split: str, index: np.ndarray, block: int = 1000) -> Float[np.ndarray, "n D"]:
    """Return rows `index` (ascending) of a split in the model's units, never holding more than a block besides."""
    parts = []
    for start in range(0, data.size(split), block):
        mine = index[(index >= start) & (index < start + block)]
        if mine.size:
            parts.append(data.rows(split, start, start + block)[mine - start])
    return np.concatenate(parts)


def score(
    model: Any,
    data: Dataset,
    stored: np.ndarray,
    *,
    samples: int | None = None,
    seed: int = 0,
    progress: Watch | None = None,
    **more: Any,
) -> tuple[Float[np.ndarray, " n"], Estimate]:
    """Return the log-likelihood of each of one's own rows, in the file's own units, and the record of their mean.

    Args:
        data: what the model was trained on, for scaling, binarisation and class frequencies.
        stored: rows in the file's own units, shape ``(n, D)``.  Grey rows are binarised by their own content, so that
            a row's score depends on nothing but the row and `seed`.
        more: further arguments of the estimator, such as what is ``kept`` of log Z.

    Returns:
        The scores, NaN of a row in which no cell is known, and the record of the others' mean.

    Raises:
        ReverieError: where no row has a known cell, or numbers make no sense.
    """
    # What no column varies in tells nothing either: the model never sees it.
    blank = np.isnan(np.asarray(stored, np.float32)[:, ~data.constant]).all(axis=1)
    if not blank.any():
        return _scored(model, data, stored, samples, seed, progress, more)
    if blank.all():
        raise ReverieError("score: no row has a known cell; give rows in which something is known")
    found, record = _scored(model, data, stored[~blank], samples, seed, progress, more)
    values = np.full(len(stored), np.nan)
    values[~blank] = found
    note = "; ".join(filter(None, (record.note, left_out(int(blank.sum()), len(stored)))))
    return values, dataclasses.replace(record, rows_of=len(stored), note=note)


def _scored(
    model: Any, data: Dataset, stored: np.ndarray, samples: int | None, seed: int, progress: Watch | None,
    more: Mapping[str, Any],
) -> tuple[Float[np.ndarray, " n"], Estimate]:  # fmt: skip
    if isinstance(model, Implicit):
        return parzen.score(model, data, view(parzen.judged_view(data), stored), samples=samples, seed=seed,
                            hashed=data.hash_of(as_rows(stored)), watch=progress)  # fmt: skip
    x = view(data, stored)
    prior = class_frequencies(data) if classes_of(model) else None
    name = default_estimator(model)
    found = estimators(model)[name](
        model, x, **_samples(model, name, samples), seed=seed, class_prior=prior, progress=progress, **more
    )
    require_numbers(found)
    values = found.values - log_scales(data, x)
    record = Estimate.of_rows(
        values, row_variances=found.variances, kind=found.kind, estimator=found.estimator, measure=data.measure,
        binarisation=data.binarisation, seed=seed, data_hash=data.hash_of(as_rows(stored)), note=found.note,
    )  # fmt: skip
    if isinstance(model, OfLengths):
        return values, lengths.bracketed(dataclasses.replace(record, note=lengths.MASS), found)
    return values, energy.bracketed(record, found) if isinstance(model, Energy) else record


def view(data: Dataset, stored: np.ndarray) -> Float[np.ndarray, "n D"]:
    """Return one's own rows in the model's units, each grey row binarised with a seed of its content."""
    stored = as_rows(stored)
    if data.binarisation in ("as-is", "threshold", "means"):
        return as_rows(data.view(stored))
    words = row_words(stored)
    seeds = [[EVALUATION_SEED, int(a), int(b)] for a, b in words]
    return np.concatenate([data.view(row[None], own) for row, own in zip(stored, seeds, strict=True)])
