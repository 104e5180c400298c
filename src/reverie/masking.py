"""Rows with cells missing, as a person brings them: which are known, and how they look to the model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data import load_array
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate import impute as imputing


def soft_view(data: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return rows in the model's units without drawing: grey cells stay means, as the paper's protocol has them."""
    scaled = (np.asarray(stored, np.float32) - np.asarray(data.shift, np.float32)) / data.divisor
    cut = data.binarisation == "threshold"
    return np.where(np.isnan(scaled), scaled, scaled >= 0.5).astype(np.float32) if cut else scaled


def known_cells(mask: Any, rows: np.ndarray, data: Dataset, seed: int) -> np.ndarray:
    """Return which cells are known, shape (n, D), from an array, a file, a rule or None.

    Raises:
        ReverieError: for a file that is not there, or a mask of another shape than the rows.
    """
    if mask is None:
        return ~np.isnan(rows)
    if isinstance(mask, str) and not Path(mask).exists():
        if looks_like_path(mask):
            raise ReverieError(f"mask: no such file {mask}; check the path, or give a rule (drop:P, rect:R, half, nan)")
        return imputing.mask_of(mask, rows, data.shape, seed=seed)
    known = np.asarray(load_array(mask) if isinstance(mask, str | Path) else mask)
    wanted = (len(rows), *data.shape)
    if known.shape not in (wanted, rows.shape, (*wanted, 1)):
        where = f"{mask}: " if isinstance(mask, str | Path) else ""
        also = "" if wanted == rows.shape else f" or {rows.shape}"
        raise ReverieError(
            f"mask: {where}shape {known.shape} does not fit the rows; "
            f"give shape {wanted}{also}, 1 where a cell is known"
        )
    return known.astype(bool).reshape(rows.shape)


def looks_like_path(mask: str) -> bool:
    """Say whether a mask that is no file here was meant as one: it has a slash, or an ending that is no number."""
    return mask.partition(":")[0] not in imputing.RULES and re.search(r"[/\\]|\.[A-Za-z]\w*$", mask) is not None
