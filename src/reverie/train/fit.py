"""Training with a clock, a folder and a way out: chunks of the engine between journal, validation and checkpoint.

Journal lines and validations fall on fixed steps; checkpoints on the clock; chunks in between are at most about
half a second, so that a signal is noticed.  None of it changes a weight.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from reverie.arrays import is_trainable, named_leaves, placed
from reverie.data.dataset import Dataset
from reverie.data.rows import pieces
from reverie.errors import NonFinite, ReverieError
from reverie.train import checkpoint
from reverie.train.draws import Feed
from reverie.train.engine import Engine, replicate
from reverie.train.folder import RunFolder
from reverie.train.journal import Journal
from reverie.train.recipe import Recipe
from reverie.train.replay import first_bad

#: Seconds a chunk aims at, and seconds between checkpoints (the tests that kill runs want them often).
CHUNK_SECONDS, SAVE_SECONDS = 0.4, float(os.environ.get("REVERIE_SAVE_SECONDS", "30"))
#: Folded into the run's key for validation and finishing.
_VALIDATE, _FINISH = 2, 3
#: At most this many journal lines in a planned run.
_LINES = 400
#: Journalled values that are log-densities; they are told in the file's own units, as validation is.
_DENSITIES = ("elbo", "bound", "objective", "log_likelihood")


class Watcher(Protocol):
    """Told of progress a few times a second."""

    def __call__(self, done: int, **numbers: float) -> None: ...


@dataclass
class Kept:
    """The weights that count so far, by the recipe's `select`."""

    model: PyTree = None
    score: float = -math.inf
    step: int = -1


def mean_log_scale(data: Dataset) -> float:
    r"""Return :math:`\sum_d \log s_d` over the observed cells of a training row, the mean over rows; 0 if discrete.

    So much lower is a mean log-density in the file's own units than in the model's.
    """
    if not data.missing:
        return data.log_scale
    if data.measure == "mass":
        return 0.0
    seen = sum((~np.isnan(piece)).sum(axis=0) for piece in pieces(data.splits["train"].x))
    return float(np.sum(seen * data.log_scales) / data.size("train"))


@dataclass
class Fit:
    """One stage of one run, from its first step or its checkpoint to its planned end.

    Attributes:
        model: structure and, for a fresh start, initial weights.
        recipe, data, seed: what to train, on what.
        steps: planned total of this stage; `before` steps were done in earlier stages, `stage` of them.
        folder: where it lives.
        asked: says whether somebody asked to stop.
        watch: told of progress.
        deadline: monotonic time to stop at, or None.
        optimisers: optimiser states to start from (going on from another run), or None.
        mesh: devices the batch is split over, or None.
    """

    model: PyTree
    recipe: Recipe
    data: Dataset
    seed: int
    steps: int
    folder: RunFolder
    asked: Callable[[], bool] = lambda: False
    watch: Watcher = lambda done, **numbers: None
    deadline: float | None = None
    optimisers: PyTree = None
    mesh: Mesh | None = None
    stage: int = 0
    before: int = 0
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        seed = np.uint32(self.seed)
        feed = Feed(self.data.training_source(), jax.numpy.asarray(seed))
        self.engine = Engine(self.model, self.recipe, feed, self.seed, self.mesh)
        self.journal = Journal(self.folder.metrics)
        self.state = self.engine.init()
        if self.optimisers is not None:
            self.state = eqx.tree_at(lambda s: s.optimisers, self.state, self.optimisers)
        self.writes = jax.process_index() == 0
        self._log_scale = mean_log_scale(self.data)
        self._seconds, self._chunk, self._saved_at = 0.0, 2, time.monotonic()

    @property
    def epoch_steps(self) -> float:
        return self.data.size("train") / self.recipe.batch

    def restore(self) -> None:
        """Take up the state of the folder's checkpoint and cut the journal back to it."""
        saved, extra = checkpoint.load(self.folder.path, self._arrays(kept=self._has_kept()))
        self.state = eqx.combine(saved["state"], eqx.filter(self.state, eqx.is_array, inverse=True))
        if self.mesh is not None:
            self.state = replicate(self.state, self.mesh)
        if extra["kept_step"] >= 0:
            kept = eqx.combine(saved["kept"], eqx.filter(self.model, eqx.is_array, inverse=True))
            score = -math.inf if extra["kept_score"] is None else extra["kept_score"]
            self.kept = Kept(kept, score, extra["kept_step"])
        self._seconds = extra["seconds"]
        if self.writes:
            self.journal.cut(extra["total_step"])

    def run(self) -> str:
        """Train to the end, or until asked to stop; return ``finished`` or ``stopped``.

        Raises:
            NonFinite: when a loss is not finite; the last checkpoint is kept.
        """
        if not self.folder.has_checkpoint and self.writes:
            self.save()
        while (step := int(self.state.step)) < self.steps:
            if self.asked() or (self.deadline is not None and time.monotonic() > self.deadline):
                self.save()
                return "stopped"
            self._advance(step)
            self._at_marks(int(self.state.step))
        self._end()
        return "finished"

    def _advance(self, step: int) -> None:
        until = min(
            self.steps, step + self._chunk, self._next(step, self.journal_every), self._next(step, self.valid_every)
        )
        began = time.monotonic()
        self.state = jax.block_until_ready(self.engine.advance(self.state, until))
        spent = time.monotonic() - began
        if not bool(self.state.good):
            bad = int(self.state.step) - 1
            raise NonFinite(self._bad_text(bad, self._first_bad(bad) or "loss"))
        self._seconds += spent
        # The first call compiles; its time says nothing about a step, so growth is bounded.
        wanted = CHUNK_SECONDS * (until - step) / max(spent, 1e-6)
        self._chunk = int(min(max(wanted, 1), 4 * self._chunk + 1, 2**20))

    def _at_marks(self, step: int) -> None:
        if step == self.steps:
            return  # `_end` validates and journals the last step
        if step % self.valid_every == 0:
            self._validate(step)
        elif step % self.journal_every == 0:
            self._journal(step)
        else:
            self._tell(step)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()

    def _end(self) -> None:
        if self.kept.step != self.steps:
            self._validate(self.steps)
        if self.recipe.select != "best" or self.kept.model is None:
            self.kept = Kept(self.finished(), self.kept.score, self.steps)
        self.save()

    def finished(self) -> PyTree:
        """Return the model of the present step with exact statistics, averaged if the recipe averages."""
        live = self.state.model
        if self.state.average is not None:
            live = eqx.combine(self.state.average, eqx.filter(live, eqx.is_array, inverse=True))
        # Copied: the state's buffers are donated at the next chunk.
        live = jax.tree.map(lambda a: placed(a) if eqx.is_array(a) else a, live)
        if self.recipe.finish is None:
            return live
        return self.recipe.finish(live, self.data, self._key(_FINISH))

    def _validate(self, step: int) -> None:
        if self.recipe.validate is None:
            return self._journal(step)
        model = self.finished()
        try:
            estimate = self.recipe.validate(model, self.data, self._key(_VALIDATE))
        except ReverieError as wrong:
            # Weights may go bad in the very step after which they are judged, before a loss tells of it.
            if (found := self._first_bad(step)) is None:
                raise
            raise NonFinite(self._bad_text(step, found)) from wrong
        if self.recipe.select == "best" and estimate.value > self.kept.score:
            self.kept = Kept(model, estimate.value, step)
        self._journal(step, valid=estimate.to_json())
        return None

    def _key(self, purpose: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.seed), purpose)

    def _journal(self, step: int, **more: Any) -> None:
        values, total = self._means(), self.before + step
        record = {"step": total, "epoch": step / self.epoch_steps, "seconds": round(self._seconds, 3), **values, **more}
        if self.stage:
            record["stage"] = self.stage
        if self.writes and values:
            self.journal.append(record)
        zeros = jax.tree.map(lambda a: a * 0, (self.state.sums, self.state.count))
        self.state = eqx.tree_at(lambda s: (s.sums, s.count), self.state, zeros)
        self._tell(step, **values, **({"valid": more["valid"]["value"]} if more else {}))

    def _tell(self, step: int, **values: float) -> None:
        self.watch(self.before + step, **{**self._means(), **values})

    def _means(self) -> dict[str, float]:
        """Return the means since the last journal line, log-densities in the file's own units; none without a step."""
        count = float(self.state.count)
        shift = dict.fromkeys(_DENSITIES, self._log_scale)
        return {k: float(v) / count - shift.get(k, 0.0) for k, v in self.state.sums.items()} if count else {}

    def save(self) -> None:
        """Write a checkpoint, unless the weights have gone bad."""
        self._saved_at = time.monotonic()
        for name, leaf in named_leaves(self.state.model, is_trainable):
            if not bool(np.isfinite(np.asarray(leaf)).all()):
                raise NonFinite(self._bad_text(int(self.state.step), f"weight {name}"))
        if not self.writes:
            return
        total = self.before + int(self.state.step)
        extra = {
            "stage": self.stage,
            "before": self.before,
            "kept_step": self.kept.step,
            "kept_score": self.kept.score if math.isfinite(self.kept.score) else None,
            "seconds": self._seconds,
            "total_step": total,
        }
        checkpoint.save(self.folder.path, total, self._arrays(kept=self.kept.model is not None), extra)

    def _arrays(self, kept: bool) -> PyTree:
        model = self.kept.model if self.kept.model is not None else self.model
        tree = {"state": eqx.filter(self.state, eqx.is_array)}
        return {**tree, "kept": eqx.filter(model, eqx.is_array)} if kept else tree

    def _has_kept(self) -> bool:
        meta = checkpoint.peek(self.folder.path)
        return meta is not None and meta["kept_step"] >= 0

    def _first_bad(self, step: int) -> str | None:
        """Replay to `step` from the checkpoint, or from the start of a stage that wrote none; the state is given up."""
        meta = checkpoint.peek(self.folder.path)
        if meta is not None and meta["stage"] == self.stage:
            self.restore()
        else:
            self.state = self.engine.init()
        return first_bad(self.engine, self.state, step)

    def _bad_text(self, step: int, what: str) -> str:
        return (
            f"step {self.before + step}: {what} is not finite; the last good checkpoint is kept in "
            f"{self.folder.path}; train anew with a smaller --rate, or so from its weights with "
            f"--init-from {self.folder.path}"
        )

    def _next(self, step: int, every: int) -> int:
        return (step // every + 1) * every

    @property
    def journal_every(self) -> int:
        return max(1, round(self.epoch_steps), self.steps // _LINES)

    @property
    def valid_every(self) -> int:
        return max(1, round(self.recipe.valid_every * self.epoch_steps))
