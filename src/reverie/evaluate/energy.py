r"""How likely rows are under an energy: exact where its states can be counted, else a bracket from both sides.

.. math:: \log p(v) = \log p^*(v) - \log Z

`log_z` brackets the second term and keeps what it found; the error of log Z is shared by all rows.  What the two ends
cannot see is told as UNRELIABLE: few effective chains, or ends that lie apart.  Where log p* itself has only a bound,
mean field's, the number is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from reverie.data.dataset import Dataset
from reverie.estimate import Estimate
from reverie.evaluate.annealing import CHAINS, DRAWS, Annealing, End, Plan, annealed_part, unnormalised, weighed
from reverie.evaluate.certify import certify
from reverie.evaluate.log_z import TOLD, Kept, LogZ, countable, counted, partition_function
from reverie.evaluate.rows import RowResult, Watch, as_rows, on_device
from reverie.prob import partition
from reverie.prob.contracts import Energy, Marginal, Topped


def annealed_energy(
    model: Any,
    rows: Float[np.ndarray, "n D"],
    *,
    chains: int = CHAINS,
    temperatures: int = 1000,
    most: int = 16_000,
    tolerance: float = 0.2,
    exact: bool | None = None,
    importance: int = 0,
    seed: int = 0,
    minutes: float | None = None,
    progress: Watch | None = None,
    kept: Kept | None = None,
    **unused: Any,
) -> RowResult:
    r"""Return log p of each row with what is known of log Z in `info`: ``low``, ``high`` (of log Z) and its ``error``.

    Args:
        model: an `Energy` with a density of a row, or a bound of it.
        exact: count the states (True), anneal (False), or count where that is possible (None).
        importance: draws of q a row, the logarithm of whose mean weight bounds log p* (of a net with directed layers);
            0 is the variational bound.
        kept: where log Z is taken from if it is known, and put if it is not.

    Raises:
        ReverieError: for a model without either, or numbers that make no sense.
    """
    rows, plan = as_rows(rows), Plan(chains, temperatures, max(most, temperatures), tolerance)
    model = on_device(model)
    log_z = known_log_z(model, rows, plan, exact=exact, seed=seed, minutes=minutes, watch=progress, kept=kept)
    free, variances, itself, how = _scored(model, rows, importance, seed)
    values, n, one = free - log_z.value, len(rows), np.ones(1)
    return RowResult(
        values, variances, np.full(n, float(plan.chains)), np.arange(n), plan.chains, how + log_z.estimator, seed, n,
        kind="lower_bound" if not itself else "exact" if log_z.exact else "bracket",
        info={"low": log_z.low * one, "high": log_z.high * one, "error": log_z.error * one,
              "note": np.asarray(log_z.note or "")},
    )  # fmt: skip


def _scored(
    model: Any, rows: Float[np.ndarray, "n D"], importance: int, seed: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], bool, str]:
    """Return log p* of every row or its bound, Monte Carlo variances, whether it is itself, and how it was found."""
    if not isinstance(model, Topped):
        free, itself = unnormalised(model, rows)
        return free, np.zeros(len(rows)), itself, ""
    draws = importance or DRAWS
    free, variances = weighed(model, rows, draws, log_mean=bool(importance), seed=seed)
    return free, variances, False, f"{'importance' if importance else 'elbo'}-{draws}, "


def known_log_z(
    model: Energy,
    rows: Float[np.ndarray, "n D"],
    plan: Plan,
    *,
    exact: bool | None,
    seed: int,
    minutes: float | None,
    watch: Watch | None,
    kept: Kept | None,
) -> LogZ:
    """Return log Z: what is kept if that will do, else counted or annealed, and then kept."""
    counts = exact or (exact is None and countable(model))
    if kept is not None and (found := kept.find(plan, seed, counts)) is not None:
        return found
    found = counted(model) if counts else partition_function(model, rows, plan, seed=seed, minutes=minutes, watch=watch)
    if kept is not None:
        kept.keep(found, plan, seed)
    return found


def certify_energy(result: RowResult, data: Dataset, split: str, **more: Any) -> Estimate:
    """Return the mean log-likelihood of an energy's rows with its certificate."""
    return bracketed(certify(result, data, split, **more), result)


def bracketed(record: Estimate, result: RowResult) -> Estimate:
    """Return `record` with the ends that log Z gives it; the error of log Z is shared by all rows."""
    if result.info["low"][0] == result.info["high"][0]:
        return record
    ends = {end: float(result.info[end][0]) for end in ("low", "high")}
    middle = sum(ends.values()) / 2
    note = "; ".join(filter(None, (record.note, str(result.info["note"])))) or None
    return dataclasses.replace(
        record,
        monte_carlo_error=float(result.info["error"][0]),
        low=record.value + middle - ends["high"],
        high=record.value + middle - ends["low"],
        note=note,
    )


@dataclass(frozen=True)
class Tracked(Estimate):
    """A validation of an energy in the journal: besides the log-likelihood, the ends of log Z it comes from."""

    log_z_low: float | None = None
    log_z_high: float | None = None


def validator(rows: int = 1000, seed: int = 0, temperatures: int = 500) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate``: exact where states can be counted, else short annealing.

    Short paths from both sides, with the same random numbers each time, forwards and as far back: twice the cost of
    forwards alone.  The value is the lower end of the likelihood, by which epochs are chosen: the forward end of a
    model whose chains do not mix is too good, and it must not win by that.
    """

    def validate(model: Any, data: Dataset, key: Any = None) -> Estimate:
        x = data.rows("valid", 0, rows)
        if partition.state_units(model) <= TOLD:
            result = annealed_energy(model, x, exact=True)
            found = certify(result, data, "valid", indices=np.arange(len(x)))
            return _tracked(found, found.value, found.value, result.info["low"][0], result.info["low"][0])
        there, back, ess = _both_ways(model, x, temperatures, seed)
        low, high = sorted((there.value, back.value))
        values, n = unnormalised(model, x)[0] - high, len(x)
        result = RowResult(values, np.zeros(n), np.full(n, ess), np.arange(n), CHAINS,
                           f"ais-{CHAINS}x{temperatures}", seed, n, kind="bracket")  # fmt: skip
        found = certify(result, data, "valid", indices=np.arange(n), note="the value is the lower end")
        error = float(np.hypot(there.error, back.error))
        return _tracked(
            dataclasses.replace(found, monte_carlo_error=error), found.value, found.value + high - low, low, high
        )

    return validate


def _both_ways(model: Any, x: Float[np.ndarray, "n D"], temperatures: int, seed: int) -> tuple[End, End, float]:
    """Return log Z from both sides at the cost of two paths of CHAINS chains, and the effective forward chains."""
    model, x = annealed_part(model, x)
    annealing = Annealing(model, Plan(most=temperatures), seed)
    there, sure, ends = annealing.forwards(temperatures)
    if isinstance(annealing.model, Marginal):
        # As many chains as forwards: one for each of so many rows.
        return there, annealing.raised_end(x[:CHAINS], temperatures, per_row=1), sure["ess"]
    settled = temperatures // 5
    return there, annealing.backwards(ends, temperatures - settled, settled), sure["ess"]


def _tracked(record: Estimate, low: float, high: float, log_z_low: float, log_z_high: float) -> Estimate:
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(Estimate)}
    ends = {} if record.kind == "exact" else {"low": low, "high": high}
    return Tracked(**{**fields, **ends}, log_z_low=float(log_z_low), log_z_high=float(log_z_high))
