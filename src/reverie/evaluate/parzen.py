r"""Parzen windows: a density fitted to a generator's outputs, under which test rows are scored.

.. math:: \log \hat p(x) = \log \frac1N \sum_{s=1}^N \mathcal N(x;\, \mu_s, \sigma^2 I), \qquad \mu_s = G(z_s)

The protocol of the papers: N = 10,000 means of the generator (not draws around them), pixels in [0, 1], and the
bandwidth of ten values between 0.1 and 1 that is best on the mean of validation rows.  All of it is in the record.
Grey rows stay grey, also under a model that learns from them binarised.  Real-valued rows are standardised as the
model sees them, so that a window is as wide in a column as the column's scale times :math:`\sigma`; the density is
then given in the file's own units, :math:`-\sum_d \log s_d`.

This number is of the kind ``estimate``, and it ranks models badly: what it rewards is being a smoother version of the
training rows.  Centres of k-means beat real generators and the training rows themselves (`sanity`, docs/parzen.md);
beside a bound it can even turn the order round (Wu et al. 2017).

References: Breuleux, Bengio & Vincent, *Quickly Generating Representative Samples from an RBM-Derived Process*, 2011;
Theis, van den Oord & Bethge, *A note on the evaluation of generative models*, 2016; Wu, Burda, Salakhutdinov & Grosse,
*On the Quantitative Analysis of Decoder-Based Generative Models*, 2017.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate import chains, tasks
from reverie.evaluate.certify import class_frequencies, log_scales
from reverie.evaluate.classes import classes_of
from reverie.evaluate.rows import RowResult, Watch
from reverie.evaluate.windows import Windows
from reverie.prob.contracts import Energy

NAME, SAMPLES = "parzen", 10_000
#: Bandwidths tried first, the ratio of one to the next, and how far beyond they may go.
GRID = np.logspace(-1.0, 0.0, 10)
_STEP, _ENDS = 10.0 ** (1 / 9), (1e-3, 1e3)
#: Validation rows that choose, and the means of a generator that are made at once.
MOST_VALID, _MADE = 10_000, 5000
#: What no table of windows may be without: rows that no model made, in a generator's place.
SANITY = ("training rows", "k-means centres")
WARNING = "ranks models badly: see docs/parzen.md"

#: ``means(start, stop)``: windows of these numbers, shape ``(stop - start, D)``.
Means = Callable[[int, int], Float[np.ndarray, "m D"]]


class Fitted(NamedTuple):
    """A bandwidth, and the words of the rule that chose it."""

    bandwidth: float
    words: str


def judged_view(data: Dataset, asked: str = NAME, what: str = "windows") -> Dataset:
    """Return the data as windows see them: grey rows grey.

    Args:
        asked, what: which argument asks for distances, and what they are for, as a refusal says it.

    Raises:
        ReverieError: for rows between which there is no distance to go by: categories, counts, missing cells.
    """
    if data.likelihood in ("categorical", "counts", "mixed"):
        raise ReverieError(
            f"{asked}: {data.name} has {data.likelihood} rows, and {what} are of real or binary values; leave it out"
        )
    if data.missing and not data.whole:
        raise ReverieError(f"{asked}: {data.name} has missing cells, and {what} need every cell; fill them in first")
    return dataclasses.replace(data, binarisation="means") if data.binarisation == "dynamic" else data


def evaluate_parzen(
    model: Any,
    data: Dataset,
    split: str,
    rows: Float[np.ndarray, "m D"],
    chosen: Int[np.ndarray, " m"],
    *,
    samples: int = SAMPLES,
    sets: int = 1,
    draws: bool = False,
    dequantise: bool = False,
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[dict[str, Estimate], RowResult]:
    """Return the mean log-density of rows `chosen` of a split, and each row's, in the file's own units.

    Args:
        data: as `judged_view` has it, and `rows` of it.
        samples: N, windows of a set.
        sets: generated sets, whose spread is the record's Monte Carlo error (unknown of one set).
        draws: windows around draws of x rather than means.
        dequantise: spread each grey level over its width, (levels x + U(0, 1)) / (levels + 1).
        seed: of the generator and of the dequantisation.

    Returns:
        ``parzen``, and beside it ``parzen_of_training_rows``, as many training rows (all, where there are fewer) in
        place of what is generated: more than that is smoother than the data, not better.
    """
    if samples < 2 or sets < 1:
        raise ReverieError(f"{'sets' if sets < 1 else 'samples'}: give at least {1 if sets < 1 else 2}")
    keep = ~data.constant
    spread = _spread(data, seed) if dequantise else _kept
    test, valid = (spread(r, i)[:, keep] for i, r in enumerate((rows, data.rows("valid", 0, MOST_VALID))))
    made = generator(model, data, seed=seed, draws=draws, most=samples * sets)
    own = lambda i: lambda a, b: made(i * samples + a, i * samples + b)[:, keep]  # noqa: E731
    fitted = fit(valid, own(0), samples)
    found = np.stack([scored(test, own(i), samples, fitted.bandwidth, watch) for i in range(sets)])
    found -= log_scales(data, rows)
    how = f"{NAME}-{samples}" + f"x{sets}" * (sets > 1) + "-draws" * draws + "-dequantised" * dequantise
    record = _record(data, split, found, len(rows), f"{'draws' if draws else 'means'}; {fitted.words}", how, seed)
    train = data.rows("train", 0, samples)
    beside = sanity_row(data, split, test, valid, spread(train, 2)[:, keep], log_scales(data, rows), "training-rows")
    n, size = len(rows), data.size(split)
    result = RowResult(found.mean(axis=0), np.zeros(n), np.ones(n), chosen, samples, how, seed, size, kind="estimate",
                       units="file")  # fmt: skip
    return {NAME: record, f"{NAME}_of_training_rows": beside}, result


def score(
    model: Any,
    data: Dataset,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int | None = None,
    seed: int = 0,
    hashed: str | None = None,
    watch: Watch | None = None,
) -> tuple[Float[np.ndarray, " n"], Estimate]:
    """Return the log-density of each of one's own rows (as `judged_view` has them), and the record of their mean."""
    data, n = judged_view(data), samples or SAMPLES
    keep = ~data.constant
    made = generator(model, data, seed=seed, draws=False, most=n)
    own = lambda a, b: made(a, b)[:, keep]  # noqa: E731
    fitted = fit(data.rows("valid", 0, MOST_VALID)[:, keep], own, n)
    values = scored(rows[:, keep], own, n, fitted.bandwidth, watch) - log_scales(data, rows)
    record = _record(data, "test", values[None], data.size("test"), f"means; {fitted.words}", f"{NAME}-{n}", seed)
    return values, dataclasses.replace(record, split=None, rows_of=None, data_hash=hashed)


def _record(
    data: Dataset, split: str, found: Float[np.ndarray, "k m"], n: int, words: str, how: str, seed: int | None
) -> Estimate:
    sets, size = len(found), data.size(split)
    of = "the file's own units" if data.measure == "density" else f"cells in [0, 1], {data.binarisation}"
    errors = f"{sets} sets" if sets > 1 else "one set; --sets 5 tells the generator's own error"
    errors = "made by no model" if seed is None else errors
    return dataclasses.replace(
        Estimate.of_rows(found.mean(axis=0), kind="estimate", estimator=how),
        monte_carlo_error=float(found.mean(axis=1).std(ddof=1) / math.sqrt(sets)) if sets > 1 else math.nan,
        measure="density", binarisation=data.binarisation, split=split, data_hash=data.hash, seed=seed,
        rows_of=size if n < size else None, note=f"{words}; {of}; {errors}; {WARNING}",
    )  # fmt: skip


def fit(valid: Float[np.ndarray, "v D"], means: Means, n: int) -> Fitted:
    """Return the bandwidth with the best mean over validation rows: of `GRID`, and further while it is at an end."""
    tried = dict(zip(GRID.tolist(), _over(valid, means, n, GRID).mean(axis=0).tolist(), strict=True))
    while True:
        best = max(tried, key=lambda s: tried[s])
        step = {min(tried): 1 / _STEP, max(tried): _STEP}.get(best)
        if step is None or not _ENDS[0] < best < _ENDS[1]:
            break
        further = best * step ** np.arange(1, 6)
        tried |= dict(zip(further.tolist(), _over(valid, means, n, further).mean(axis=0).tolist(), strict=True))
    words = f"bandwidth {best:.3g}, the best mean over {len(valid):,} validation rows of {len(tried)} values from "
    words += f"{min(tried):.3g} to {max(tried):.3g}"
    extended = " (extended: the best of 0.1 to 1 was at its end)" if len(tried) > len(GRID) else ""
    return Fitted(float(best), words + extended)


def scored(
    rows: Float[np.ndarray, "m D"], means: Means, n: int, bandwidth: float, watch: Watch | None = None
) -> Float[np.ndarray, " m"]:
    """Return the log-density of each row under n windows of one bandwidth."""
    found = _over(rows, means, n, np.asarray([bandwidth]))[:, 0]
    if watch is not None:
        watch(len(rows), value=float(found.mean()))
    return found


def _over(rows: np.ndarray, means: Means, n: int, bandwidths: np.ndarray) -> Float[np.ndarray, "m B"]:
    windows = Windows(np.asarray(rows, np.float32), bandwidths)
    for start in range(0, n, _MADE):
        windows.add(means(start, min(start + _MADE, n)))
    found = windows.log_density()
    if not np.isfinite(found).all():
        raise ReverieError(f"{NAME}: the windows are not finite; look for NaN in the data or in the weights")
    return found


def generator(model: Any, data: Dataset, *, seed: int, draws: bool, most: int) -> Means:
    """Return a function that makes what a model generates, number i by (seed, i) alone.

    A class-conditional model is given classes as frequent as in the training rows; an energy's are the ends of chains.
    """
    if isinstance(model, Energy):
        ends = chains.draw(model, most, seed=seed)
        kept = ends.draws if draws else ends.means
        return lambda start, stop: kept[start:stop]
    given = None
    if classes_of(model):
        frequencies = class_frequencies(data)
        labels = np.random.default_rng(seed).choice(len(frequencies), most, p=frequencies)
        given = np.eye(len(frequencies), dtype=np.float32)[labels]

    def made(start: int, stop: int) -> np.ndarray:
        own = None if given is None else given[start:stop]
        return tasks.samples(model, stop - start, seed=seed, given=own, start=start)[int(draws)]

    return made


def _kept(rows: np.ndarray, number: int) -> np.ndarray:
    return rows


def _spread(data: Dataset, seed: int) -> Callable[[np.ndarray, int], np.ndarray]:
    levels = np.float32(np.max(data.scale))
    if data.measure == "density" or np.ndim(data.scale) or levels <= 1:
        raise ReverieError(f"dequantise: {data.name} has no grey levels to spread; leave it out")

    def spread(rows: np.ndarray, number: int) -> np.ndarray:
        noise = np.random.default_rng([seed, number]).random(rows.shape, np.float32)
        return (rows * levels + noise) / (levels + 1)

    return spread


def sanity(
    data: Dataset, split: str = "test", *, samples: int = SAMPLES, rows: int | None = None, seed: int = 0,
    names: Sequence[str] = SANITY, watch: Watch | None = None,
) -> dict[str, Estimate]:  # fmt: skip
    """Return the rows that no table of Parzen numbers may be without: what no model made, scored alike.

    Args:
        names: which of them.

    Returns:
        ``training rows`` and ``k-means centres`` (`samples`, or a fifth of the training rows where that is fewer).
    """
    data = judged_view(data)
    keep, test = ~data.constant, data.rows(split, 0, rows)
    valid, train = data.rows("valid", 0, MOST_VALID)[:, keep], data.rows("train", 0, 6 * samples)[:, keep]
    makers: dict[str, Callable[[], np.ndarray]] = {
        "training rows": lambda: train[:samples],
        "k-means centres": lambda: k_means(train, min(samples, max(2, len(train) // 5)), seed),
    }
    shift = log_scales(data, test)
    return {name: sanity_row(data, split, test[:, keep], valid, makers[name](), shift, name.replace(" ", "-"), watch)
            for name in names}  # fmt: skip


def sanity_row(
    data: Dataset, split: str, test: np.ndarray, valid: np.ndarray, made: np.ndarray, shift: np.ndarray, name: str,
    watch: Watch | None = None,
) -> Estimate:  # fmt: skip
    """Return what rows that no model made score in a generator's place."""
    fitted = fit(valid, lambda a, b: made[a:b], len(made))
    found = scored(test, lambda a, b: made[a:b], len(made), fitted.bandwidth, watch) - shift
    record = _record(data, split, found[None], len(test), fitted.words, f"{NAME}-{len(made)}-{name}", None)
    return dataclasses.replace(record, monte_carlo_error=0.0)


def k_means(rows: Float[np.ndarray, "n D"], k: int, seed: int = 0, rounds: int = 5) -> Float[np.ndarray, "k D"]:
    """Return k centres after some rounds of Lloyd's algorithm, begun at random rows."""
    from sklearn.cluster import KMeans

    found = KMeans(k, init="random", n_init=1, max_iter=rounds, algorithm="lloyd", random_state=seed).fit(rows)
    return found.cluster_centers_.astype(np.float32)


def validator(samples: int = 1000, rows: int = 1000) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate``: the mean log-density of validation rows under few windows.

    The best of `GRID` on the same rows, and the same z each time: quick, and for choosing weights alone.
    """

    def validate(model: Any, data: Dataset, key: Any = None) -> Estimate:
        data = judged_view(data)
        keep, x = ~data.constant, data.rows("valid", 0, rows)
        made = generator(model, data, seed=0, draws=False, most=samples)
        values = _over(x[:, keep], lambda a, b: made(a, b)[:, keep], samples, GRID)
        best = int(values.mean(axis=0).argmax())
        words = f"bandwidth {GRID[best]:.3g}, the best of {len(GRID)} on these rows"
        return _record(data, "valid", (values[:, best] - log_scales(data, x))[None], len(x), words,
                       f"{NAME}-{samples}", 0)  # fmt: skip

    return validate
