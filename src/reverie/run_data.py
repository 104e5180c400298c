"""The data of a run: kept in its folder where they came as arrays, read again and insisted to be the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie import data as data_floor
from reverie.data import own, running, stories
from reverie.data.dataset import Dataset, Rows
from reverie.data.rows import hash_rows
from reverie.errors import ReverieError
from reverie.files import npz_bytes, write_atomic
from reverie.progress import for_stderr
from reverie.train.folder import RunFolder


def read_data(folder: RunFolder, record: Mapping[str, Any]) -> Dataset:
    """Load the run's data again and insist that it is the same.

    Raises:
        ReverieError: when the file is missing or its content has changed since.
    """
    asked = dict(record["data_arguments"])
    source = asked.pop("source")
    if asked.pop("in_folder", False):
        source = folder.path / source
        data = _kept(source, record["data"])
    else:
        data = data_floor.load(source, **asked)
    if data.hash != record["data"]["hash"]:
        raise ReverieError(
            f"{source}: the data have changed since the run in {folder.path} was trained "
            f"(hash {data.hash[:12]}, then {record['data']['hash'][:12]}); put the old file back or train anew"
        )
    return data


def keep_arrays(folder: RunFolder, data: Dataset) -> str:
    """Store data given as arrays in the run folder, so that the run can be resumed; return the file's name."""
    arrays = {}
    for split, rows in data.splits.items():
        # Validation rows that train too are kept once, and joined again when they are read.
        own_rows = slice(data.size("train") - data.size("valid")) if data.refit and split == "train" else slice(None)
        arrays[split] = np.asarray(rows.x[own_rows]).reshape(-1, *data.shape)
        if rows.y is not None:
            arrays[f"{split}_labels"] = np.asarray(rows.y)[own_rows]
    names = {"class_names": data.class_names, "columns": data.columns}
    arrays |= {key: np.asarray(strings) for key, strings in names.items() if strings}
    write_atomic(folder.path / "data.npz", npz_bytes(arrays))
    return "data.npz"


def _kept(path: Path, recorded: Mapping[str, Any]) -> Dataset:
    """Return the data that `keep_arrays` stored.

    Nothing is asked of the rows again: they are split already, and rows that were binarised once look, on their own,
    as if they had been binary from the start.
    """
    if not path.exists():
        raise ReverieError(f"{path}: is missing, where the run keeps the arrays it was trained on; put a copy back")
    arrays, facts = own.read_npz(path), Dataset.from_json(recorded)
    try:
        splits = {s: Rows(arrays[s].reshape(len(arrays[s]), -1), arrays.get(f"{s}_labels")) for s in facts.splits}
        kept = dataclasses.replace(facts, splits=splits, refit=False, hash=hash_rows(splits, facts.categories))
        return dataclasses.replace(kept.joined(), notes=facts.notes) if facts.refit else kept
    except (KeyError, TypeError, ValueError):
        raise ReverieError(f"{path}: holds other arrays than the run stored; put a copy of it back") from None


def other_sequences(facts: Dataset, data: Any) -> tuple[Dataset, str]:
    """Return other sequences, of any length, as a split that is called as they are: their test rows.

    Raises:
        ReverieError: for other channels than those of the run's data.
    """
    found = data_floor.load(str(data) if isinstance(data, Path) else data)
    if not found.inputs:
        raise ReverieError(f"data: {data} holds no sequences to be answered, which the run was trained on")
    have, want = ((d.inputs, d.shape[-1] - d.inputs) for d in (found, facts))
    if have != want:
        raise ReverieError(
            f"data: {data} has {have[0]} + {have[1]} channels, heard and answered; the run {want[0]} + {want[1]}"
        )
    return dataclasses.replace(found, splits={**found.splits, found.name: found.splits["test"]}), found.name


def other_stories(facts: Dataset, data: Any) -> tuple[Dataset, str]:
    """Return questions of one's own, or a named set's test questions, as a split that is called as they are; of a
    model of running text another text.

    What the model cannot hear of them is said on stderr.

    Raises:
        ReverieError: for what holds no stories, or answers that training did not have.
    """
    spec = str(data) if isinstance(data, Path) else data
    if not isinstance(spec, str):
        raise ReverieError("data: give a file of stories, or the name of a data set with them")
    if facts.likelihood == running.LAW:
        rows = running.recoded(Path(spec), facts.class_names or ())
        return _beside(facts, rows, Path(spec).stem, spec)
    named = data_floor.entry(spec) if not Path(spec).exists() else None
    if named is not None:
        raw, _ = named.raw(named.rules[0])
        if raw.likelihood != stories.LAW:
            raise ReverieError(f"data: {spec} holds no stories; give a file of them (`reverie data` says how)")
        asked, name = stories.asked_of(raw.splits["test"], raw.class_names or (), raw.shape), named.name
    else:
        asked, name = stories.asked_in(Path(spec)), Path(spec).stem
    rows, said = stories.recoded(asked, facts.class_names or (), facts.shape, str(spec))
    if said:
        for_stderr().say(said)
    return _beside(facts, rows, name, spec)


def _beside(facts: Dataset, rows: Rows, name: str, source: str) -> tuple[Dataset, str]:
    """Return the data set with rows of one's own as a further split."""
    splits = {**facts.splits, name: rows}
    return dataclasses.replace(facts, splits=splits, source=source, hash=hash_rows({name: rows})), name
