"""Classes as numbers: names in order, and which one each row has."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from reverie.errors import ReverieError

#: More classes than this are no classes.
MOST = 1000


def coded(values: Any, where: str) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Return the class of each row as int32 in 0..C-1, and the names of the classes, sorted.

    Args:
        values: whole numbers, booleans or strings, one a row.
        where: what a message names.

    Raises:
        ReverieError: for another shape or type, or too many classes.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ReverieError(f"{where}: classes of shape {values.shape}; give one number or name a row")
    if values.dtype.kind == "f" and np.array_equal(values, np.round(values)):
        values = values.astype(np.int64)
    if values.dtype.kind not in "biuU":
        raise ReverieError(f"{where}: classes of type {values.dtype}; give whole numbers or names")
    names, codes = np.unique(values, return_inverse=True)
    if len(names) > MOST:
        raise ReverieError(f"{where}: {len(names):,} different classes; leave them out, or give at most {MOST:,}")
    return codes.astype(np.int32).reshape(-1), tuple(str(int(n)) if n.dtype.kind in "biu" else str(n) for n in names)
