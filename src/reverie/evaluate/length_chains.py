r"""Chains of many lengths led along one path each way, and the bracket of log Z that they give each length.

All lengths of a block are rows of one batch: forwards from the base law, from the other side RAISE on documents of
that length, and annealing backwards from where the forward chains ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from reverie.evaluate.annealing import Annealing, End, Plan
from reverie.evaluate.log_z import LogZ, Round, doubts, ended
from reverie.evaluate.rows import Watch, visiting_order
from reverie.prob import partition
from reverie.prob.anneal import Annealed

#: How many documents of a length RAISE takes, and lengths that are annealed at once, at most.
RAISED = 5
_BLOCK = 10


class Store(Protocol):
    """Where what is found is kept as it is found."""

    def keep(self, found: Mapping[int, LogZ]) -> None: ...


@dataclass
class Lengths:
    """Chains of many lengths, led along one path each way, blocks of like lengths at a time."""

    model: Any
    rows: Float[np.ndarray, "n K"]
    numbers: Int[np.ndarray, " n"]
    plan: Plan
    seed: int
    minutes: float | None = None
    watch: Watch | None = None

    def all(self, wanted: Int[np.ndarray, " L"], done: Mapping[int, LogZ], store: Store | None) -> dict[int, LogZ]:
        """Return the log Z of every length, kept as they are found; `done` are those known before."""
        # Few and like lengths together, as a block takes as long as its longest document; of one size, so that all
        # run on one executable, and filled up with short ones.
        blocks = np.array_split(wanted, -(-len(wanted) // _BLOCK))
        found: dict[int, LogZ] = {}
        for number, block in enumerate(blocks):
            padded = np.concatenate([np.full(len(blocks[0]) - len(block), block[0]), block])
            most = 3 * (2 * max(self.plan.most, self.plan.temperatures) - self.plan.temperatures)
            watch = None if self.watch is None else _part(self.watch, number, len(blocks), most)
            found |= self.block(padded, watch, len(blocks))
            if store is not None:
                store.keep({**done, **found})
        return found

    def block(self, numbers: Int[np.ndarray, " L"], watch: Watch | None, of: int) -> dict[int, LogZ]:
        """Return the log Z of some lengths: paths are doubled until brackets are close on average, or it is late."""
        annealing = Annealing(self.model, self.plan, self.seed, watch)
        began, temperatures = time.monotonic(), min(self.plan.temperatures, self.plan.most)
        rounds: list[list[Round]] = [[] for _ in numbers]
        while True:
            sides, sure = self.round(annealing, numbers, temperatures)
            for mine, ends in zip(rounds, sides, strict=True):
                mine.append(Round(temperatures, ends))
            gaps = [abs(_back(ends).value - ends[0].value) for ends in sides]
            late = self.minutes is not None and time.monotonic() - began > 60.0 * self.minutes / (2 * of)
            if why := ended(float(np.mean(gaps)) <= self.plan.tolerance, late, 2 * temperatures > self.plan.most):
                break
            temperatures *= 2
        took = time.monotonic() - began
        return {int(n): self.record(r, s, took, why) for n, r, s in zip(numbers, rounds, sure, strict=True)}

    def record(self, rounds: Sequence[Round], sure: Mapping[str, Any], seconds: float, why: Any) -> LogZ:
        there, back = rounds[-1].ends[0], _back(rounds[-1].ends)
        low, high = min(there.value, back.value), max(there.value, back.value)
        return LogZ(
            (low + high) / 2, low, high, float(np.hypot(there.error, back.error) / 2), sure["ess"], sure["worst"],
            f"ais-{self.plan.chains}x{rounds[-1].temperatures}", doubts(low, high, sure), tuple(rounds),
            self.plan.chains, seconds, why,
        )  # fmt: skip

    def round(
        self, annealing: Annealing, numbers: Int[np.ndarray, " L"], temperatures: int
    ) -> tuple[list[tuple[End, ...]], list[dict[str, Any]]]:
        """Return the ends of each length at one length of path, and how sure the forward chains are."""
        log_z0 = self.base(numbers)
        states, sure = self.forwards(annealing, numbers, temperatures)
        raised = self.raised(annealing, numbers, temperatures, log_z0)
        back = self.backwards(annealing, states, temperatures)
        sides: list[tuple[End, ...]] = [
            (
                End("forward", "lower_bound", z0 + s["value"], s["error"]),
                up,
                End("reverse", "estimate", z0 - b["value"], b["error"]),
            )
            for z0, s, up, b in zip(log_z0, sure, raised, back, strict=True)
        ]
        return sides, sure

    def base(self, numbers: Int[np.ndarray, " L"]) -> list[float]:
        """Return log Z of the base law at each length."""
        with jax.default_matmul_precision("highest"):
            own = jax.vmap(lambda n: self.model.of_length(n).base_log_partition())(jnp.asarray(numbers, jnp.float32))
        return np.asarray(own, np.float64).tolist()

    def forwards(
        self, annealing: Annealing, numbers: np.ndarray, temperatures: int
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Return where chains from the base law end, and what their weights say of each length."""
        many = jnp.asarray(np.repeat(numbers, self.plan.chains), jnp.float32)
        keys = jax.random.split(jax.random.fold_in(annealing.key, 0), len(many))
        begin = jax.vmap(Annealed.start)(jax.vmap(self.model.begin)(keys, many))
        done = annealing.lead(begin, 1, temperatures)
        return done.position, self.certain(done)

    def backwards(self, annealing: Annealing, states: Any, temperatures: int) -> list[dict[str, Any]]:
        """Return what chains led back from where the forward ones ended, swept on, say of each length."""
        key = jax.random.fold_in(annealing.key, 4)
        with jax.default_matmul_precision("highest"):
            at = partition.swept(self.model, key, states, jnp.int32(0), jnp.int32(max(1, temperatures // 5)))
        return self.certain(annealing.lead(jax.vmap(Annealed.start)(at), 5, temperatures, back=True))

    def certain(self, done: Annealed) -> list[dict[str, Any]]:
        weights = np.asarray(done.log_weight(), np.float64).reshape(-1, self.plan.chains)
        return [partition.certain(own) for own in weights]

    def raised(
        self, annealing: Annealing, numbers: np.ndarray, temperatures: int, log_z0: Sequence[float]
    ) -> list[End]:
        """Return RAISE's end for each length, from up to `RAISED` documents of that length."""
        per_row = max(1, self.plan.chains // RAISED)
        order = visiting_order(len(self.rows), self.seed)
        chosen = np.concatenate([np.resize(order[self.numbers[order] == n], RAISED) for n in numbers])
        rows = self.rows[chosen]
        keys = jax.random.split(jax.random.fold_in(annealing.key, 2), len(rows) * per_row)
        states = _drawn(self.model, keys, jnp.asarray(np.repeat(rows, per_row, axis=0)))
        done = annealing.lead(jax.vmap(Annealed.start)(states), 3, temperatures, back=True)
        weights = np.asarray(done.log_weight(), np.float64).reshape(-1, per_row)
        found = (np.logaddexp.reduce(weights, axis=1) - np.log(per_row)).reshape(-1, RAISED)
        errors = found.std(axis=1, ddof=1) / np.sqrt(RAISED)
        return [
            End("raise", "upper_bound", z0 - float(own.mean()), float(error))
            for z0, own, error in zip(log_z0, found, errors, strict=True)
        ]


@jax.jit
def _drawn(model: Any, keys: Any, rows: Any) -> Any:
    return jax.vmap(model.draw_state)(keys, rows)


def _back(ends: Sequence[End]) -> End:
    return max(ends[1:], key=lambda end: end.value)


def _part(watch: Watch, number: int, of: int, most: int) -> Watch:
    # Each block as its share of the whole; one that ends before its longest path is done at once.
    return lambda done, **numbers: watch(round((number * most + done) / of), **numbers)
