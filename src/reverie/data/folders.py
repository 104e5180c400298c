"""Folders of files that are rows: which files there are, which split and which class each one has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from reverie.data.classes import coded
from reverie.errors import ReverieError

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


def files(folder: Path) -> list[Path]:
    """Return every file below `folder` that is not hidden, in the order of their names."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    shown = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return sorted(shown, key=lambda path: path.relative_to(folder).as_posix())


def arranged(
    folder: Path, paths: list[Path], what: str
) -> tuple[dict[str, list[int]], Int[np.ndarray, " n"] | None, tuple[str, ...] | None]:
    """Return the places of each split among `paths` (``all`` without splits), their classes, and the classes' names.

    Subfolders ``train`` (with ``valid``, ``test``) are the splits; any other subfolders are classes.

    Args:
        what: what a message calls the files, in the plural.

    Raises:
        ReverieError: for files beside the subfolders of classes.
    """
    parts = [path.relative_to(folder).parts[:-1] for path in paths]
    of_split = _splits(parts)
    if of_split is not None:
        parts = [part[1:] for part in parts]
    y, names = _classes(folder, parts, what)
    places: dict[str, list[int]] = {}
    for place, split in enumerate(of_split or ["all"] * len(paths)):
        places.setdefault(split, []).append(place)
    return places, y, names


def _splits(parts: list[tuple[str, ...]]) -> list[str] | None:
    """Return the split of each file if the first folders are the splits, ``train`` among them."""
    first = {part[0].lower() if part else "" for part in parts}
    if "train" not in first or len(first) < 2 or not first <= _SPLITS.keys():
        return None
    return [_SPLITS[part[0].lower()] for part in parts]


def _classes(folder: Path, parts: list[tuple[str, ...]], what: str) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    if not any(parts):
        return None, None
    if not all(parts):
        raise ReverieError(f"{folder}: {what} lie beside the subfolders of classes; put them into one of these")
    return coded(np.asarray([part[0] for part in parts]), str(folder))
