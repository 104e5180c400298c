r"""How likely rows are under an energy: exact where its states can be counted, else a bracket from both sides.

.. math:: \log p(v) = \log p^*(v) - \log Z

Annealing forwards gives the upper end of the bracket (its :math:`\log Z` is a stochastic lower bound), RAISE on some
rows the lower end; where hidden layers cannot be drawn given a row, annealing backwards from the model's own chains
takes RAISE's place, an estimate, as those are no exact draws.  The path is doubled until the ends are as close as
asked, or the time is over.  What the two ends cannot see is told as UNRELIABLE: few effective chains, or ends that lie
apart.  Where log p* itself has only a bound, mean field's, the number is one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.certify import certify
from reverie.evaluate.mapped import over_rows
from reverie.evaluate.rows import RowResult, Watch, as_rows, checked_seed, on_device, visiting_order
from reverie.prob import partition
from reverie.prob.anneal import Annealed
from reverie.prob.contracts import Bounded, Energy, Marginal

#: Rows of RAISE, chains a row of it, and chains forwards and backwards.
RAISED, PER_ROW, CHAINS = 100, 10, 100
#: Ends further apart than this, or fewer effective chains, make a bracket unreliable.
WIDE, FEW = 1.0, 5.0
#: Hidden units above a row whose states are counted for it, and sweeps of the chains that are annealed backwards.
COUNTED, SETTLED = 12, 1000
_PIECE = 250


@dataclass(frozen=True)
class Plan:
    """How log Z is bracketed.

    Attributes:
        chains: annealed each way.
        temperatures: of the first path; doubled from there.
        most: temperatures at which doubling ends.
        tolerance: ends this close (nats) are close enough.
    """

    chains: int = CHAINS
    temperatures: int = 1000
    most: int = 16_000
    tolerance: float = 0.2

    def __post_init__(self) -> None:
        for name, least in (("chains", 2), ("temperatures", 1), ("most", 1)):
            if getattr(self, name) < least:
                raise ReverieError(f"{name}: {getattr(self, name)} is too few; give at least {least}")
        if not self.tolerance > 0:
            raise ReverieError(f"tolerance: {self.tolerance:g} nats is not positive; 0.2 is the usual")


@dataclass(frozen=True)
class LogZ:
    """What is known of log Z.

    Attributes:
        value: exact, or the middle of the bracket of log Z.
        low, high: the ends; equal when exact.
        error: standard error of the ends' Monte Carlo.
        ess: effective number of the forward chains.
        worst: the largest share of one forward chain.
        estimator: ``enumerated`` or ``ais-<chains>x<temperatures>``.
        note: what a reader must know.
    """

    value: float
    low: float
    high: float
    error: float
    ess: float
    worst: float
    estimator: str
    note: str | None = None

    @property
    def exact(self) -> bool:
        return self.estimator == "enumerated"


def countable(model: Energy) -> bool:
    """Say whether log Z can be had by counting states."""
    return partition.state_units(model) <= partition.ENUMERABLE


def counted(model: Energy) -> LogZ:
    """Return the exact log Z of a model whose states can be counted."""
    value = partition.enumerated(model)
    return LogZ(value, value, value, 0.0, np.inf, 0.0, "enumerated")


class Annealing:
    """Chains led along linear paths of a model, forwards from the base law and backwards from given states."""

    def __init__(self, model: Energy, plan: Plan, seed: int, watch: Watch | None = None) -> None:
        self.model, self.plan, self.watch = on_device(model), plan, watch
        self.key = jax.random.key(checked_seed(seed))
        with jax.default_matmul_precision("highest"):
            self.log_z0 = float(self.model.base_log_partition())
        self.done = 0

    def lead(self, chains: Annealed, number: int, temperatures: int, *, back: bool = False) -> Annealed:
        """Lead chains along a whole path, in pieces between which a wish to stop is heard."""
        # Padded to one length, so that every path runs on one executable.
        betas = partition.linear_path(temperatures)[:: -1 if back else 1]
        padded = jnp.asarray(np.concatenate([betas, np.full(self.plan.most + 1 - len(betas), betas[-1])]), jnp.float32)
        key = jax.random.fold_in(self.key, number)
        with jax.default_matmul_precision("highest"):
            for first in range(0, temperatures, _PIECE):
                last = min(first + _PIECE, temperatures)
                chains = partition.piece(self.model, chains, key, padded, jnp.int32(first), jnp.int32(last))
                self.done += last - first
                if self.watch is not None:
                    jax.block_until_ready(chains)
                    self.watch(self.done)
        return chains

    def forwards(self, temperatures: int) -> tuple[dict[str, Any], Any]:
        """Return what forward chains say of log Z, and where they ended."""
        begin = partition.start(self.model, jax.random.fold_in(self.key, 0), self.plan.chains)
        done = self.lead(begin, 1, temperatures)
        found = partition.certain(np.asarray(done.log_weight()))
        return {**found, "value": self.log_z0 + found["value"]}, done.position

    def backwards(self, states: Any, temperatures: int) -> dict[str, Any]:
        """Return what chains led back say of log Z, from `states` that a chain of the model's own has settled at."""
        settled = partition.swept(self.model, jax.random.fold_in(self.key, 4), states, jnp.int32(0), jnp.int32(SETTLED))
        done = self.lead(jax.vmap(Annealed.start)(settled), 5, temperatures, back=True)
        found = partition.certain(np.asarray(done.log_weight()))
        return {**found, "value": self.log_z0 - found["value"]}

    def raised(self, rows: Float[np.ndarray, "n D"], temperatures: int) -> Float[np.ndarray, " n"]:
        """Return RAISE's log p of each row, conservative."""
        model = self.model
        keys = jax.random.split(jax.random.fold_in(self.key, 2), len(rows) * PER_ROW)
        tiled = jnp.repeat(jnp.asarray(rows), PER_ROW, axis=0)
        states = _drawn(model, keys, tiled)
        done = self.lead(jax.vmap(Annealed.start)(states), 3, temperatures, back=True)
        weights = np.asarray(done.log_weight(), np.float64).reshape(len(rows), PER_ROW)
        return unnormalised(model, rows)[0] - self.log_z0 + np.logaddexp.reduce(weights, axis=1) - np.log(PER_ROW)


@eqx.filter_jit
def _drawn(model: Any, keys: Array, rows: Array) -> Any:
    return jax.vmap(model.draw_state)(keys, rows)


def _log_unnormalised(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_unnormalised(x)


def _log_counted(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_counted(x)


def _log_bound(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_bound(x)


def unnormalised(model: Any, rows: Float[np.ndarray, "n D"]) -> tuple[Float[np.ndarray, " n"], bool]:
    r"""Return :math:`\log p^*(v)` of every row, in float64, and whether that is itself or a bound of it.

    Raises:
        ReverieError: for a model that has neither.
    """
    if isinstance(model, Marginal):
        how = _log_unnormalised
    elif isinstance(model, Bounded):
        how = _log_counted if model.countable_units <= COUNTED else _log_bound
    else:
        raise ReverieError(f"evaluate: a {type(model).__name__} has no density of a row")
    with jax.default_matmul_precision("highest"):
        found = np.asarray(over_rows(how, model, rows), np.float64)
    return found, how is not _log_bound


def partition_function(
    model: Energy,
    rows: Float[np.ndarray, "n D"],
    plan: Plan,
    *,
    seed: int = 0,
    minutes: float | None = None,
    watch: Watch | None = None,
) -> LogZ:
    """Return log Z, bracketed with the help of some rows of the data.

    Args:
        rows: from which RAISE's are chosen; what it says of them less log p* is its end for log Z.
        minutes: double the path no further after so long.
    """
    chosen = rows[np.sort(visiting_order(len(rows), seed)[:RAISED])]
    annealing = Annealing(model, plan, seed, watch)
    began, temperatures = time.monotonic(), min(plan.temperatures, plan.most)
    while True:
        there, ends = annealing.forwards(temperatures)
        back, back_error = _other_side(annealing, chosen, ends, temperatures)
        close = abs(back - there["value"]) <= plan.tolerance
        late = minutes is not None and time.monotonic() - began > 60.0 * minutes / 2
        if close or late or 2 * temperatures > plan.most:
            break
        temperatures *= 2
    low, high = min(there["value"], back), max(there["value"], back)
    error = float(np.hypot(there["error"], back_error) / 2)
    return LogZ((low + high) / 2, low, high, error, there["ess"], there["worst"],
                f"ais-{plan.chains}x{temperatures}", _doubts(low, high, there))  # fmt: skip


def _other_side(
    annealing: Annealing, rows: Float[np.ndarray, "n D"], ends: Any, temperatures: int
) -> tuple[float, float]:
    """Return log Z from the side that is too large, and its standard error."""
    if not isinstance(annealing.model, Marginal):
        back = annealing.backwards(ends, temperatures)
        return back["value"], back["error"]
    # log Z = log p* - log p, on average over the rows: RAISE's p is too small, its log Z too large.
    gaps = unnormalised(annealing.model, rows)[0] - annealing.raised(rows, temperatures)
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0


def _doubts(low: float, high: float, there: dict[str, Any]) -> str | None:
    found = []
    if high - low > WIDE:
        found.append(f"the two sides lie {high - low:.1f} nats apart")
    if there["ess"] < FEW:
        found.append(f"{there['ess']:.1f} effective chains, one with {there['worst']:.0%} of the weight")
    return f"UNRELIABLE: {'; '.join(found)}; give more temperatures" if found else None


def annealed_energy(
    model: Any,
    rows: Float[np.ndarray, "n D"],
    *,
    chains: int = CHAINS,
    temperatures: int = 1000,
    most: int = 16_000,
    tolerance: float = 0.2,
    exact: bool | None = None,
    seed: int = 0,
    minutes: float | None = None,
    progress: Watch | None = None,
    **unused: Any,
) -> RowResult:
    r"""Return log p of each row with what is known of log Z in `info`: ``low``, ``high`` (of log Z) and its ``error``.

    Args:
        model: an `Energy` with a density of a row, or a bound of it.
        exact: count the states (True), anneal (False), or count where that is possible (None).

    Raises:
        ReverieError: for a model without either, or numbers that make no sense.
    """
    rows, plan = as_rows(rows), Plan(chains, temperatures, max(most, temperatures), tolerance)
    model = on_device(model)
    if exact or (exact is None and countable(model)):
        log_z = counted(model)
    else:
        log_z = partition_function(model, rows, plan, seed=seed, minutes=minutes, watch=progress)
    free, itself = unnormalised(model, rows)
    values, n, one = free - log_z.value, len(rows), np.ones(1)
    return RowResult(
        values, np.zeros(n), np.full(n, float(plan.chains)), np.arange(n), plan.chains, log_z.estimator, seed, n,
        kind="lower_bound" if not itself else "exact" if log_z.exact else "bracket",
        info={"low": log_z.low * one, "high": log_z.high * one, "error": log_z.error * one,
              "note": np.asarray(log_z.note or "")},
    )  # fmt: skip


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


def validator(rows: int = 1000, seed: int = 0, temperatures: int = 500) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate``: exact where states can be counted, else short annealing.

    The short path is forwards alone, with the same random numbers each time: it compares epochs, and certifies none.
    """

    def validate(model: Any, data: Dataset, key: Any = None) -> Estimate:
        x = data.rows("valid", 0, rows)
        if partition.state_units(model) <= 20:
            result = annealed_energy(model, x, exact=True)
            return certify(result, data, "valid", indices=np.arange(len(x)))
        annealing = Annealing(model, Plan(most=temperatures), seed)
        there, _ = annealing.forwards(temperatures)
        values, n = unnormalised(annealing.model, x)[0] - there["value"], len(x)
        result = RowResult(values, np.zeros(n), np.full(n, there["ess"]), np.arange(n), CHAINS,
                           f"ais-{CHAINS}x{temperatures}", seed, n, kind="estimate")  # fmt: skip
        return certify(result, data, "valid", indices=np.arange(n))

    return validate
