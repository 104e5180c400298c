"""Word counts: rows n in N^K, a document each, whose columns are the words of a vocabulary.

They come with a scale of one and a shift of zero: a model sees the counts themselves, and its law is a mass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from reverie.data.describe import label
from reverie.data.rows import Raw, Rows, narrow, pieces, resident_limit
from reverie.errors import ReverieError

LAW = "counts"
#: So many documents without words are named.
_NAMED = 5
_BINARY = ("dynamic", "sampled-fixed", "threshold")


def as_asked(raw: Raw, likelihood: str | None, binarisation: str | None, where: str) -> Raw:
    """Return rows fit for the law that is asked of them: counts that are counts, or words that are there or not.

    Args:
        raw: rows whose `likelihood` is the law they have by themselves.
        likelihood, binarisation: as asked, None where nothing is.
        where: what a message names.

    Raises:
        ReverieError: for counts that are negative, fractional or missing, and for documents without words.
    """
    binary = likelihood == "bernoulli" or (likelihood is None and binarisation in _BINARY)
    if LAW in (likelihood, None if binary or likelihood else raw.likelihood):
        for split, rows in raw.splits.items():
            part = "" if split == "all" else f"{split} "
            check(rows.x, where, raw.columns, part, ", or give another --likelihood")
        return raw
    if raw.likelihood == LAW and binary:
        splits = {split: Rows(present(rows.x), rows.y) for split, rows in raw.splits.items()}
        notes = (*raw.notes, "A cell is 1 where the document has the word and 0 where not, however often.")
        return replace(raw, splits=splits, likelihood=None, notes=notes)
    return replace(raw, likelihood=None)


def present(x: Shaped[np.ndarray, "n K"]) -> Shaped[np.ndarray, "n K"]:
    """Return 1 where a word occurs, 0 where not."""
    return (np.asarray(x) > 0).astype(np.uint8)


def check(x: Any, where: str, words: Sequence[str] | None, which: str = "", otherwise: str = "") -> None:
    """Insist that rows are counts of words, one at least in each.

    Args:
        which: what goes before the number of a row.
        otherwise: what can be done besides mending a cell.

    Raises:
        ReverieError: naming the first cell that is none, or the documents without words.
    """
    empty: list[int] = []
    row = 0
    for piece in pieces(x):
        bad = _no_count(piece)
        if bad.any():
            i, column = map(int, np.argwhere(bad)[0])
            value = "missing" if piece[i, column] != piece[i, column] else f"{piece[i, column]:g}"
            raise ReverieError(
                f"{where}: {which}row {row + i + 1}, {label(column, words)} is {value}, and a count is a whole number "
                f"from 0 up; mend it{otherwise}"
            )
        empty += (np.flatnonzero(~piece.any(axis=1)) + row + 1).tolist()
        row += len(piece)
    if empty:
        refuse_empty([f"{which}row {i}" for i in empty], where)


def refuse_empty(names: Sequence[str], where: str) -> None:
    """Refuse documents that have no word, by name."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    have, them = ("has", "it") if len(names) == 1 else ("have", "them")
    raise ReverieError(f"{where}: {', '.join(names[:_NAMED])}{more} {have} no word (of the vocabulary); remove {them}")


def _no_count(piece: Shaped[np.ndarray, "n K"]) -> Bool[np.ndarray, "n K"]:
    if piece.dtype.kind in "bu":
        return np.zeros((1, 1), bool)
    # Written so that NaN and infinity are no counts either.
    return ~((piece >= 0) & np.isfinite(piece) & (np.trunc(piece) == piece))


def lengths(splits: Mapping[str, Rows]) -> str:
    """Return a sentence on how long the documents are, and how many of the cells are zero."""
    total, zeros, cells = [], 0, 0
    for rows in splits.values():
        for piece in pieces(rows.x):
            total.append(piece.sum(axis=1, dtype=np.int64))
            zeros, cells = zeros + int((piece == 0).sum()), cells + piece.size
    words = np.concatenate(total)
    return (
        f"Documents of {words.min():,} to {words.max():,} words, {words.mean():.1f} on average (standard deviation "
        f"{words.std():.1f}); {zeros / cells:.1%} of the cells are 0."
    )


def is_sparse(names: Sequence[str] | Mapping[str, Any]) -> bool:
    """Say whether the arrays of an .npz are those of ``scipy.sparse.save_npz``."""
    return {"format", "shape", "data"} <= set(names)


def is_matrix(x: Any) -> bool:
    """Say whether `x` is one of scipy's sparse matrices."""
    return hasattr(x, "nnz") and hasattr(x, "tocsr")


def read_sparse(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what ``scipy.sparse.save_npz`` wrote as dense ``rows``, with its words as ``columns``, if it has any.

    Args:
        path: the file; words are an array ``columns`` of it, or the lines of ``<stem>.vocab.txt`` beside it.
        arrays: what the file holds; classes are read by whoever reads those of any .npz.

    Raises:
        ReverieError: for a damaged file, or one that is too large as rows.
    """
    from scipy.sparse import load_npz

    try:
        matrix = load_npz(path).tocsr()
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError, KeyError, OSError, NotImplementedError):
        raise ReverieError(f"{path}: is no sparse matrix that can be read; save it again with scipy.sparse") from None
    own = {"format", "shape", "data", "indices", "indptr", "row", "col", "offsets", "_is_array", "coords"}
    found = {name: array for name, array in arrays.items() if name not in own}
    words = _vocabulary(path) if "columns" not in found else found["columns"]
    return {**found, "rows": dense(matrix, str(path)), **({} if words is None else {"columns": words})}


def _vocabulary(path: Path) -> np.ndarray | None:
    """Return the lines of the file of words beside `path`, None without one."""
    beside = path.with_name(f"{path.stem}.vocab.txt")
    if not beside.exists():
        return None
    try:
        return np.asarray([line.strip() for line in beside.read_text(encoding="utf-8-sig").splitlines()], np.str_)
    except (UnicodeDecodeError, OSError):
        raise ReverieError(f"{beside}: cannot be read as text in UTF-8; save it again, one word a line") from None


def check_words(words: Sequence[str], width: int, where: str) -> None:
    """Insist on one name for each column, none twice.

    Raises:
        ReverieError: which says how many there are, or which one is double.
    """
    if len(words) != width:
        raise ReverieError(f"{where}: has {width:,} columns and {len(words):,} words; give one word for each column")
    seen: set[str] = set()
    double = next((word for word in words if word in seen or seen.add(word)), None)  # type: ignore[func-returns-value]
    if double is not None:
        raise ReverieError(f"{where}: the word {double!r} stands for two columns; add them up, or rename one")


def dense(matrix: Any, where: str) -> Shaped[np.ndarray, "n K"]:
    """Return a sparse matrix as rows, in the smallest type that holds its numbers.

    Raises:
        ReverieError: where they would not fit into memory.
    """
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    if matrix.dtype.kind not in "buif":
        raise ReverieError(f"{where}: holds {matrix.dtype}, not real numbers; give counts")
    values = matrix.data
    kind = np.dtype(np.float32)
    if values.size and np.isfinite(values).all():
        low, high = min(0, values.min()), max(0, values.max())
        kind = narrow(float(low), float(high), bool((np.trunc(values) == values).all()), False)
    size = matrix.shape[0] * matrix.shape[1] * kind.itemsize
    if size > resident_limit():
        raise ReverieError(
            f"{where}: {matrix.shape[0]:,} documents of {matrix.shape[1]:,} words are {size / 2**30:.1f} GiB as rows, "
            f"past {resident_limit() / 2**30:.1f} GiB; keep fewer words, the most frequent ones, or raise "
            "REVERIE_RESIDENT_BYTES"
        )
    return np.asarray(matrix.astype(kind).toarray())


def aligned(
    x: Shaped[np.ndarray, "n K"], have: Sequence[str], want: Sequence[str]
) -> tuple[Shaped[np.ndarray, "n D"], int]:
    """Return columns by the names in `want`, zero where there is none, and how many of `have` have no place there."""
    place = {word: i for i, word in enumerate(want)}
    out = np.zeros((len(x), len(want)), x.dtype)
    known = [i for i, word in enumerate(have) if word in place]
    out[:, [place[have[i]] for i in known]] = x[:, known]
    return out, len(have) - len(known)
