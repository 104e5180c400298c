"""The arena: runs compared in pairs, on the same rows, judged alike; what cannot be compared is refused.

The interval is of the mean difference over rows, each row scored by both.  The spread of the observed differences
holds the estimators' own randomness already, so the interval needs nothing added; `monte_carlo_error` says how much
of it that is.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError
from reverie.estimate import Estimate, paired_difference

#: What two records must share, and how it is called.
SAME = {"data_hash": "data", "split": "split", "binarisation": "binarisation", "measure": "measure", "unit": "unit"}
#: Gaps below this many nats may be the bounds', not the models' (Wu et al. 2017).
CLOSE = 0.3
METRIC = "log_likelihood"


@dataclass(frozen=True)
class Judged:
    """One run's evaluation: its record and per-row values."""

    name: str
    key: str
    record: Estimate
    data_hash: str | None
    values: np.ndarray
    variances: np.ndarray
    indices: np.ndarray


def compare(folders: Sequence[str | Path], *, split: str = "test", estimator: str | None = None) -> dict[str, Any]:
    """Return the paired difference of every two runs, by ``"<a> - <b>"``.

    Args:
        folders: of two or more runs, evaluated on `split`.
        estimator: such as ``importance-1000``; default: of those that all of them have the one of most rows,
            then the best; else each one's best.

    Returns:
        For each pair: ``difference`` (a minus b, in nats, positive when a is better; of models judged by a task, in
        the unit of its metric, negative when a is better), ``standard_error``, ``low``,
        ``high``, ``level``, ``monte_carlo_error``, ``n`` (rows in common), ``better`` (a name, or None when the
        interval holds 0), ``estimators``, ``a`` and ``b`` (names), ``values`` (theirs, on the rows in common) and
        ``notes``.

    Raises:
        ReverieError: for fewer than two runs, a run without an evaluation, or runs that cannot be compared, saying
            which and why.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise ReverieError("compare: name two runs or more")
    found = [evaluations(path, split) for path in paths]
    names = _names(paths)
    keys = _keys(found, names, split, estimator)
    runs = [_judged(*item) for item in zip(paths, names, found, keys, strict=True)]
    for other in runs[1:]:
        _require_same(runs[0], other)
    return {f"{a.name} - {b.name}": _pair(a, b) for a, b in combinations(runs, 2)}


def evaluations(path: Path, split: str) -> dict[str, Mapping[str, Any]]:
    """Return a run's evaluations on a split that have a number to compare and per-row values, by key.

    Raises:
        ReverieError: when there is no run, a damaged file or no such evaluation.
    """
    if not (path / "run.json").is_file():
        raise ReverieError(f"{path}: not a run (no run.json); name a folder that `reverie train` made")
    try:
        stored = json.loads((path / "evaluation.json").read_text())
    except FileNotFoundError:
        stored = {}
    except (OSError, ValueError):
        raise ReverieError(f"{path / 'evaluation.json'}: damaged; run `reverie evaluate {path}` again") from None
    mine = {
        key: entry for key, entry in stored.items()
        if isinstance(entry, Mapping) and _metric(entry) and "rows" in entry and key.split("/", 1)[0] == split
    }  # fmt: skip
    if not mine:
        raise ReverieError(f"{path}: no log-likelihood on the {split} rows yet; run `reverie evaluate {path}` first")
    return mine


def _metric(entry: Mapping[str, Any]) -> str | None:
    """Return what an evaluation is compared by: the likelihood, or else the first metric of a task (less is better)."""
    records = [name for name, value in entry.items() if isinstance(value, Mapping) and "value" in value]
    return METRIC if METRIC in records else next(iter(records), None)


def _names(paths: Sequence[Path]) -> list[str]:
    """Name the runs as the report does: by folder, with its parent where two share a name."""
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else ["/".join(path.resolve().parts[-2:]) for path in paths]
    if len(set(names)) < len(names):
        raise ReverieError("compare: the same run is named twice")
    return names


def _keys(found: Sequence[Mapping[str, Any]], names: Sequence[str], split: str, estimator: str | None) -> list[str]:
    if estimator is not None:
        wanted = f"{split}/{estimator}"
        for own, name in zip(found, names, strict=True):
            if wanted not in own:
                raise ReverieError(
                    f"{name}: has no {wanted}, only {', '.join(own)}; run `reverie evaluate` alike first"
                )
        return [wanted] * len(found)
    shared = set.intersection(*(set(own) for own in found))
    return [max(shared or own, key=_rank) for own in found]


def _rank(key: str) -> tuple[float, int, int]:
    """Order evaluations: more rows before fewer, annealed before sampled before the ELBO, more samples before fewer."""
    estimator, _, rows = key.split("/", 1)[-1].partition("/")
    kind, _, size = estimator.partition("-")
    samples, order = size.split("x")[0], ("elbo", "importance", "ais", "enumerated", "exact")
    number = int(samples) if samples.isdigit() else 0
    all_rows = int(rows) if rows.isdigit() else math.inf
    return all_rows, order.index(kind) if kind in order else -1, number


def _judged(path: Path, name: str, found: Mapping[str, Any], key: str) -> Judged:
    file = path / found[key]["rows"]
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            rows = [np.asarray(arrays[part]) for part in ("values", "variances", "indices")]
        record = Estimate.from_json(found[key][_metric(found[key])])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        raise ReverieError(f"{file}: missing or damaged; run `reverie evaluate {path}` again") from None
    if len({len(part) for part in rows}) > 1 or len(np.unique(rows[2])) < len(rows[2]):
        raise ReverieError(f"{file}: its arrays do not fit together; run `reverie evaluate {path}` again")
    order = np.argsort(rows[2])
    return Judged(name, key, record, _whose(path, record), *(part[order] for part in rows))


def _whose(path: Path, record: Estimate) -> str | None:
    """Return the hash of the data that the rows are of.

    The test rows of a run whose validation rows trained too are those of the data before they were joined.
    """
    try:
        data = json.loads((path / "run.json").read_text()).get("data") or {}
    except (OSError, ValueError, AttributeError):
        data = {}
    joined = record.split == "test" and data.get("apart") and record.data_hash == data.get("hash")
    return data["apart"] if joined else record.data_hash


def _require_same(a: Judged, b: Judged) -> None:
    for attribute, word in SAME.items():
        mine, theirs = (getattr(r if attribute == "data_hash" else r.record, attribute) for r in (a, b))
        if mine != theirs:
            raise ReverieError(
                f"compare: {a.name} and {b.name} cannot be compared, their {word} differs "
                f"({_short(mine)} and {_short(theirs)}); evaluate both on the same"
            )
    common = np.intersect1d(a.indices, b.indices)
    if common.size < 2:
        raise ReverieError(
            f"compare: {a.name} and {b.name} cannot be compared, they share {common.size} of their rows; "
            "evaluate both with the same --rows and --seed"
        )


def _short(value: Any) -> str:
    return str(value)[:12]


def _pair(a: Judged, b: Judged) -> dict[str, Any]:
    common = np.intersect1d(a.indices, b.indices)
    if common.size < 2:
        raise ReverieError(f"compare: {a.name} and {b.name} share fewer than two rows; evaluate both on the same rows")
    mine, theirs = (run.values[np.searchsorted(run.indices, common)] for run in (a, b))
    noise = sum(run.variances[np.searchsorted(run.indices, common)].sum() for run in (a, b))
    found: dict[str, Any] = paired_difference(mine, theirs)
    above = a.name if found["low"] > 0 else b.name if found["high"] < 0 else None
    # An error is better the smaller it is.
    better = above if above is None or a.record.unit == "nats" else ({a.name, b.name} - {above}).pop()
    return {
        **found,
        "monte_carlo_error": float(np.sqrt(noise) / common.size),
        "n": int(common.size),
        "better": better,
        "estimators": [run.record.estimator for run in (a, b)],
        "a": a.name,
        "b": b.name,
        "values": [float(mine.mean()), float(theirs.mean())],
        "notes": _notes(a, b, found["difference"], better, common.size),
    }


def _notes(a: Judged, b: Judged, difference: float, better: str | None, n: int) -> list[str]:
    notes = []
    if a.record.estimator != b.record.estimator:
        notes.append(
            f"{a.name} was judged by {a.record.estimator} and {b.name} by {b.record.estimator}, which may differ in "
            "tightness; evaluate both alike"
        )
    bounds = {a.record.kind, b.record.kind} - {"exact"}
    if better and bounds and "ais" not in a.record.estimator and abs(difference) < CLOSE:
        notes.append(
            f"the gap is under {CLOSE} nats and these are bounds: confirm it with `reverie evaluate --estimator ais`"
        )
    if n < max(len(a.indices), len(b.indices)):
        notes.append(f"only the {n} rows that both runs were evaluated on count")
    return notes
