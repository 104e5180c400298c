"""A person's own data: files, folders and arrays, read into rows without deciding what they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from reverie.data import counts, images, sequences, stories, tables, text
from reverie.data.classes import coded
from reverie.data.rows import Gathered, Raw, Rows, resident_limit
from reverie.errors import ReverieError

ENDINGS = (".npy", ".npz", ".csv", ".tsv", ".txt", ".amat", ".jsonl")
#: Those of tables in text.
TABLES = (".csv", ".tsv", ".txt")
_LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
_IMAGES = {"x", "images", "image", "data", "rows", "features"}
_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
_FORM = "shapes are (n, D) for a table, (n, height, width) or (n, height, width, 3) for images"


def read(path: Path, drop: Sequence[str] = ()) -> Raw:
    """Read a file, or a folder of images or of text.

    Args:
        path: the file or folder.
        drop: columns of a table to leave out.

    Raises:
        ReverieError: for a missing or unreadable file, an unknown ending, or what does not look like rows.
    """
    if not path.exists():
        raise ReverieError(f"{path}: no such file or folder; check the path")
    ending = path.suffix.lower()
    if drop and (ending not in TABLES or stories.holds_stories(path) or text.holds_text(path)):
        refuse_drop(str(path))
    if stories.holds_stories(path):
        return stories.read(path)
    if text.holds_text(path):
        return text.read(path)
    if path.is_dir():
        return images.read_folder(path)
    if images.is_image(path):
        pixels, notes = images.read_images([path])
        return Raw({"all": Rows(pixels.reshape(1, -1))}, pixels.shape[1:], notes=notes)
    if ending == ".amat":
        return tables.read_amat(path)
    if ending in TABLES:
        raw = tables.read_csv(path, drop=drop)
        return replace(raw, notes=(*raw.notes, "Read as a table of numbers.")) if ending == ".txt" else raw
    if ending == ".npy":
        return from_array(read_npy(path), str(path))
    if ending == ".jsonl":
        return sequences.read_lines(path)
    if ending == ".npz":
        arrays = read_npz(path)
        if sequences.holds_sequences(arrays):
            return sequences.from_arrays(arrays, str(path))
        if not counts.is_sparse(arrays):
            return from_mapping(arrays, str(path))
        return replace(from_mapping(counts.read_sparse(path, arrays), str(path)), likelihood=counts.LAW)
    raise ReverieError(f"{path}: unknown ending; give one of {', '.join(ENDINGS)} or a folder of images or .txt files")


def held(spec: Any, columns: Sequence[str]) -> list[str]:
    """Return which of `columns` a table in text has; none of what is no path of such a table."""
    path = Path(spec) if columns and isinstance(spec, str | Path) else None
    if path is None or path.suffix.lower() not in TABLES or not path.exists():
        return []
    names = tables.sniff(path).names
    return [name for name in columns if name in (names or ())]


def refuse_drop(where: str) -> NoReturn:
    """Say that columns are left out of tables in text alone."""
    raise ReverieError(f"drop: {where} is no {', '.join(TABLES)} with columns; leave them out of the rows yourself")


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an .npy file, memory-mapped when it is larger than ``REVERIE_RESIDENT_BYTES``."""
    try:
        mapped = path.stat().st_size > resident_limit()
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(found, np.ndarray):
        raise ReverieError(f"{path}: is an .npz in spite of its name; name it .npz")
    return found


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name."""
    import zipfile

    try:
        # Opened here: numpy does not close what turns out to be no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ReverieError(f"{path}: is no .npz; name it .npy")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ReverieError:
    if "Object arrays" in str(error):
        return ReverieError(f"{path}: holds Python objects, not numbers; save an array of numbers")
    return ReverieError(f"{path}: cannot be read, it is damaged or of another kind; save it again with numpy")


def from_array(array: Any, where: str) -> Raw:
    """Take one array of rows, a sparse matrix of counts, or a list of texts."""
    if text.is_texts(array) or counts.is_matrix(array):
        return from_mapping({"rows": array}, where)
    x, shape = rows_of(array, where)
    return Raw({"all": Rows(x)}, shape)


def from_mapping(arrays: Mapping[str, Any], where: str) -> Raw:
    """Take arrays by name: ``train``, ``valid``, ``test``, or one of any name; with classes ``y``, ``train_labels`` ...

    Rows are numbers, sparse matrices of counts, or lists of texts.
    Names are understood as ``train``, ``x_train``, ``train_images`` and the like; ``class_names`` and ``columns`` hold
    strings.

    Raises:
        ReverieError: when it cannot be told which array is which, or lengths or widths disagree.
    """
    names = {key: _names(arrays, key, where) for key in ("class_names", "columns")}
    found, labels = _sorted(arrays, where)
    found, words, notes, law = _as_counts(found, where)
    columns = names["columns"] or words
    splits, shape = {}, None
    codes, class_names = _codes(labels, where)
    for split, (name, array) in found.items():
        x, own = rows_of(array, f"{where}: {name}")
        if shape is not None and own != shape:
            raise ReverieError(f"{where}: {name} has rows of shape {own}, the others {shape}; they need one shape")
        y, shape = codes.get(split), own
        if y is not None and len(y) != len(x):
            raise ReverieError(f"{where}: {name} has {len(x):,} rows and {len(y):,} classes; give one class a row")
        splits[split] = Rows(x, y)
    if codes and codes.keys() != splits.keys():
        lacking = next(s for s in (*splits, *codes) if s not in codes or s not in splits)
        raise ReverieError(f"{where}: {lacking} has only one of rows and classes; give both or leave the classes out")
    if names["class_names"] and labels:
        class_names = names["class_names"]
        splits = {s: Rows(r.x, _numbered(labels[s], len(class_names), where)) for s, r in splits.items()}
    if columns is not None and shape is not None and len(shape) == 1:
        counts.check_words(columns, shape[0], where)
    order = [split for split in ("all", "train", "valid", "test") if split in splits]
    return Raw({split: splits[split] for split in order}, shape or (), columns, class_names, notes, law)


def _as_counts(
    found: Mapping[str, tuple[str, Any]], where: str
) -> tuple[dict[str, tuple[str, Any]], tuple[str, ...] | None, tuple[str, ...], str | None]:
    """Return rows as arrays of numbers; and if they were texts or sparse, words, notes and the law of counts."""
    if any(text.is_texts(rows) for _, rows in found.values()):
        other = next((name for name, rows in found.values() if not text.is_texts(rows)), None)
        if other is not None:
            raise ReverieError(f"{where}: {other} is no list of texts, as others are; give texts or numbers throughout")
        x, words, notes = text.counted({split: list(rows) for split, (_, rows) in found.items()}, where)
        return {split: (found[split][0], x[split]) for split in found}, words, notes, counts.LAW
    if not any(counts.is_matrix(rows) for _, rows in found.values()):
        return dict(found), None, (), None
    made = {s: (name, counts.dense(x, where) if counts.is_matrix(x) else x) for s, (name, x) in found.items()}
    return made, None, (), counts.LAW


def _names(arrays: Mapping[str, Any], key: str, where: str) -> tuple[str, ...] | None:
    if key not in arrays:
        return None
    found = np.asarray(arrays[key])
    if found.ndim != 1 or found.dtype.kind != "U":
        raise ReverieError(f"{where}: {key} are not names; give an array of strings")
    return tuple(map(str, found))


def _numbered(label: tuple[str, Any], count: int, where: str) -> np.ndarray:
    """Return classes that are given as numbers into `class_names`."""
    y = np.asarray(label[1])
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= count:
        raise ReverieError(f"{where}: {label[0]} does not number the {count} class_names; give numbers from 0 up")
    return y.astype(np.int32).reshape(-1)


def _sorted(arrays: Mapping[str, Any], where: str) -> tuple[dict[str, tuple[str, Any]], dict[str, tuple[str, Any]]]:
    """Return rows and classes by split, each with the name it was found under."""
    found: dict[str, tuple[str, Any]] = {}
    labels: dict[str, tuple[str, Any]] = {}
    rest = []
    for name, array in arrays.items():
        if name in ("class_names", "columns"):
            continue
        words = set(re.split(r"[_\W]+", name.lower())) - {""}
        split = {_SPLITS[word] for word in words & _SPLITS.keys()}
        others = words - _SPLITS.keys()
        place = next(iter(split)) if len(split) == 1 else "all"
        into = labels if others & _LABELS else found
        if place == "all" and into is found and others - _IMAGES:
            rest.append((name, array))
            continue
        if place in into:
            raise ReverieError(f"{where}: {into[place][0]} and {name} both look like {place}; rename one of them")
        into[place] = (name, array)
    if not found and len(rest) == 1:
        found["all"] = rest[0]
    elif rest or ("all" in found and len(found) > 1) or not found:
        names = ", ".join(arrays) or "none"
        raise ReverieError(f"{where}: cannot tell the rows among its arrays ({names}); name them train, valid and test")
    if "all" not in found and "train" not in found:
        raise ReverieError(f"{where}: has {', '.join(found)} and no train; add the training rows")
    return found, labels


def _codes(labels: Mapping[str, tuple[str, Any]], where: str) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return the classes of each split, numbered over all splits together."""
    if not labels:
        return {}, None
    parts = {}
    for split, (name, array) in labels.items():
        part = np.asarray(array)
        parts[split] = part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part
        if parts[split].ndim != 1:
            raise ReverieError(f"{where}: {name} has shape {part.shape}; give one class a row, a number or a name")
    codes, names = coded(np.concatenate(list(parts.values())), where)
    ends = np.cumsum([len(part) for part in parts.values()])[:-1]
    return dict(zip(parts, np.split(codes, ends), strict=True)), names


def rows_of(array: Any, where: str) -> tuple[Any, tuple[int, ...]]:
    """Return an array as rows (n, D), on disk if it is mapped and large, and the shape of one row.

    Raises:
        ReverieError: for what is no array of numbers, or has no row, no column, or another number of axes.
    """
    try:
        x = array if isinstance(array, np.ndarray) else np.asarray(array)
    except ValueError:
        raise ReverieError(f"{where}: rows of unequal length; {_FORM}") from None
    if x.dtype.kind not in "buif":
        raise ReverieError(f"{where}: holds {_what(x.dtype)}, not real numbers; convert it to numbers")
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim not in (2, 3, 4) or (x.ndim == 4 and x.shape[-1] != 3):
        hint = "; put the colours last" if x.ndim == 4 and x.shape[1] in (1, 3) else ""
        raise ReverieError(f"{where}: shape {x.shape} is not rows; {_FORM}{hint}")
    if not len(x):
        raise ReverieError(f"{where}: has no row; give at least three")
    if not x[:1].size:
        raise ReverieError(f"{where}: shape {x.shape} has no column; {_FORM}")
    shape = tuple(int(n) for n in x.shape[1:])
    if isinstance(x, np.memmap) and x.nbytes > resident_limit():
        if not x.flags.c_contiguous:
            raise ReverieError(f"{where}: is stored column by column; save it again with np.ascontiguousarray")
        return Gathered(x.reshape(len(x), -1)), shape
    return np.array(x, order="C").reshape(len(x), -1), shape


def _what(dtype: np.dtype[Any]) -> str:
    return {"U": "text", "S": "text", "O": "Python objects", "c": "complex numbers"}.get(dtype.kind, str(dtype))
