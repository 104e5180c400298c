"""A run folder as the report sees it: records and arrays, read and checked, without models and without jax."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.files import spoken
from reverie.train.folder import RunFolder
from reverie.train.journal import Journal


@dataclass(frozen=True)
class Number:
    """One certified number of a run: which metric, by which estimator, on which split, and the record."""

    metric: str
    split: str
    record: Estimate
    rows: str | None = None


@dataclass(frozen=True)
class RunView:
    """What the folder of a run says.

    Attributes:
        folder: where its files are.
        record: `run.json`.
        name: how a page calls the run; the folder's name unless two share it.
    """

    folder: RunFolder
    record: Mapping[str, Any]
    name: str
    _arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, repr=False)

    @staticmethod
    def read(path: Path, name: str | None = None) -> RunView:
        """Read the folder's `run.json`.

        Raises:
            ReverieError: where there is no run, a damaged one, or one of a newer format.
        """
        folder = RunFolder(path)
        record = folder.read()
        if not isinstance(record.get("data"), Mapping) or not record.get("model"):
            raise ReverieError(f"{folder.run_json}: damaged, it names no model or no data; put a copy of it back")
        return RunView(folder, record, name or path.resolve().name)

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def place(self) -> str:
        """The folder as a command that is typed where this page was asked for names it."""
        return shlex.quote(spoken(self.path))

    @property
    def model(self) -> str:
        return str(self.record["model"])

    @property
    def data(self) -> Mapping[str, Any]:
        return self.record["data"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row: (h, w), (h, w, c), or (D,) for a table."""
        return tuple(int(side) for side in self.data.get("shape", ()))

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in self.data.get("class_names") or ()]

    @cached_property
    def metrics(self) -> list[Mapping[str, Any]]:
        """The lines of `metrics.jsonl`; a last line cut short by a kill is left out."""
        return list(Journal(self.folder.metrics).read())

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        return self.folder.evaluations()

    @cached_property
    def numbers(self) -> list[Number]:
        """Every certified number of `evaluation.json`, the one to be shown first in front."""
        found = []
        for key, entry in self.evaluation.items():
            split = key.split("/", 1)[0]
            for metric, record in entry.items() if isinstance(entry, Mapping) else ():
                if isinstance(record, Mapping) and "value" in record:
                    estimate = self._estimate(key, record)
                    found.append(Number(metric, estimate.split or split, estimate, entry.get("rows")))
        return sorted(found, key=_rank)

    def _estimate(self, key: str, record: Mapping[str, Any]) -> Estimate:
        try:
            return Estimate.from_json(dict(record))
        except TypeError as error:
            raise ReverieError(
                f"{self.path / 'evaluation.json'}: {key} is no certified number ({error}); run `reverie evaluate` again"
            ) from None

    @cached_property
    def diagnoses(self) -> list[Mapping[str, str]]:
        """`diagnoses.json`: a list of {"level": "ok", "warning" or "problem", "text": ...}."""
        file = self.path / "diagnoses.json"
        try:
            found = json.loads(file.read_bytes()) if file.is_file() else []
        except (OSError, ValueError):
            found = None
        if not isinstance(found, list) or not all(isinstance(d, Mapping) and "text" in d for d in found):
            raise ReverieError(f"{file}: damaged, not a list of diagnoses; delete it and write the report again")
        return found

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of ``arrays/<name>.npz``, an empty dict where there is no such file.

        Raises:
            ReverieError: when the file is damaged or holds Python objects.
        """
        if name not in self._arrays:
            self._arrays[name] = self.folder.load_arrays(name) if name in self.folder.array_names() else {}
        return self._arrays[name]

    def array_names(self, prefix: str) -> list[str]:
        """Return which array files begin with `prefix`, in order."""
        return [name for name in self.folder.array_names() if name.startswith(prefix)]

    def pictures(self, name: str, key: str) -> np.ndarray | None:
        """Return an array's rows as (..., *shape), None where there are none.

        Raises:
            ReverieError: when the rows do not have the run's width.
        """
        rows = self.arrays(name).get(key)
        if rows is None or rows.size == 0:
            return None
        width = math.prod(self.shape)
        if rows.ndim < 2 or rows.shape[-1] != width:
            raise ReverieError(
                f"{self.path / 'arrays' / name}.npz: {key} has shape {rows.shape}, rows of {width} are wanted; "
                f"run `reverie report {self.path}` again"
            )
        return rows.reshape(*rows.shape[:-1], *self.shape)

    def rows_of(self, number: Number) -> dict[str, np.ndarray]:
        """Return the per-row arrays (`values`, `indices`, ...) behind a number."""
        return self.arrays(Path(number.rows).stem) if number.rows else {}


_KINDS = ("exact", "bracket", "lower_bound", "estimate", "upper_bound")
_SPLITS = ("test", "valid", "train")


def _rank(number: Number) -> tuple[Any, ...]:
    """Order numbers: likelihood before the rest, test first, the tighter estimator first."""
    record = number.record
    samples = record.estimator.rsplit("-", 1)[-1]
    return (
        number.metric != "log_likelihood",
        # Of rows that the model drew itself, and of rows that no model drew.
        number.metric in ("bracket", "gap", "parzen_of_training_rows"),
        _SPLITS.index(number.split) if number.split in _SPLITS else len(_SPLITS),
        _KINDS.index(record.kind) if record.kind in _KINDS else len(_KINDS),
        not record.estimator.startswith("ais"),
        -int(samples) if samples.isdigit() and number.metric == "log_likelihood" else 0,
        # What follows keeps the order of the file: a model's own metric, then what stands beside it.
    )
