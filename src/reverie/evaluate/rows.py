"""Going through rows one block at a time: the same order always, never lost, in memory that does not grow.

A row's randomness comes from its own content and the seed, so that its value depends on neither order nor company.
Rows are visited in a seeded random order: wherever it is stopped, what is done is an unbiased part of the whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, UInt32

from reverie.arrays import named_leaves, placed
from reverie.errors import ReverieError
from reverie.estimate import Kind
from reverie.files import npz_bytes, write_making_folder

#: ``watch(rows done, **numbers)``, such as the `update` of a progress task.
Watch = Callable[..., None]
#: ``score(rows, given, words) -> {name: values}``, every array with the block's rows in front.
Score = Callable[[np.ndarray, np.ndarray | None, np.ndarray], dict[str, np.ndarray]]
SAVE_SECONDS = 5.0


@dataclass(frozen=True)
class RowResult:
    """One value a row, with how it was made.

    Attributes:
        values: in nats, float64, shape ``(m,)``, by ascending `indices`.
        variances: the estimator's own variance of each value.
        ess: effective sample size of each row, between 1 and `samples`.
        indices: which rows of the split these are.
        samples: k (chains, for annealed importance sampling).
        estimator: such as ``importance-5000``.
        seed: of the estimator.
        rows_of: rows that there are; more than m when it was stopped or a subset was asked for.
        kind: what the values are to log p(x).
        units: ``model`` or ``file``: whose density the values are of.
        by_class: log p(x given class), shape ``(m, C)``, for class-conditional models.
        info: further per-row arrays of the estimator, such as ``acceptance``.
        note: what a reader of the number must know of the estimator.
    """

    values: Float[np.ndarray, " m"]
    variances: Float[np.ndarray, " m"]
    ess: Float[np.ndarray, " m"]
    indices: Int[np.ndarray, " m"]
    samples: int
    estimator: str
    seed: int
    rows_of: int
    kind: Kind = "lower_bound"
    units: Literal["model", "file"] = "model"
    by_class: Float[np.ndarray, "m C"] | None = None
    info: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    note: str | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what ``arrays/evaluation-*.npz`` holds."""
        own = {"values": self.values, "variances": self.variances, "ess": self.ess, "indices": self.indices}
        return own if self.by_class is None else {**own, "by_class": self.by_class}


def as_rows(rows: Any) -> Float[np.ndarray, "n D"]:
    """Return `rows` as contiguous float32 of shape ``(n, D)``.

    Raises:
        ReverieError: for another number of axes, no row, or what is no number.
    """
    try:
        array = np.asarray(rows, np.float32)
    except (TypeError, ValueError):
        raise ReverieError("rows: these are not numbers; give an array of shape (n, D)") from None
    if array.ndim != 2 or not array.size:
        raise ReverieError(f"rows: shape {array.shape} is not (n, D) with at least one row; reshape them")
    # Adding zero turns -0.0 into 0.0, so that equal rows have equal bytes.
    return np.ascontiguousarray(array + np.float32(0.0))


def row_words(rows: Float[np.ndarray, "n D"]) -> UInt32[np.ndarray, "n 2"]:
    """Return two words for each row, from its content alone (BLAKE2b)."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), "<u4").reshape(-1, 2)


def row_key(seed: UInt32[jax.Array, ""], words: UInt32[jax.Array, " 2"]) -> PRNGKeyArray:
    """Return the key of a row with these `words`."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), words[0]), words[1])


def visiting_order(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return the seeded random order in which n rows are visited; a part of it is a sample without bias."""
    return np.random.default_rng([checked_seed(seed), n]).permutation(n)


def fingerprint(model: Any, *parts: Any) -> str:
    """Return a hash of a model's arrays and of whatever else a result depends on."""
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name, leaf in named_leaves(model):
        _feed(digest, name, leaf)
    for part in parts:
        _feed(digest, "part", part)
    return digest.hexdigest()


def _feed(digest: Any, name: str, part: Any) -> None:
    if isinstance(part, np.ndarray | jax.Array):
        array = np.ascontiguousarray(part)
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    elif not callable(part):
        # A function prints with its address, which is another one in every process.
        digest.update(f"{name} {part!r} ".encode())


def on_device(model: Any) -> Any:
    """Return `model` with NumPy leaves as JAX arrays: as constants they would each be compiled anew."""
    return jax.tree.map(lambda a: placed(a) if isinstance(a, np.ndarray) else a, model)


@dataclass
class Sweep:
    """A walk over rows with a scorer, saved as it goes.

    Attributes:
        score: values of one block, always of the same shape (padded).
        rows: what is scored.
        given: what each row is conditioned on, rows in front, or None.
        block: rows at a time.
        seed: of the order.
        mark: fingerprint of everything that the values depend on.
        resume: file of partial results, or None.
        minutes: stop after so long (after at least one row), or None.
        watch: told of the rows done and their running mean.
        classes: when positive, each row is scored given each of so many classes in turn, with the same randomness.
    """

    score: Score
    rows: np.ndarray
    given: np.ndarray | None
    block: int
    seed: int
    mark: str
    resume: Path | None = None
    minutes: float | None = None
    watch: Watch | None = None
    classes: int = 0

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ReverieError(f"block: {self.block} is not a number of rows; give 1 or more, or leave it out")
        if self.minutes is not None and not self.minutes > 0:
            raise ReverieError(f"minutes: {self.minutes} is not a positive number; leave it out for no limit")
        self.words = row_words(self.rows)
        self.order = visiting_order(len(self.rows), self.seed)
        self.done: dict[str, np.ndarray] = {}

    @property
    def group(self) -> int:
        """Values a row."""
        return max(self.classes, 1)

    @property
    def count(self) -> int:
        """Rows done so far."""
        return len(next(iter(self.done.values()))) if self.done else 0

    def run(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the indices of the rows done, ascending, and their arrays, shape ``(m,)`` or ``(m, classes)``."""
        self._load()
        deadline = np.inf if self.minutes is None else time.monotonic() + 60.0 * self.minutes
        saved = time.monotonic()
        try:
            while self.count < len(self.order) * self.group:
                self._step()
                if time.monotonic() > deadline and self.count >= self.group:
                    break
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:
            # Also when interrupted: what is done stays done.
            self._save()
        return self._ordered()

    def _ordered(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        whole = self.count // self.group
        where = np.argsort(self.order[:whole], kind="stable")
        shape = (whole, self.classes) if self.classes else (whole,)
        kept = {name: a[: whole * self.group].reshape(shape)[where] for name, a in self.done.items()}
        return self.order[:whole][where], kept

    def _step(self) -> None:
        place = np.arange(self.count, min(self.count + self.block, len(self.order) * self.group))
        # Padded with the block's own first row: one shape, one executable.
        padded = np.concatenate([place, np.full(self.block - len(place), place[0])])
        row = self.order[padded // self.group]
        given = None if self.given is None else self.given[row]
        if self.classes:
            given = np.eye(self.classes, dtype=np.float32)[padded % self.group]
        new = {k: np.asarray(v)[: len(place)] for k, v in self.score(self.rows[row], given, self.words[row]).items()}
        self.done = {k: np.concatenate([self.done[k], v]) if self.done else v for k, v in new.items()}
        if self.watch is not None:
            self.watch(self.count // self.group, value=float(np.mean(self.done["values"], dtype=np.float64)))

    def _load(self) -> None:
        if self.resume is None or not self.resume.exists():
            return
        # A torn or foreign file costs the work in it, never the answer.
        torn = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with contextlib.suppress(*torn), self.resume.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["fingerprint"]) == self.mark:
                self.done = {name: kept[name] for name in kept.files if name != "fingerprint"}

    def _save(self) -> None:
        if self.resume is not None and self.done:
            write_npz(self.resume, fingerprint=np.asarray(self.mark), **self.done)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to `path`, making its folder; a reader, or a kill, sees the old file or the new one."""
    write_making_folder(path, npz_bytes(arrays))


def checked_seed(seed: int) -> int:
    """Return `seed`, insisting that it is an unsigned number of 32 bits."""
    if not 0 <= int(seed) < 2**32:
        raise ReverieError(f"seed: {seed} is not between 0 and {2**32 - 1}")
    return int(seed)
