"""Rows of a table as a person reads them: below the names of their columns, numbers in the file's units, and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from markupsafe import Markup

from reverie.data.categories import named
from reverie.report import blocks
from reverie.report.blocks import Block
from reverie.report.reading import RunView

#: Columns of a table that are set as text, a wider one is drawn as strips of heat; and rows that a page shows.
MOST, ROWS = 16, 8


def readable(run: RunView) -> bool:
    """Say whether the run's rows are told as text: of a table of numbers and words that is not too wide."""
    return len(run.shape) == 1 and run.shape[0] <= MOST and run.data.get("likelihood") in ("gaussian", "mixed")


def table(run: RunView, rows: Float[np.ndarray, "n D"], caption: str, *, whole: bool = False) -> Block:
    """Return rows in the model's units as a table, a line each.

    Args:
        whole: whether columns of whole numbers are told as such, as draws are written, or to decimals, as means.
    """
    head, numeric = _head(run)
    return blocks.table(head, _lines(run, rows[:ROWS], whole), caption, numeric=numeric)


def filled(
    run: RunView, known: Bool[np.ndarray, "n D"], said: Float[np.ndarray, "n D"], truth: Float[np.ndarray, "n D"],
    caption: str,
) -> Block:  # fmt: skip
    """Return rows as they were given, filled in and in truth, three lines each: what was hidden is ?, and then bold."""
    head, numeric = _head(run)
    lines: list[list[Any]] = []
    told = (_lines(run, rows[:ROWS], whole=True) for rows in (truth, np.where(known, truth, said)))
    for number, (true, full, seen) in enumerate(zip(*told, known, strict=False), 1):
        given = [cell if here else "?" for cell, here in zip(true, seen, strict=True)]
        shown = [
            cell if here else Markup("<strong>{}</strong>").format(cell) for cell, here in zip(full, seen, strict=True)
        ]
        lines += [[str(number), "given", *given], ["", "filled in", *shown], ["", "truth", *true]]
    return blocks.table(["row", "", *head], lines, caption, numeric=[place + 2 for place in numeric])


def _head(run: RunView) -> tuple[list[str], list[int]]:
    """Return the names of the columns, and which hold numbers."""
    width = run.shape[0]
    names = run.data.get("columns") or [f"column {place + 1}" for place in range(width)]
    categories = run.data.get("categories") or [None] * width
    return list(names), [place for place in range(width) if categories[place] is None]


def _lines(run: RunView, rows: Float[np.ndarray, "n D"], whole: bool) -> list[list[Any]]:
    data, width = run.data, run.shape[0]
    shift, scale = (np.broadcast_to(np.asarray(data[part], np.float64), (width,)) for part in ("shift", "scale"))
    file = np.where(scale == 0, shift, rows * scale + shift)
    digits = np.where(np.asarray(data.get("integers", False)) & (whole | (scale == 0)), 0, digits_of(scale))
    cells = named(file, _categories(data.get("categories")))
    return [[_cell(value, d) for value, d in zip(row, digits.tolist(), strict=True)] for row in cells.tolist()]


def digits_of(spread: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Return how many decimals show a hundredth of a spread; two where there is none."""
    return np.clip(2 - np.floor(np.log10(np.where(spread > 0, spread, 1.0))), 0, 12).astype(int)


def _cell(value: Any, digits: int) -> Any:
    return value if isinstance(value, str) else blocks.data(value, digits)


def _categories(record: Sequence[Sequence[str] | None] | None) -> Any:
    return None if record is None else tuple(None if names is None else tuple(names) for names in record)
