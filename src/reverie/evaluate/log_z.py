r"""log Z of an energy from both sides, and what is known of it kept for the next time.

Annealing forwards from the base law gives an end that is too low in expectation.  From the other side come up to two:
RAISE on some rows (for hidden layers that can be drawn given a row), whose log-likelihoods are too low in expectation
and its log Z therefore too high on average over the data; and annealing backwards from the model's own states, too high
in expectation where they are exact draws (few enough states to count), and an estimate where they come from the
forward chains' ends, swept on.  The bracket goes to the higher of the two: what the chains have not found can make
either too low, and nothing makes the higher one less safe.

The path is doubled until the ends are as close as asked, or the time is over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from reverie.errors import ReverieError
from reverie.estimate import crossing
from reverie.evaluate.annealing import Annealing, End, Plan, annealed_part
from reverie.evaluate.rows import Watch, visiting_order
from reverie.files import read_json, to_json, write_atomic
from reverie.prob import partition
from reverie.prob.contracts import Energy, Marginal

#: Rows of RAISE, and units of a state up to which the exact log Z is told beside a bracket.
RAISED, TOLD = 100, 20
#: Ends further apart than this, or fewer effective chains, make a bracket unreliable.
WIDE, FEW = 1.0, 5.0
Ended = Literal["counted", "close", "longest", "late"]


@dataclass(frozen=True)
class Round:
    """The ends that one length of path gave."""

    temperatures: int
    ends: tuple[End, ...]


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
        rounds: the ends at each length of path, the last the ones of the bracket.
        chains, seconds: of annealing.
        ended: why no longer path was tried.
        truth: the exact value beside a bracket, where few states make it cheap.
    """

    value: float
    low: float
    high: float
    error: float
    ess: float
    worst: float
    estimator: str
    note: str | None = None
    rounds: tuple[Round, ...] = ()
    chains: int = 0
    seconds: float = 0.0
    ended: Ended = "counted"
    truth: float | None = None

    @property
    def exact(self) -> bool:
        return self.estimator == "enumerated"

    @property
    def temperatures(self) -> int:
        return self.rounds[-1].temperatures if self.rounds else 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, with the doublings told apart; an infinite number is null."""
        record = dataclasses.asdict(self)
        record |= {"temperatures": self.temperatures, "doublings": max(len(self.rounds) - 1, 0)}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> LogZ:
        """Read back what `to_json` wrote; unknown keys are dropped."""
        names = {field.name for field in dataclasses.fields(LogZ)}
        known = {k: v for k, v in record.items() if k in names}
        rounds = tuple(Round(r["temperatures"], tuple(End(**end) for end in r["ends"])) for r in known["rounds"])
        return LogZ(**{**known, "rounds": rounds, "ess": np.inf if known["ess"] is None else known["ess"]})

    def lines(self) -> list[str]:
        """Return what a person is told of it."""
        if self.exact:
            return [f"log Z = {self.value:.3f} (exact, every state counted)"]
        ends = ", ".join(f"{NAMES[end.name]} {end.value:.3f} +- {end.error:.3f}" for end in self.rounds[-1].ends)
        doubled = len(self.rounds) - 1
        return [
            f"log Z in [{self.low:.3f}, {self.high:.3f}]: {ends}",
            f"{self.ess:.1f} effective of {self.chains} chains, the heaviest with {self.worst:.1%} of the weight; "
            f"{self.temperatures:,} temperatures after {doubled} doubling{'s' * (doubled != 1)}, {self.seconds:.0f} s",
            *filter(None, [self.crossing]),
        ]

    @property
    def crossing(self) -> str | None:
        """What there is to say where the forward end lies above the others, None elsewhere."""
        found = [(end.name == "forward", (end.value, end.error)) for end in self.rounds[-1].ends]
        there, back = ([end for forward, end in found if forward is side] for side in (True, False))
        return crossing(there[0], max(back)) if there and back else None


#: What a person calls the ends.
NAMES = {"forward": "forwards", "raise": "RAISE", "reverse": "backwards"}


class Kept:
    """A file of what is known of log Z of certain weights.

    Args:
        path: of the file.
        weights: fingerprint of the weights; another one makes what is kept worthless.
        any_plan: take what is kept however short its path, as for scores.
        say: told when something is used again.
    """

    def __init__(
        self, path: Path, weights: str, *, any_plan: bool = False, say: Callable[[str], None] | None = None
    ) -> None:
        self.path, self.weights, self.any_plan, self.say = path, weights, any_plan, say

    def read(self) -> LogZ | None:
        """Return what is known of these weights, None without; a torn file is none."""
        return None if (record := self._record()) is None else LogZ.from_json(record["log_z"])

    def find(self, plan: Plan, seed: int, exact: bool) -> LogZ | None:
        """Return what is kept, if annealing by `plan` would add nothing to it."""
        record, found = self._record(), self.read()
        if record is None or found is None or found.exact != exact:
            return None
        if not exact and not (record["seed"] == seed and (self.any_plan or _enough(found, plan))):
            return None
        if self.say is not None and not exact:
            self.say(
                f"log Z of these weights is known, {found.estimator} in {self.path.name}; it is not annealed again"
            )
        return found

    def keep(self, found: LogZ, plan: Plan, seed: int) -> None:
        """Replace what is kept; where that cannot be written, the next call anneals again."""
        record = {"format": 1, "weights": self.weights, "seed": seed, "plan": dataclasses.asdict(plan),
                  "log_z": found.to_json()}  # fmt: skip
        with contextlib.suppress(ReverieError):
            write_atomic(self.path, to_json(record, indent=1))

    def _record(self) -> dict[str, Any] | None:
        with contextlib.suppress(ReverieError, KeyError, TypeError):
            record = read_json(self.path)
            if record is not None and record["weights"] == self.weights:
                LogZ.from_json(record["log_z"])
                return record
        return None


def _enough(found: LogZ, plan: Plan) -> bool:
    """Say whether `plan` would stop no later than where `found` did."""
    if found.chains != plan.chains or found.temperatures < min(plan.temperatures, plan.most):
        return False
    return found.high - found.low <= plan.tolerance or 2 * found.temperatures > plan.most


def countable(model: Energy) -> bool:
    """Say whether log Z can be had by counting states."""
    return partition.state_units(model) <= partition.ENUMERABLE


def counted(model: Energy) -> LogZ:
    """Return the exact log Z of a model whose states can be counted."""
    value = partition.enumerated(model)
    return LogZ(value, value, value, 0.0, np.inf, 0.0, "enumerated", truth=value)


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
    model, chosen = annealed_part(model, rows[np.sort(visiting_order(len(rows), seed)[:RAISED])], seed)
    annealing = Annealing(model, plan, seed, watch)
    began, temperatures, rounds = time.monotonic(), min(plan.temperatures, plan.most), []
    while True:
        there, sure, ends = annealing.forwards(temperatures)
        others = [annealing.raised_end(chosen, temperatures)] if isinstance(annealing.model, Marginal) else []
        others.append(annealing.backwards(ends, temperatures))
        rounds.append(Round(temperatures, (there, *others)))
        back = max(others, key=lambda end: end.value)
        late = minutes is not None and time.monotonic() - began > 60.0 * minutes / 2
        if why := ended(abs(back.value - there.value) <= plan.tolerance, late, 2 * temperatures > plan.most):
            break
        temperatures *= 2
    low, high = min(there.value, back.value), max(there.value, back.value)
    return LogZ(
        (low + high) / 2, low, high, float(np.hypot(there.error, back.error) / 2), sure["ess"], sure["worst"],
        f"ais-{plan.chains}x{temperatures}", doubts(low, high, sure), tuple(rounds), plan.chains,
        time.monotonic() - began, why, counted(model).value if partition.state_units(model) <= TOLD else None,
    )  # fmt: skip


def ended(close: bool, late: bool, longest: bool) -> Ended | None:
    """Return why no longer path is tried, None where one is."""
    return "close" if close else "late" if late else "longest" if longest else None


def doubts(low: float, high: float, sure: Mapping[str, Any]) -> str | None:
    """Return what makes a bracket unreliable, None where nothing does."""
    found = []
    if high - low > WIDE:
        found.append(f"the two sides lie {high - low:.1f} nats apart")
    if sure["ess"] < FEW:
        found.append(f"{sure['ess']:.1f} effective chains, one with {sure['worst']:.0%} of the weight")
    return f"UNRELIABLE: {'; '.join(found)}; give more temperatures" if found else None
