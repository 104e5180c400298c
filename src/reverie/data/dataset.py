"""A data set as a model meets it: stored rows, how they become numbers, and how numbers go back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np

from reverie.arrays import placed
from reverie.data import categories, like
from reverie.data.rows import Absent, Categories, Gathered, Rows, hash_rows, in_memory, pieces
from reverie.data.source import Prepare, Source
from reverie.errors import ReverieError

__all__ = ["DRAWS", "EVALUATION_SEED", "Binarisation", "Dataset", "Likelihood", "Prepare", "Rows", "Source"]

Likelihood = Literal["bernoulli", "categorical", "gaussian", "counts", "mixed", "sequences", "stories", "words"]
Binarisation = Literal["dynamic", "sampled-fixed", "threshold", "as-is", "means"]

#: The seed with which every evaluation binarises grey rows once (the MEM-VAE paper's own).
EVALUATION_SEED = 1234
#: The binarisations that draw.  Rows that are drawn once are stored as 0 or 1, which draws leave as they are.
DRAWS = ("dynamic", "sampled-fixed")
_BLOCK = 1000


@dataclass(frozen=True)
class Dataset:
    """Rows in splits, with everything needed to train on them and to give results in the file's own units.

    Attributes:
        name: short name, used in run folders (``digits``, or a file's stem).
        source: what was asked for: a catalogue name or a path.
        splits: ``train``, ``valid``, ``test`` to `Rows`; x of shape (n, D) in the stored dtype.
        shape: of one row as a person sees it: (28, 28), (h, w, 3), or (D,) for a table.
        likelihood: the law chosen for the rows.
        binarisation: how grey became binary; ``as-is`` where nothing was done, ``means`` where grey stays grey (for
            models judged by a task: it has no likelihood).
        levels: number of categories of every column (categorical only, else 0); see `column_levels`.
        categories: names of the categories of each column, None for one of numbers (mixed only).
        shift, scale: model value = (stored - shift) / scale, per column or one number; scale 0 is a column that is
            always `shift`: a model sees its cells as missing, and it is given back as it is.
        columns: names of a table's columns.
        integers: which columns of a table hold whole numbers only, per column or for all.
        dropped: places in the file, from 0, of columns that were to be left out.
        class_names: names of the classes that `Rows.y` numbers.
        missing: whether a model meets missing cells (NaN).
        whole: whether the rows themselves lack nothing: what is missing then are columns of scale 0 alone.
        split_rule: the named rule that made the splits.
        refit: whether the validation rows are among those that train, so that nothing may be chosen on them.
        inputs: of sequences (`sequences`), the channels of a step that are heard; 0 of other rows.
        apart: the hash before they were: data that share it have the same test rows.
        hash: SHA-256 over every split's bytes, shapes and classes.
        notes: what was understood of the data, a sentence each.
    """

    name: str
    source: str
    splits: Mapping[str, Rows]
    shape: tuple[int, ...]
    likelihood: Likelihood
    binarisation: Binarisation
    hash: str
    levels: int = 0
    categories: Categories | None = None
    shift: np.ndarray | float = 0.0
    scale: np.ndarray | float = 1.0
    columns: tuple[str, ...] | None = None
    integers: np.ndarray | bool = False
    dropped: tuple[int, ...] = ()
    class_names: tuple[str, ...] | None = None
    missing: bool = False
    whole: bool = False
    split_rule: str = "default"
    refit: bool = False
    apart: str | None = None
    inputs: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def width(self) -> int:
        """D, the number of values in a row."""
        return int(self.splits["train"].x.shape[1])

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names) if self.class_names else 0

    @property
    def measure(self) -> Literal["mass", "density"]:
        numbers = self.likelihood == "mixed" and 0 in self.column_levels
        return "density" if numbers or self.likelihood == "gaussian" else "mass"

    @property
    def column_levels(self) -> tuple[int, ...]:
        """Return how many categories each column has, 0 where it holds numbers (or is binary: `likelihood` says so)."""
        if self.categories is None:
            return (self.levels,) * self.width
        return tuple(0 if names is None else len(names) for names in self.categories)

    def named(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in the file's units as they stand in a file: categories by name, NaN where a cell is missing."""
        return categories.named(rows, self.categories)

    def filed(self, rows: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """Return rows that a model said as a file gets them: `named`, in columns of whole numbers the nearest of these.

        Args:
            rows: in the file's units.
            given: NaN where the model said a cell; any other stays as it is.
        """
        said = np.ones(np.shape(rows), bool) if given is None else np.isnan(given)
        return self.named(np.where(said & self.integers, np.rint(rows), rows))

    def joined(self) -> Dataset:
        """Return the same data with the validation rows among those that train (as they stand, scales and all).

        Raises:
            ReverieError: for rows that are read from disk.
        """
        if self.refit:
            return self
        train, valid = self.splits["train"], self.splits["valid"]
        if not (in_memory(train.x) and in_memory(valid.x)):
            raise ReverieError(
                f"refit: {self.source} is read from disk as needed and cannot be joined; raise REVERIE_RESIDENT_BYTES"
            )
        y = None if train.y is None or valid.y is None else np.concatenate([train.y, valid.y])
        splits = {**self.splits, "train": Rows(np.concatenate([train.x, valid.x]), y)}
        note = f"Refit: the {len(valid.x):,} validation rows train, too; nothing is chosen on them."
        how: dict[str, Any] = {"refit": True, "apart": self.hash, "hash": hash_rows(splits, self.categories)}
        return replace(self, splits=splits, notes=(*self.notes, note), **how)

    @property
    def resident(self) -> bool:
        """Whether the training rows are held in memory rather than read from disk as needed."""
        return in_memory(self.splits["train"].x)

    @property
    def prepare(self) -> Prepare:
        """The map from a stored row to a training row."""
        return Prepare(_float32(self.shift), self.divisor, self.binarisation, self.missing)

    @property
    def constant(self) -> np.ndarray:
        """Which columns have scale 0, shape (D,): always the same, so they have no density."""
        return np.broadcast_to(np.asarray(self.scale) == 0, (self.width,))

    @property
    def divisor(self) -> np.ndarray:
        """`scale`, float32, to divide by: NaN in place of 0, so that a constant column's cells become missing."""
        scale = _float32(self.scale)
        return np.where(scale == 0, np.float32(np.nan), scale)

    @property
    def log_scales(self) -> np.ndarray:
        """log scale_d of each column, shape (D,); 0 for a constant one, which has no share in the density."""
        scale = np.broadcast_to(np.asarray(self.scale, np.float64), (self.width,))
        return np.log(np.where(self.constant, 1.0, scale))

    @property
    def log_scale(self) -> float:
        """sum_d log scale_d: log-density in the file's units = log-density in the model's - `log_scale`."""
        if self.measure == "mass":
            return 0.0
        return float(self.log_scales.sum())

    def size(self, split: str) -> int:
        return int(self.splits[split].x.shape[0])

    def rows(self, split: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return rows [start, stop) in the model's units, float32, as every evaluation sees them.

        Dynamic binarisation is drawn once and for all: row i depends on (split, i) alone.
        """
        stop = self.size(split) if stop is None else min(stop, self.size(split))
        if stop <= start:
            return np.zeros((0, self.width), np.float32)
        first, last = start // _BLOCK, -(-stop // _BLOCK)
        blocks = [self._block(split, b) for b in range(first, last)]
        return np.concatenate(blocks)[start - first * _BLOCK : stop - first * _BLOCK]

    def labels(self, split: str, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        y = self.splits[split].y
        return None if y is None else y[start:stop]

    def blocks(self, split: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield (rows, labels) of a split in order, `size` at a time, as `rows` would give them."""
        for start in range(0, self.size(split), size):
            yield self.rows(split, start, start + size), self.labels(split, start, start + size)

    def _block(self, split: str, block: int) -> np.ndarray:
        stored = self.splits[split].x[block * _BLOCK : (block + 1) * _BLOCK]
        return self.view(stored, [EVALUATION_SEED, _code(split), block])

    def view(self, stored: np.ndarray, seed: int | list[int] = EVALUATION_SEED) -> np.ndarray:
        """Return stored rows in the model's units, grey rows binarised with a fixed `seed`; missing cells stay NaN."""
        x = (np.asarray(stored, np.float32) - _float32(self.shift)) / self.divisor
        if self.binarisation in ("as-is", "means"):
            return x
        drawn = self.binarisation in DRAWS
        cut = np.random.default_rng(seed).random(x.shape, np.float32) < x if drawn else x >= 0.5
        return np.where(np.isnan(x), x, cut).astype(np.float32, copy=False)

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Return rows in the file's own units; shape (n, D) stays."""
        rows = np.asarray(x, np.float64)
        return np.where(self.constant, 0.0, rows) * self.scale + self.shift

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of the training rows in the model's units, before any binarisation, missing cells left out."""
        total, seen = np.zeros(self.width), np.zeros(self.width)
        x = self.splits["train"].x
        if isinstance(x, Absent):
            # A model that is opened without its data takes every weight from its file, this start included.
            return total
        for piece in pieces(x):
            total += np.nansum(piece, axis=0, dtype=np.float64)
            seen += (~np.isnan(piece)).sum(axis=0) if piece.dtype.kind == "f" else len(piece)
        centred = total / np.maximum(seen, 1) - self.shift
        return np.where(self.constant, 0.0, centred / np.where(self.constant, 1.0, self.scale))

    @cached_property
    def level_counts(self) -> np.ndarray:
        """How many training rows have each category, shape (D, most levels); 0 where a column has not so many."""
        levels = self.column_levels
        found = np.zeros((self.width, max(levels)))
        if isinstance(self.splits["train"].x, Absent):
            return found
        for rows, _ in self.blocks("train", _BLOCK):
            for level in range(max(levels)):
                found[:, level] += (rows == level).sum(axis=0)
        return np.where(np.arange(max(levels)) < np.asarray(levels)[:, None], found, 0.0)

    def training_source(self) -> Source:
        """Return the training rows as the compiled loop is given them."""
        x, y = self.splits["train"]
        labels = None if y is None else placed(y, np.int32)
        # Scales by column go in as the rows do, not as constants: tables of one shape then share an executable.
        prepare = jax.tree.map(lambda a: placed(a) if np.ndim(a) else a, self.prepare)
        if self.resident:
            return Source(placed(x), labels, len(x), prepare=prepare)
        return Source(None, labels, len(x), x if isinstance(x, Gathered) else Gathered(x), prepare)

    def like(self, rows: Any, *, missing: bool = True) -> np.ndarray:
        """Return new rows in the file's units, shape (n, D), fit to be scored, encoded or imputed.

        Args:
            rows: a file or folder in any form that can be trained on (a table's columns are found by name, classes are
                left out; text is counted with the words of training), a name of `catalogue` (its test rows), a list of
                texts, or an array of rows (n, D) or (n, *shape), or one row.
            missing: whether cells may be missing (NaN).

        Raises:
            ReverieError: for another width, size or range than that of the rows the model was trained on.
        """
        found, where = like.new_rows(rows, self, {self.source: self.split_rule})
        like.check(found, where, self, missing=missing)
        return found

    @staticmethod
    def hash_of(rows: np.ndarray) -> str:
        """Return the SHA-256 of rows (n, D) in the file's units, as it stands in the certificate of their scores."""
        return hash_rows({"rows": Rows(np.ascontiguousarray(rows, np.float32))})

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Dataset:
        """Return what `to_json` recorded: everything a model must know of its data, and rows that are not here."""
        width = int(np.prod(record["shape"]))
        numbers = {name: record[name] for name in ("shift", "scale")}
        # Runs of before it was asked do not say which columns hold whole numbers.
        numbers["integers"] = record.get("integers", False)
        names = {name: record[name] and tuple(record[name]) for name in ("columns", "class_names")}
        plain = ("name", "source", "likelihood", "binarisation", "levels", "missing", "split_rule", "hash")
        fields: dict[str, Any] = {
            "splits": {split: Rows(Absent(n, width)) for split, n in record["rows"].items()},
            "shape": tuple(record["shape"]),
            "notes": tuple(record["notes"]),
            **{name: np.asarray(x) if isinstance(x, list) else x for name, x in numbers.items()},
            **names,
            **{name: record[name] for name in plain},
            # Runs of before constant columns were left out do not say.
            "whole": record.get("whole", False),
            "refit": record.get("refit", False),
            "categories": _names(record.get("categories")),
            "inputs": record.get("inputs", 0),
            "dropped": tuple(record.get("dropped", ())),
            "apart": record.get("apart"),
        }
        return Dataset(**fields)

    def to_json(self) -> dict[str, Any]:
        """Return what `run.json` records: everything but the rows."""
        return {
            "name": self.name,
            "source": self.source,
            "rows": {split: self.size(split) for split in self.splits},
            "shape": list(self.shape),
            "likelihood": self.likelihood,
            "binarisation": self.binarisation,
            "levels": self.levels,
            **({"categories": [names and list(names) for names in self.categories]} if self.categories else {}),
            "shift": np.asarray(self.shift).tolist(),
            "scale": np.asarray(self.scale).tolist(),
            "integers": bool(np.all(self.integers)) or np.asarray(self.integers).tolist(),
            "columns": self.columns and list(self.columns),
            **({"dropped": list(self.dropped)} if self.dropped else {}),
            "class_names": self.class_names and list(self.class_names),
            "missing": self.missing,
            "whole": self.whole,
            "split_rule": self.split_rule,
            "refit": self.refit,
            **({"apart": self.apart} if self.refit else {}),
            **({"inputs": self.inputs} if self.inputs else {}),
            "hash": self.hash,
            "measure": self.measure,
            "notes": list(self.notes),
        }


def _names(record: list[list[str] | None] | None) -> Categories | None:
    return None if record is None else tuple(None if names is None else tuple(names) for names in record)


def _float32(a: np.ndarray | float) -> np.ndarray:
    return np.asarray(a, np.float32)


def _code(split: str) -> int:
    return int.from_bytes(split.encode()[:4], "little")
