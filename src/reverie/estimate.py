"""The certified number: a value that says what it is, how sure it is, and of what it was computed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["exact", "lower_bound", "upper_bound", "bracket", "estimate"]
_SIGNS = {"exact": "=", "lower_bound": ">=", "upper_bound": "<=", "bracket": "in", "estimate": "~"}


@dataclass(frozen=True)
class Estimate:
    """A number with its certificate; no public call returns a bare float.

    Attributes:
        value: the mean over the rows.
        standard_error: over test cases, s / sqrt(n): how far another test set would move the value.
        monte_carlo_error: of the estimator's own randomness, at these rows; 0 when there is none.
        n: rows that entered.
        kind: ``exact``, ``lower_bound``, ``upper_bound``, ``bracket`` (then `low` and `high`) or ``estimate``.
        estimator: such as ``importance-5000``.
        unit: ``nats`` unless the name says bits.
        measure: ``mass`` of discrete data or ``density`` in the file's own units; the arena never mixes them.
        binarisation, split, data_hash, seed: of what it was computed.
        rows_of: size of the split when fewer than all rows were used, else None.
        note: what a reader must know besides, such as a low effective sample size.
    """

    value: float
    standard_error: float
    monte_carlo_error: float
    n: int
    kind: Kind
    estimator: str
    unit: str = "nats"
    measure: Literal["mass", "density"] | None = None
    binarisation: str | None = None
    split: str | None = None
    data_hash: str | None = None
    seed: int | None = None
    rows_of: int | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None

    @staticmethod
    def of_rows(rows: np.ndarray, *, row_variances: np.ndarray | None = None, **certificate: Any) -> Estimate:
        """Average per-row values in float64.

        Args:
            rows: one value a row, shape ``(n,)``.
            row_variances: the estimator's own variance at each row; omitted for a deterministic one.
            certificate: the remaining attributes.
        """
        rows = np.asarray(rows, np.float64)
        n = rows.size
        spread = float(rows.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        own = 0.0 if row_variances is None else float(math.sqrt(np.asarray(row_variances, np.float64).sum()) / n)
        return Estimate(float(rows.mean()), spread, own, n, **certificate)

    @staticmethod
    def mean_of(records: Sequence[Estimate]) -> Estimate:
        """Return the mean of numbers of one kind, such as of several tasks, each weighing alike."""
        first, size = records[0], len(records)
        spread, chance = (
            math.sqrt(math.fsum(error**2 for error in errors)) / size
            for errors in ([r.standard_error for r in records], [r.monte_carlo_error for r in records])
        )
        return Estimate(
            math.fsum(r.value for r in records) / size, spread, chance, sum(r.n for r in records), first.kind,
            f"mean-of-{size}", unit=first.unit, measure=first.measure, binarisation=first.binarisation,
            split=first.split, seed=first.seed,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, undefined numbers as null."""
        record = dataclasses.asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}

    @staticmethod
    def from_json(record: dict[str, Any]) -> Estimate:
        """Read back what `to_json` wrote; unknown keys of a newer writer are dropped."""
        names = {f.name for f in dataclasses.fields(Estimate)}
        known = {k: v for k, v in record.items() if k in names}
        for name in ("value", "standard_error", "monte_carlo_error"):
            known[name] = math.nan if known.get(name) is None else known[name]
        return Estimate(**known)

    def __str__(self) -> str:
        where = f" of {self.rows_of}" if self.rows_of else ""
        # A share is small, and two decimals would hide its error.
        d = 4 if self.unit == "fraction" else 2
        shown = f"{self.value:.{d}f}" if self.low is None else f"[{self.low:.{d}f}, {self.high:.{d}f}]"
        # One row has no spread to tell.
        error = f" +- {self.standard_error:.{d}f}" if math.isfinite(self.standard_error) else ""
        chance = f", ends +- {self.monte_carlo_error:.2g}" if self.kind == "bracket" and self.monte_carlo_error else ""
        # A formula is told by the estimator `exact`, and once is enough.
        how = ", ".join(dict.fromkeys((self.kind.replace("_", " "), self.estimator)))
        return f"{_SIGNS[self.kind]} {shown}{error} {self.unit} ({how}, n={self.n}{where}{chance})"


def crossing(low: tuple[float, float], high: tuple[float, float]) -> str | None:
    """Return a sentence where the end of a bracket that should be low lies above the other, None elsewhere.

    Args:
        low, high: value and Monte Carlo error of the end that is too low in expectation, and of the other.
    """
    gap, error = low[0] - high[0], math.hypot(low[1], high[1])
    if gap <= 0:
        return None
    if gap <= 2 * error:
        return f"the sides cross by {gap:.3f}, within their errors ({error:.3f}): they agree as far as chains can tell"
    return f"the sides cross by {gap:.3f}, more than their errors ({error:.3f}) explain: give more chains"


def of_windows(record: Mapping[str, Any]) -> bool:
    """Say whether a record, as it was written down, is of Parzen windows rather than of a model's likelihood."""
    return str(record.get("estimator", "")).startswith("parzen-")


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """Return mean, standard error and normal interval of a - b, the two models scored on the same rows."""
    from scipy.stats import norm

    gap = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    error = float(gap.std(ddof=1) / math.sqrt(gap.size)) if gap.size > 1 else math.nan
    reach = float(norm.ppf(0.5 + level / 2)) * error
    mean = float(gap.mean())
    return {"difference": mean, "standard_error": error, "low": mean - reach, "high": mean + reach, "level": level}
