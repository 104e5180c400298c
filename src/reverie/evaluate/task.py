"""Models judged by their task: the metrics of every row, and certified means of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate, Kind
from reverie.evaluate import components, ngrams, questions
from reverie.evaluate.classes import one_hot
from reverie.evaluate.classification import interval_words
from reverie.evaluate.mapped import blocks
from reverie.evaluate.rows import RowResult, Watch
from reverie.prob.contracts import Classifying, Judged, Row

ESTIMATOR = "network"


class Telling(Classifying):
    """A joint model of rows and classes (`abilities.Tells`), judged as one that tells classes."""

    model: Any

    def log_classes(self, x: Row) -> Float[Array, " C"]:
        return self.model.log_classes(x)


def judged(
    model: Judged, rows: Float[np.ndarray, "n D"], labels: np.ndarray | None, classes: int, watch: Watch | None = None
) -> dict[str, Float[np.ndarray, " n"]]:
    """Return every metric of each row, in float64.

    Raises:
        ReverieError: without labels where the model is judged by them.
    """
    if model.supervised and labels is None:
        raise ReverieError("labels: these rows have no classes, by which a classifier is judged; give labelled rows")
    given = one_hot(labels, classes) if model.supervised else None
    parts, done = [], 0
    for part in blocks(_judge, model, rows, given):
        parts.append(part)
        done += len(next(iter(part.values())))
        if watch is not None:
            watch(done)
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in model.metrics}


def _judge(model: Judged, key: Any, x: Any, given: Any) -> Any:
    return {**model.judge(x, given), **model.judge_drawn(key, x, given)}


def evaluate_task(
    model: Judged, data: Dataset, split: str, rows: Float[np.ndarray, "m D"], chosen: Int[np.ndarray, " m"],
    watch: Watch | None = None,
) -> tuple[dict[str, Estimate], RowResult]:  # fmt: skip
    """Return the certified mean of each metric over rows `chosen` of a split, and the first metric's values by row.

    Beside the squared error of what is given back stands that of as many principal components.
    """
    labels = data.labels(split)
    labels = None if labels is None else np.asarray(labels)[chosen]
    found, size = judged(model, rows, labels, data.classes, watch), data.size(split)
    records = {}
    for name, unit in model.metrics.items():
        values = found[name]
        if not np.isfinite(values).all():
            raise ReverieError(f"{name}: row {chosen[~np.isfinite(values)][0] + 1} is not finite; look at the weights")
        records[name] = Estimate.of_rows(
            values, kind=_kind(model, name), estimator=ESTIMATOR, unit=unit,
            binarisation=data.binarisation, split=split, data_hash=data.hash,
            rows_of=size if len(chosen) < size else None, note=_note(model, name, unit, values),
        )  # fmt: skip
    if components.METRIC in records and hasattr(model, "components"):
        records |= components.beside(model, data, rows, records[components.METRIC])
    if data.source == ngrams.TASK:
        records |= ngrams.beside(rows, next(iter(records.values())))
    if questions.METRIC in records:
        records |= questions.by_task(data, records[questions.METRIC], found[questions.METRIC], chosen)
        records |= questions.perplexity(data, records["cross_entropy"])
    first, *rest = (found[name] for name in model.metrics)
    more = dict(zip(list(model.metrics)[1:], rest, strict=True))
    blank = np.zeros(len(chosen))
    result = RowResult(first, blank, blank + 1.0, chosen, 1, ESTIMATOR, 0, size, kind="exact", units="file", info=more)
    return records, result


def _kind(model: Judged, name: str) -> Kind:
    """Return what the mean of a metric is: exact on the rows at hand, unless the model draws noise for it."""
    return "estimate" if name in model.drawn else "exact"


def _note(model: Judged, name: str, unit: str, values: np.ndarray) -> str | None:
    if name in model.drawn:
        return "one draw a row, by its content"
    return interval_words(values > 0) if unit == "fraction" else None


def validator() -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate`` of the first metric on all validation rows, more being better.

    A share of rows told wrongly becomes the share told rightly; anything else changes its sign.
    """

    def validate(model: Judged, data: Dataset, key: Any = None) -> Estimate:
        values = judged(model, data.rows("valid"), data.labels("valid"), data.classes)
        name, unit = next(iter(model.metrics.items()))
        share = unit == "fraction"
        return Estimate.of_rows(
            1.0 - values[name] if share else -values[name], kind=_kind(model, name),
            estimator="accuracy" if share else f"-{name}", unit=unit, binarisation=data.binarisation, split="valid",
            data_hash=data.hash,
        )  # fmt: skip

    return validate
