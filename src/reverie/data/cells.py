"""Cells of a table as text: which are numbers, which are missing, and how a number is written."""

from __future__ import annotations

import re

#: What a cell holds when its value is missing (case does not matter).
MISSING = {"", "na", "nan", "n/a", "null", "none", "?"}
#: A column of one of these names holds classes (case does not matter).
CLASS_COLUMNS = ("label", "class", "y", "target")
#: A number as numpy reads it, not Python's own ``1_000``.
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?|nan)\s*", re.IGNORECASE)


def is_number(cell: str) -> bool:
    """Say whether a cell is a number."""
    return _NUMBER.fullmatch(cell) is not None


def is_missing(cell: str) -> bool:
    """Say whether a cell's value is missing."""
    return cell.strip().lower() in MISSING


def written(value: float) -> str:
    """Return a number as a name: a whole one without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
