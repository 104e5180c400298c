"""New rows for a trained model: read, put into the form of the training rows, and checked against their law."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Shaped

from reverie.data import categories, counts, images, own, tables, text
from reverie.data.describe import label
from reverie.data.named import catalogue
from reverie.data.rows import Categories, Raw
from reverie.errors import ReverieError
from reverie.progress import for_stderr


class Facts(Protocol):
    """What must be known of the training rows (`dataset.Dataset` does)."""

    @property
    def likelihood(self) -> Any: ...

    @property
    def binarisation(self) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def levels(self) -> int: ...

    @property
    def categories(self) -> Categories | None: ...

    @property
    def shift(self) -> Any: ...

    @property
    def scale(self) -> Any: ...

    @property
    def columns(self) -> tuple[str, ...] | None: ...

    @property
    def dropped(self) -> tuple[int, ...]: ...


def load_array(path: str | Path) -> Shaped[np.ndarray, "..."]:
    """Return the numbers of a file as they lie there: .npy, .npz with one array, .csv (all columns), an image.

    Raises:
        ReverieError: for a missing or unreadable file, or one with several arrays.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz" and path.exists():
        arrays = own.read_npz(path)
        if len(arrays) != 1:
            raise ReverieError(f"{path}: holds {len(arrays)} arrays ({', '.join(arrays)}); give a file of one")
        return next(iter(arrays.values()))
    if path.suffix.lower() == ".npy" and path.exists():
        return np.array(own.read_npy(path))
    raw = own.read(path)
    if raw.categories is not None:
        which = next(c for c, names in enumerate(raw.categories) if names is not None)
        raise ReverieError(f"{path}: {label(which, raw.columns)} holds text; give numbers")
    rows = np.asarray(raw.splits["all"].x if "all" in raw.splits else raw.splits["test"].x)
    if images.is_image(path) and not path.is_dir():
        return rows.reshape(raw.shape)
    return rows.reshape(-1, *raw.shape)


def new_rows(rows: Any, data: Facts, rules: Mapping[str, str] | None = None) -> tuple[Shaped[np.ndarray, "n D"], str]:
    """Return new rows (n, D) and what a message calls them.

    Args:
        rows: a file, a folder, the name of a data set (its test rows), an array (codes where columns are categories),
            or a list of texts.
        data: what the model was trained on: the names of its columns (or the words that texts are counted with) and of
            its categories, and its law; a binary one makes of counts whether a word is there.
        rules: the split to take of a named data set (default: its first), so that no row is one that was trained on.

    Raises:
        ReverieError: for another width or size than that of `data`, a table without one of its columns, or a category
            that training did not have.
    """
    shape, columns, likelihood = data.shape, data.columns, data.likelihood
    if isinstance(rows, str | Path):
        path = Path(rows)
        named = None if path.exists() else {entry.name: entry for entry in catalogue()}.get(str(rows))
        if named is not None:
            raw, _ = named.raw((rules or {}).get(named.name, named.rules[0]))
            return _flat(_counted(raw, raw.splits["test"].x, columns, likelihood, named.name), shape, named.name), (
                named.name
            )
        if text.holds_text(path):
            return _recounted(path, columns, likelihood, str(path)), str(path)
        return _from_file(path, data), str(path)
    if text.is_texts(rows):
        return _recounted(rows, columns, likelihood, "rows"), "rows"
    try:
        x = np.asarray(rows.toarray() if counts.is_matrix(rows) else rows)
    except ValueError:
        raise ReverieError("rows: they are of unequal length; give an array of shape (n, D)") from None
    return _flat(x, shape, "rows"), "rows"


def titles(rows: Any) -> list[str]:
    """Return what each row that `new_rows` reads is called, its file or its line; nothing where none has a name."""
    if not isinstance(rows, str | Path) or not Path(rows).exists():
        return []
    path = Path(rows)
    if text.holds_text(path):
        return [title for split in text.titles(path).values() for title in split]
    named = images.titles(path) if path.is_dir() else {}
    return named[_split_of(named)] if named else []


def _split_of(splits: Mapping[str, Any]) -> str:
    """Return which split of what somebody brings is taken: all of it, or else what no model was trained on."""
    return next((split for split in ("all", "test", "train") if split in splits), "all")


def _recounted(source: Any, columns: tuple[str, ...] | None, likelihood: str | None, where: str) -> np.ndarray:
    """Return texts as counts of the words of training; what they have besides is said on stderr."""
    if columns is None:
        raise ReverieError(f"{where}: is text, and the model was not trained on words; give rows of numbers")
    x, said = text.recounted(source, columns, where)
    if said:
        for_stderr().say(said)
    return counts.present(x) if likelihood == "bernoulli" else x


def _counted(raw: Raw, x: Any, columns: tuple[str, ...] | None, likelihood: str | None, where: str) -> np.ndarray:
    """Return counts whose words have names in the order of the words of training; other rows as they are."""
    x = np.asarray(x[:])
    if raw.likelihood != counts.LAW:
        return x
    if columns and raw.columns and raw.columns != columns:
        x, lost = counts.aligned(x, raw.columns, columns)
        if lost:
            said = f"{where}: {lost:,} of its {len(raw.columns):,} words are not of the model's and were left out."
            for_stderr().say(said)
    return counts.present(x) if likelihood == "bernoulli" else x


def _from_file(path: Path, data: Facts) -> np.ndarray:
    shape, columns, likelihood = data.shape, data.columns, data.likelihood
    if path.suffix.lower() in own.TABLES and path.exists():
        seen = tables.sniff(path)
        by_name = bool(columns) and seen.names is not None
        # Without names, the file may have the columns that were left out of training, or not.
        drop = data.dropped if not by_name and seen.width == shape[0] + len(data.dropped) else ()
        raw = tables.read_csv(path, columns if by_name else None, drop)
        x = raw.splits["all"].x
        x = x if by_name else _flat(x.reshape(len(x), *raw.shape), shape, str(path))
        return categories.recoded(x, raw.categories, data.categories, columns or raw.columns, str(path))
    raw = own.read(path)
    x = _counted(raw, raw.splits[_split_of(raw.splits)].x, columns, likelihood, str(path))
    if raw.likelihood == counts.LAW:
        return _flat(x, shape, str(path))
    if len(raw.shape) == 3 and len(shape) == 2 and path.suffix.lower() not in (".npy", ".npz"):
        raise ReverieError(f"{path}: is in colour, the model was trained on grey images; convert it")
    if len(raw.shape) == 2 and len(shape) == 3 and raw.shape == shape[:2]:
        # Grey pictures among colour ones: as in a folder of both.
        return np.repeat(x[..., None], 3, axis=2).reshape(len(x), -1)
    return _flat(x.reshape(len(x), *raw.shape), shape, str(path))


def _flat(x: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    width = int(np.prod(shape))
    if x.dtype.kind not in "buif":
        raise ReverieError(f"{where}: of type {x.dtype}, not real numbers; convert them to numbers")
    if x.shape == shape or x.shape == (width,):
        x = x[None]
    if x.ndim == len(shape) + 2 and x.shape[-1] == 1:
        x = x[..., 0]
    if not (x.shape[1:] == shape or x.shape[1:] == (width,)):
        wanted = f"{width} columns" if len(shape) == 1 else f"images of shape {shape}, or rows of {width}"
        raise ReverieError(f"{where}: rows of shape {x.shape}, the model was trained on {wanted}; give rows like those")
    if not len(x):
        raise ReverieError(f"{where}: has no row; give at least one")
    return np.ascontiguousarray(x).reshape(len(x), width)


def check(x: Shaped[np.ndarray, "n D"], where: str, data: Facts, *, missing: bool) -> None:
    """Insist that every value is one that the law of `data` can give.

    Raises:
        ReverieError: naming the first cell that is infinite, missing though it may not be, or out of range.
    """
    if x.dtype.kind == "f":
        _refuse(np.isinf(x), x, where, "is infinite; give a number, or NaN if it is missing")
        if not missing:
            _refuse(np.isnan(x), x, where, "is missing; fill it first with `impute`")
    if data.likelihood == "gaussian":
        return
    if data.likelihood == categories.LAW:
        most = np.asarray([np.inf if names is None else len(names) for names in data.categories or ()])
        codes = ~np.isnan(x) & np.isfinite(most)
        bad = codes & ((x < 0) | (x >= most) | (np.fmod(x, 1) != 0))
        _refuse(bad, x, where, "is not the code of a category, its place among the names of training, from 0")
        return
    if data.likelihood == counts.LAW:
        counts.check(x, where, data.columns)
        return
    scaled: Float[np.ndarray, "n D"] = (x.astype(np.float32) - np.float32(data.shift)) / np.float32(data.scale)
    if data.likelihood == "categorical":
        first = int(data.shift)
        bad = (scaled < 0) | (scaled >= data.levels) | (np.fmod(scaled, 1) != 0)
        what = f"is not a whole number in {first}..{first + data.levels - 1}, as in training"
        _refuse(bad & ~np.isnan(scaled), x, where, what)
        return
    low, high = float(data.shift), float(data.shift) + float(data.scale)
    if data.binarisation == "as-is":
        bad = (scaled != 0) & (scaled != 1)
        _refuse(bad & ~np.isnan(scaled), x, where, f"is neither {low:g} nor {high:g}, the two values of training")
    _refuse((scaled < 0) | (scaled > 1), x, where, f"is outside {low:g}..{high:g}, the range of training")


def _refuse(bad: np.ndarray, x: np.ndarray, where: str, what: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ReverieError(f"{where}: row {row + 1}, column {column + 1} ({x[row, column]:g}) {what}")
