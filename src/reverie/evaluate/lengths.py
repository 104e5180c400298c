r"""Documents of different lengths: a log Z for each length, and perplexity.

Where states can be counted, one pass over them gives the log Z of every length,
:math:`\log Z_N = \log \sum_h e^{N g(h)}`, g being that of one word.  Else all lengths are annealed as rows of one
batch, forwards and from the other side (RAISE on documents of that length, and annealing backwards from the forward
chains' ends), and each length has a bracket of its own.  What was found is kept, so that no length is annealed twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.annealing import Plan, unnormalised
from reverie.evaluate.baseline import independent_rows
from reverie.evaluate.certify import certify
from reverie.evaluate.length_chains import Lengths
from reverie.evaluate.log_z import TOLD, Kept, LogZ
from reverie.evaluate.rows import RowResult, Watch, as_rows, on_device
from reverie.files import read_json, to_json, write_atomic
from reverie.prob import partition

#: Chains of each length, and lengths that a validation looks at.
CHAINS, _LOOKED = 25, 12
MASS = "log p(counts, given the document's length), the multinomial coefficient with it"
ORDER = "of the words in their order, no multinomial coefficient; documents count alike, whatever their length"
FILE = "log_z_by_length.json"


def annealed_lengths(
    model: Any,
    rows: Float[np.ndarray, "n K"],
    *,
    chains: int = CHAINS,
    temperatures: int = 1000,
    most: int = 16_000,
    tolerance: float = 0.2,
    exact: bool | None = None,
    seed: int = 0,
    minutes: float | None = None,
    progress: Watch | None = None,
    kept: Kept | None = None,
    **unused: Any,
) -> RowResult:
    r"""Return log p of each document given its length; `info` has the ends of its length's log Z and their error.

    Args:
        model: an energy `OfLengths` whose hidden units can be summed out.
        chains: of each length.
        exact: count the states (True), anneal (False), or count where that is possible (None).
        kept: says where what is known of these weights lies; the lengths are kept beside it.

    Raises:
        ReverieError: for numbers that make no sense.
    """
    rows, plan = as_rows(rows), Plan(chains, temperatures, max(most, temperatures), tolerance)
    model = on_device(model)
    numbers = np.asarray(model.lengths_of(rows)).round().astype(np.int64)
    counts = exact or (exact is None and countable(model))
    store = None if kept is None else KeptLengths(kept, plan, seed)
    wanted = np.unique(numbers)
    found = {} if store is None else store.find(wanted, counts)
    left = np.setdiff1d(wanted, list(found))
    if counts and left.size:
        found |= counted(model, left, progress)
    elif left.size:
        found |= Lengths(model, rows, numbers, plan, seed, minutes, progress).all(left, found, store)
    if store is not None:
        store.keep(found)
    return _rows(model, rows, numbers, {n: found[n] for n in wanted.tolist()}, plan, seed)


def _rows(
    model: Any, rows: np.ndarray, numbers: np.ndarray, found: Mapping[int, LogZ], plan: Plan, seed: int
) -> RowResult:
    free, _ = unnormalised(model, rows)
    mine = [found[n] for n in numbers.tolist()]
    own = {name: np.asarray([getattr(z, name) for z in mine]) for name in ("value", "low", "high", "error")}
    n, exact = len(rows), all(z.exact for z in mine)
    temperatures = max(z.temperatures for z in mine)
    info = {**{name: own[name] for name in ("low", "high")}, "error": own["error"], "length": numbers}
    return RowResult(
        free - own["value"], np.zeros(n), np.asarray([min(z.ess, plan.chains) for z in mine]), np.arange(n),
        plan.chains, "enumerated" if exact else f"ais-{mine[0].chains}x{temperatures}", seed, n,
        kind="exact" if exact else "bracket", info={**info, "note": np.asarray(told(found))},
    )  # fmt: skip


def told(found: Mapping[int, LogZ]) -> str:
    """Return what a reader must know of many lengths' log Z: the widest bracket, the fewest chains, the worst."""
    annealed = {n: z for n, z in found.items() if not z.exact}
    if not annealed:
        return ""
    wide = max(annealed, key=lambda n: annealed[n].high - annealed[n].low)
    few = min(annealed, key=lambda n: annealed[n].ess)
    said = (
        f"log Z of {len(annealed):,} lengths, the widest bracket {annealed[wide].high - annealed[wide].low:.2f} nats "
        f"(at {wide:,} words), the fewest effective chains {annealed[few].ess:.1f} (at {few:,} words)"
    )
    doubted = {n: z for n, z in annealed.items() if z.note}
    if not doubted:
        return said
    worst = max(doubted, key=lambda n: doubted[n].high - doubted[n].low)
    return f"{said}; at {len(doubted):,} of the lengths, worst at {worst:,} words: {doubted[worst].note}"


def countable(model: Any) -> bool:
    """Say whether log Z can be had by counting the states of the hidden units."""
    return partition.state_units(model.of_length(1.0)) <= partition.ENUMERABLE


def counted(model: Any, numbers: Int[np.ndarray, " L"], watch: Watch | None = None) -> dict[int, LogZ]:
    """Return the exact log Z of each length, from one pass over the hidden units' states."""
    values = partition.enumerated_powers(model.of_length(1.0), numbers.astype(np.float64), watch)
    exact = lambda z: LogZ(z, z, z, 0.0, np.inf, 0.0, "enumerated", truth=z)  # noqa: E731
    return {int(n): exact(float(z)) for n, z in zip(numbers, values, strict=True)}


class KeptLengths:
    """A file of what is known of the log Z of lengths, of certain weights, by a plan and seed."""

    def __init__(self, kept: Kept, plan: Plan, seed: int) -> None:
        self.path: Path = kept.path.with_name(FILE)
        self.weights, self.any_plan, self.plan, self.seed = kept.weights, kept.any_plan, plan, seed

    def read(self) -> dict[int, LogZ]:
        """Return all that is kept of these weights; a torn file is none."""
        with contextlib.suppress(ReverieError, KeyError, TypeError, ValueError, AttributeError):
            record = read_json(self.path)
            if record is None or (record["weights"], record["seed"]) != (self.weights, self.seed):
                return {}
            if self.any_plan or record["plan"] == dataclasses.asdict(self.plan):
                return {int(n): LogZ.from_json(z) for n, z in record["log_z"].items()}
        return {}

    def find(self, wanted: Int[np.ndarray, " L"], exact: bool) -> dict[int, LogZ]:
        """Return what is known of the lengths that are wanted, counted or annealed as asked."""
        known = self.read()
        return {n: known[n] for n in wanted.tolist() if n in known and known[n].exact == exact}

    def keep(self, found: Mapping[int, LogZ]) -> None:
        """Add to what is kept; where that cannot be written, the next call anneals again."""
        every = {**self.read(), **found}
        record = {"format": 1, "weights": self.weights, "seed": self.seed, "plan": dataclasses.asdict(self.plan),
                  "log_z": {str(n): every[n].to_json() for n in sorted(every)}}  # fmt: skip
        with contextlib.suppress(ReverieError):
            write_atomic(self.path, to_json(record))


def log_coefficients(rows: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
    r"""Return :math:`\log N!/\prod_k n_k!` of each document, in float64."""
    x = np.asarray(rows, np.float64)
    return gammaln(x.sum(axis=1) + 1.0) - gammaln(x + 1.0).sum(axis=1)


def records(result: RowResult, data: Dataset, split: str, rows: Float[np.ndarray, "n K"]) -> dict[str, Estimate]:
    """Return the certified log-likelihood and perplexity of documents, the unigram model's perplexity beside.

    Args:
        result: of `annealed_lengths`, in the order of `rows`.
    """
    found = certify_lengths(result, data, split)
    alone = dataclasses.replace(result, kind="exact", estimator="unigram", values=unigram(data, split, result.indices))
    beside = dataclasses.replace(found, kind="exact", estimator="unigram", seed=None)
    return {
        "log_likelihood": found,
        "perplexity": perplexity(found, result, rows),
        "unigram_perplexity": perplexity(beside, alone, rows),
    }


def unigram(data: Dataset, split: str, index: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return log p of the counts of documents `index` of a split under the training words' frequencies."""
    if split not in data.splits:
        raise ReverieError(f"split: {split!r} is not one of {', '.join(data.splits)}")
    return independent_rows(data, split)[index]


def perplexity(record: Estimate, result: RowResult, rows: Float[np.ndarray, "n K"]) -> Estimate:
    r"""Return :math:`\exp(-\frac1D \sum_d \frac1{N_d} \log p(\text{words}_d))` with its certificate.

    Args:
        record: of the log-likelihood, whose certificate it takes over.
        result: its per-document values, in the order of `rows`.
    """
    words = np.asarray(rows, np.float64).sum(axis=1)
    per_word = (result.values - log_coefficients(rows)) / words
    at, n = float(np.exp(-per_word.mean())), len(words)
    spread = float(per_word.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    found = dataclasses.replace(
        record, value=at, standard_error=at * spread, unit="perplexity", measure=None, note=ORDER, low=None, high=None
    )
    if result.kind != "bracket":
        return found
    gap = float(((result.info["high"] - result.info["low"]) / 2 / words).mean())
    return dataclasses.replace(
        found, low=at * float(np.exp(-gap)), high=at * float(np.exp(gap)),
        monte_carlo_error=at * shared_error(result, 1 / words),
    )  # fmt: skip


def shared_error(result: RowResult, weights: Float[np.ndarray, " n"] | float = 1.0) -> float:
    """Return the Monte Carlo error of a weighted mean over documents, those of one length sharing its log Z's."""
    numbers, error = result.info["length"], result.info["error"]
    w = np.broadcast_to(weights, numbers.shape) / len(numbers)
    kinds, at = np.unique(numbers, return_inverse=True)
    per_length = np.bincount(at, weights=w * error, minlength=len(kinds))
    return float(np.sqrt((per_length**2).sum()))


def certify_lengths(result: RowResult, data: Dataset, split: str) -> Estimate:
    """Return the mean log-likelihood of documents with its certificate."""
    record = certify(result, data, split, note="; ".join(filter(None, (MASS, str(result.info["note"])))))
    return bracketed(record, result)


def bracketed(record: Estimate, result: RowResult) -> Estimate:
    """Return `record` with the ends that the lengths' log Z give it."""
    if result.kind == "exact":
        return record
    half = (result.info["high"] - result.info["low"]) / 2
    width = float(half.mean())
    return dataclasses.replace(
        record, monte_carlo_error=shared_error(result), low=record.value - width, high=record.value + width
    )


def validator(rows: int = 1000, seed: int = 0, temperatures: int = 300) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate``: exact where states can be counted, else short annealing.

    Annealed are a few lengths alone, spread over those of the validation documents, with the same random numbers each
    time; the value is the lower end, so that an epoch whose chains do not mix does not win by that.
    """

    def validate(model: Any, data: Dataset, key: Any = None) -> Estimate:
        x = data.rows("valid", 0, rows)
        index = np.arange(len(x))
        if partition.state_units(model.of_length(1.0)) <= TOLD:
            result = annealed_lengths(model, x, exact=True)
            return certify(dataclasses.replace(result, info={}), data, "valid", indices=index)
        index = _spread(np.asarray(x.sum(axis=1)))
        result = annealed_lengths(model, x[index], exact=False, temperatures=temperatures, most=temperatures, seed=seed)
        lower = result.values + (result.info["low"] - result.info["high"]) / 2
        note = f"documents of {_LOOKED} lengths at most; the value is the lower end"
        found = certify(dataclasses.replace(result, values=lower, info={}), data, "valid", indices=index, note=note)
        high = found.value + float((result.info["high"] - result.info["low"]).mean())
        return dataclasses.replace(found, low=found.value, high=high, monte_carlo_error=shared_error(result))

    return validate


def _spread(lengths: Float[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Return the documents whose lengths are among a few that are spread over all, as ascending indices."""
    at = (np.arange(_LOOKED) + 0.5) / _LOOKED
    return np.flatnonzero(np.isin(lengths, np.quantile(lengths, at, method="inverted_cdf")))
