"""Sequences to be answered, from a file of one's own.

A row is a sequence, flat: for each of T steps the channels that are heard, then those that are to be answered, NaN for
what is not there (a channel that nobody asks for, a step after the end).  `tasks` has those that are drawn by a seed.

A file is an .npz with ``inputs`` (n, T, I) and ``targets`` (n, T, O), or ``train_inputs``, ``test_targets`` and so on
for splits of one's own; or a .jsonl with a sequence a line, of any length:

- ``{"input": [[..], ..], "target": [[..], ..]}``, a list a step, null for a step where nothing is asked;
- ``{"input": [[..], ..], "answer": [[..], ..]}``: what is to be given once the input has ended.  A channel that marks
  the end is added to the input, and a silent step for each step of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from reverie.data.rows import Raw, Rows
from reverie.data.tasks import SIZES
from reverie.errors import ReverieError

#: The law of such rows: of the answers, given what is heard.  No model of rows has it.
LAW: Literal["sequences"] = "sequences"
FORM = 'lines such as {"input": [[0, 1], [1, 1]], "answer": [[1, 0]]}'
_PARTS = ("inputs", "targets")
_WANTED = "; return what is heard (T, I) and what is to be answered (T, O), with I and O always the same"


def holds_sequences(arrays: Mapping[str, Any]) -> bool:
    """Say whether the arrays of an .npz are sequences: ``inputs`` and ``targets`` (of splits) that have three axes."""
    names = [name for name in arrays if name.split("_")[-1] in _PARTS]
    return len(names) >= 2 and all(np.ndim(arrays[name]) == 3 for name in names)


def from_arrays(arrays: Mapping[str, np.ndarray], where: str) -> Raw:
    """Take ``inputs`` (n, T, I) and ``targets`` (n, T, O), or those of each split.

    Raises:
        ReverieError: for an array without its other, or of other lengths.
    """
    splits, heard, shape = {}, 0, None
    for name in arrays:
        split, _, part = name.rpartition("_")
        if part != "inputs" and name != "inputs":
            continue
        other = name.replace("inputs", "targets")
        if other not in arrays:
            raise ReverieError(f"{where}: has {name} and no {other}; give both, of shape (n, T, channels)")
        x, y = (np.asarray(arrays[key], np.float32) for key in (name, other))
        if x.shape[:2] != y.shape[:2] or 0 in (*x.shape, *y.shape):
            raise ReverieError(f"{where}: {name} {x.shape} and {other} {y.shape} must agree in n and T, none of them 0")
        rows = np.concatenate([x, y], axis=2)
        if shape not in (None, rows.shape[1:]) or heard not in (0, x.shape[2]):
            raise ReverieError(f"{where}: {name} has another shape than the other splits; pad with NaN to one T")
        heard, shape = x.shape[2], rows.shape[1:]
        splits[split or "all"] = Rows(rows.reshape(len(rows), -1))
    if "all" not in splits and "train" not in splits:
        raise ReverieError(f"{where}: has no inputs and targets to train on; name them inputs and targets")
    return Raw(splits, shape or (), likelihood=LAW, inputs=heard)


def from_function(draw: Callable[[np.random.Generator], tuple[Any, Any]], seed: int) -> Raw:
    """Take a task that a function draws: ``draw(rng)`` gives what is heard (T, I) and what is to be answered (T, O).

    T may differ from sequence to sequence; NaN is an answer that nobody asks for.  Sequences are drawn once, by `seed`:
    so many as of a named task to choose and to test, and four times as many to train as it has in an epoch.

    Raises:
        ReverieError: for a function that gives something else, or not always as many channels.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    counts = {"train": 4 * SIZES[0], "valid": SIZES[1], "test": SIZES[2]}
    rng = np.random.default_rng(seed)
    for _ in range(sum(counts.values())):
        try:
            x, y = (np.asarray(part, np.float32) for part in draw(rng))
        except (TypeError, ValueError):
            raise ReverieError(f"data: the function must return two arrays, heard and answers{_WANTED}") from None
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in (*x.shape, *y.shape):
            raise ReverieError(f"data: the function returned arrays of shape {x.shape} and {y.shape}{_WANTED}")
        if found and (x.shape[1], y.shape[1]) != (found[0][0].shape[1], found[0][1].shape[1]):
            raise ReverieError(
                f"data: the function returned {x.shape[1]} + {y.shape[1]} channels, before others{_WANTED}"
            )
        found.append((x, y))
    rows, inputs = _padded(found), found[0][0].shape[1]
    ends = np.cumsum([*counts.values()])[:-1]
    parts = zip(counts, np.split(rows.reshape(len(rows), -1), ends), strict=True)
    return Raw({split: Rows(part) for split, part in parts}, rows.shape[1:], likelihood=LAW, inputs=inputs)


def _padded(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "n T C"]:
    """Return sequences side by side, NaN after the end of each."""
    longest, channels = max(len(x) for x, _ in found), found[0][0].shape[1] + found[0][1].shape[1]
    rows = np.full((len(found), longest, channels), np.nan, np.float32)
    for row, (x, y) in zip(rows, found, strict=True):
        row[: len(x)] = np.concatenate([x, y], axis=1)
    return rows


def read_lines(path: Path) -> Raw:
    """Read a .jsonl with a sequence a line.

    Raises:
        ReverieError: naming the line that is no sequence, or has other channels than the first.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            found.append(_line(line, f"{path}, line {number}"))
    if not found:
        raise ReverieError(f"{path}: has no sequence; give {FORM}")
    heard, answered = found[0][0].shape[1], found[0][1].shape[1]
    for number, (x, y) in enumerate(found, 1):
        if (x.shape[1], y.shape[1]) != (heard, answered):
            raise ReverieError(
                f"{path}: sequence {number} has {x.shape[1]} + {y.shape[1]} channels, the first {heard} + {answered}"
            )
    rows = _padded(found)
    return Raw({"all": Rows(rows.reshape(len(rows), -1))}, rows.shape[1:], likelihood=LAW, inputs=heard)


def _line(text: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what is heard (T, I) and what is to be answered (T, O) of one line."""
    try:
        told = json.loads(text)
        x = np.array(told["input"], np.float32)
        if "answer" in told:
            y = np.array(told["answer"], np.float32)
            steps = len(x) + 1 + len(y)
            heard = np.zeros((steps, x.shape[1] + 1), np.float32)
            heard[: len(x), :-1], heard[len(x), -1] = x, 1.0
            return heard, np.concatenate([np.full((len(x) + 1, y.shape[1]), np.nan, np.float32), y])
        width = max(len(step) for step in told["target"] if step is not None)
        y = np.array([[np.nan] * width if step is None else step for step in told["target"]], np.float32)
    except (ValueError, KeyError, TypeError, IndexError):
        raise ReverieError(f"{where}: is no sequence; give {FORM}") from None
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ReverieError(f"{where}: input and target must have as many steps; give {FORM}")
    return x, y


def check(rows: np.ndarray, inputs: int, where: str) -> None:
    """Refuse sequences (n, T, C) that cannot be learnt.

    Raises:
        ReverieError: for answers that are not between 0 and 1, sequences that ask for nothing, or broken ones.
    """
    heard, answers = rows[..., :inputs], rows[..., inputs:]
    asked = ~np.isnan(answers)
    if not asked.any(axis=(1, 2)).all():
        raise ReverieError(
            f"{where}: sequence {int((~asked.any(axis=(1, 2))).argmax()) + 1} asks for nothing; give it targets"
        )
    if ((answers < 0) | (answers > 1)).any():
        raise ReverieError(f"{where}: targets must be between 0 and 1 (bits, or chances of bits); scale them")
    live = ~np.isnan(heard).any(axis=2)
    if (np.isnan(heard).any(axis=2) != np.isnan(heard).all(axis=2)).any() or np.isinf(heard).any():
        raise ReverieError(
            f"{where}: a step is heard in part or is infinite; give every channel a number, or none (NaN)"
        )
    if (np.diff(live.astype(int), axis=1) > 0).any() or not live[:, 0].all():
        raise ReverieError(f"{where}: a step is missing before the end of its sequence; NaN is for after the end alone")
    if (asked.any(axis=2) & ~live).any():
        raise ReverieError(f"{where}: something is asked for after the end of its sequence; give silent steps (zeros)")
