"""Rows as they are stored: in memory, read from disk as they are needed, or not here at all; and their hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Int

from reverie.errors import ReverieError

#: Bytes of rows looked at in one go, so that passes over a file on disk stay small.
BLOCK_BYTES = 2**24


#: Names of the categories of each column, None for one of numbers.
Categories = tuple[tuple[str, ...] | None, ...]


class Rows(NamedTuple):
    """The rows of one split as they are stored: `x` of shape (n, D), in memory or not, and classes (n,)."""

    x: Any
    y: np.ndarray | None = None


class Gathered:
    """Rows of a file on disk in an order of their own: what is asked for is read, cast and given as an array.

    Attributes:
        base: all rows of the file, shape (N, D), memory-mapped.
        index: the file's row at each place, shape (n,).
        dtype: of what is given.
    """

    ndim = 2

    def __init__(self, base: np.ndarray, index: Int[np.ndarray, " n"] | None = None, dtype: Any = None) -> None:
        self.base = base
        self.index = np.arange(len(base)) if index is None else np.asarray(index)
        self.dtype = np.dtype(base.dtype if dtype is None else dtype)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), int(self.base.shape[1])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: slice | Int[np.ndarray, " m"]) -> np.ndarray:
        if not isinstance(item, slice):
            item = np.asarray(item)
        wanted = self.index[item]
        # Read in the file's order: neighbours share a page of the disk.
        order = np.argsort(wanted, kind="stable")
        out = np.empty((len(wanted), self.base.shape[1]), self.dtype)
        out[order] = self.base[wanted[order]]
        return out

    def take(self, index: Int[np.ndarray, " m"]) -> Gathered:
        """Return the rows at `index`, still on disk."""
        return Gathered(self.base, self.index[index], self.dtype)

    def astype(self, dtype: Any, copy: bool = True) -> Gathered:
        """Return the same rows, cast when they are read."""
        return Gathered(self.base, self.index, dtype)


class Absent:
    """The shape of rows that are not at hand (a run that is looked at without its data)."""

    ndim = 2

    def __init__(self, rows: int, width: int) -> None:
        self.shape, self.dtype = (rows, width), np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, item: Any) -> NoReturn:
        raise ReverieError("data: the rows of this run's data are not loaded here; open the run with its data at hand")


class Doubt(NamedTuple):
    """Why a column of text may hold no categories: `what` it holds, and how to `mend` it other than to leave it out."""

    what: str
    mend: str


@dataclass(frozen=True)
class Raw:
    """What a reader found, before anything was decided about it.

    Attributes:
        splits: ``all``, or the parts that the file itself brings (``train`` at least), x of shape (n, D).
        shape: of one row as a person sees it.
        columns, class_names: names, where there are any.
        notes: what the reader decided, a sentence each.
        likelihood: the law that rows of this kind have unless another is asked for; None: what suits their values.
        categories: names of the categories whose codes a column holds; None where all columns are numbers.
        doubts: columns of text that may be no categories, which are refused unless they are asked for, and why.
        dropped: places in the file, from 0, of columns that were to be left out.
        inputs: of sequences (`sequences`), the channels of a step that are heard; 0 of other rows.
        groups: of rows in one piece, which of them may not be divided: a number a row.
    """

    splits: Mapping[str, Rows]
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())
    likelihood: str | None = None
    categories: Categories | None = None
    doubts: Mapping[int, Doubt] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()
    inputs: int = 0
    groups: Int[np.ndarray, " n"] | None = None


def in_memory(x: Any) -> bool:
    """Say whether rows are held in memory."""
    return isinstance(x, np.ndarray) and not isinstance(x, np.memmap)


def resident_limit() -> int:
    """Return the bytes up to which rows are held in memory, ``REVERIE_RESIDENT_BYTES`` (1 GiB).

    Raises:
        ReverieError: when the variable holds no number.
    """
    text = os.environ.get("REVERIE_RESIDENT_BYTES", str(2**30))
    try:
        return int(float(text))
    except ValueError:
        raise ReverieError(f"REVERIE_RESIDENT_BYTES: {text!r} is not a number of bytes; 1e9 is one") from None


def take(x: Any, index: Int[np.ndarray, " m"]) -> Any:
    """Return the rows at `index`: a copy of rows in memory, a view of rows on disk."""
    return x.take(index) if isinstance(x, Gathered) else x[index]


def pieces(x: Any) -> Iterator[np.ndarray]:
    """Yield all rows in order, as contiguous arrays of at most about `BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // max(1, x.shape[1] * x.dtype.itemsize))
    for start in range(0, len(x), size):
        yield np.ascontiguousarray(x[start : start + size])


def hash_rows(splits: Mapping[str, Rows], categories: Categories | None = None) -> str:
    """Return the SHA-256 over every split's name, shape, type, bytes (little-endian) and classes.

    The names of classes and columns do not enter, nor where the rows lie; those of categories do, without which their
    codes say nothing.
    """
    digest = hashlib.sha256(b"reverie rows 1")
    for split, (x, y) in splits.items():
        kind = x.dtype.newbyteorder("<")
        digest.update(f"|{split} {x.shape} {kind.str}|".encode())
        for piece in pieces(x):
            digest.update(piece.astype(kind, copy=False).data)
        if y is not None:
            digest.update(b"|classes|" + np.asarray(y).astype("<i4").tobytes())
    if categories is not None:
        digest.update(b"|categories|" + json.dumps(categories).encode())
    return digest.hexdigest()


def narrow(low: float, high: float, whole: bool, missing: bool) -> np.dtype[Any]:
    """Return the type in which values are stored: the smallest of whole numbers that holds them, else float32.

    It depends on the values alone, so that one table read from .csv, .npy or an array has one hash.
    """
    if whole and not missing:
        for kind in ("u1", "i1", "u2", "i2", "i4"):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return np.dtype(kind)
    return np.dtype(np.float32)
