"""Tables in text: .csv with or without a header, and .amat, numbers between spaces."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reverie.data.classes import coded
from reverie.data.rows import Raw, Rows
from reverie.errors import ReverieError

#: What a cell holds when its value is missing (case does not matter).
MISSING = {"", "na", "nan", "n/a", "null", "none", "?"}
#: A column of one of these names holds classes (case does not matter).
CLASS_COLUMNS = ("label", "class", "y", "target")
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Text:
    """A table of text cells: the names of the columns, if the file gives them, and where the rows begin."""

    path: Path
    delimiter: str | None
    names: tuple[str, ...] | None
    width: int
    skip: int
    notes: tuple[str, ...] = ()


def read_csv(path: Path, only: Sequence[str] | None = None) -> Raw:
    """Read a table; a column named as in `CLASS_COLUMNS` becomes the classes.

    Args:
        path: the file, UTF-8.
        only: columns to read, in this order, ignoring others (new rows for a trained model).

    Raises:
        ReverieError: for no row, rows of unequal length, a column of strings, or a file that cannot be read.
    """
    text = _sniff(path)
    names = None if text.names is None else [name.strip() for name in text.names]
    wanted, classes = _wanted(path, names, text.width, only)
    fast = _fast(text)
    cells = None if fast is not None else _cells(text)
    table = np.stack([_numbers(fast, cells, c, text) for c in wanted], axis=1)
    y, class_names = None, None
    if classes is not None:
        y, class_names = _classes(fast, cells, classes, text)
        if y is None:
            # A column of real numbers is a measurement, whatever its name.
            extra = _numbers(fast, cells, classes, text)
            table, wanted = np.column_stack([table, extra]), [*wanted, classes]
    columns = None if names is None else tuple(names[c] for c in wanted)
    return Raw({"all": Rows(table, y)}, (table.shape[1],), columns, class_names, text.notes)


def has_header(path: Path) -> bool:
    """Say whether a table's first line names its columns."""
    return _sniff(path).names is not None


def read_amat(path: Path) -> Raw:
    """Read numbers between spaces, a row a line."""
    table = _load(Text(path, None, None, 0, 0))
    if table is None:
        raise ReverieError(f"{path}: not a table of numbers between spaces; every line needs as many numbers")
    return Raw({"all": Rows(table)}, (table.shape[1],))


def _sniff(path: Path) -> Text:
    lines = _first_lines(path)
    if not lines:
        raise ReverieError(f"{path}: the file has no row; give one row a line")
    delimiter = max(DELIMITERS, key=lambda d: min(line.count(d) for line in lines))
    if not any(line.count(delimiter) for line in lines):
        # No delimiter at all: one column, or numbers between spaces.
        spaced = all(len(line.split()) > 1 and all(map(is_number, line.split())) for line in lines[1:] or lines)
        if spaced:
            cells = [line.split() for line in lines]
            return _headed(path, None, cells)
    return _headed(path, delimiter, list(csv.reader(lines, delimiter=delimiter)))


def _headed(path: Path, delimiter: str | None, cells: list[list[str]]) -> Text:
    first = cells[0]
    header = any(not is_number(cell) and cell.strip().lower() not in MISSING for cell in first)
    notes: tuple[str, ...] = ()
    numbered = [cell.strip() for cell in first if cell.strip()]
    if not header and len(numbered) > 2 and len(numbered) >= len(first) - 1:
        begins = numbered[0] in ("0", "1")
        header = begins and numbered == [str(i + int(numbered[0])) for i in range(len(numbered))]
        if header:
            notes = ("The first line counts the columns; it is taken as their names.",)
    if not header:
        return Text(path, delimiter, None, len(first), 0, notes)
    names = tuple(name.strip() or f"unnamed {i + 1}" for i, name in enumerate(first))
    double = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if double is not None:
        raise ReverieError(f"{path}: two columns are named {double!r}; give every column a name of its own")
    if len(cells) == 1:
        raise ReverieError(f"{path}: the file has no row below its header; give one row a line")
    return Text(path, delimiter, names, len(names), 1, notes)


def _first_lines(path: Path, most: int = 20) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            lines = []
            for line in file:
                if line.strip():
                    lines.append(line.rstrip("\n"))
                if len(lines) == most:
                    break
    except UnicodeDecodeError:
        raise ReverieError(f"{path}: not text in UTF-8; save it as a CSV in UTF-8") from None
    except OSError as error:
        raise ReverieError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from None
    return lines


def _wanted(
    path: Path, names: list[str] | None, width: int, only: Sequence[str] | None
) -> tuple[list[int], int | None]:
    """Return which columns are data and which one holds classes."""
    if names is None:
        return list(range(width)), None
    if only is not None:
        lacking = [name for name in only if name not in names]
        if lacking:
            raise ReverieError(f"{path}: has no column {lacking[0]!r}, which the model was trained on; add it")
        return [names.index(name) for name in only], None
    found = [i for i, name in enumerate(names) if name.lower() in CLASS_COLUMNS]
    if len(found) > 1:
        both = " and ".join(repr(names[i]) for i in found[:2])
        raise ReverieError(f"{path}: columns {both} both look like classes; rename one of them")
    data = [i for i in range(width) if i not in found]
    if not data:
        raise ReverieError(f"{path}: has no column besides the classes; add the columns to be modelled")
    return data, found[0] if found else None


def _fast(text: Text) -> Float[np.ndarray, "n D"] | None:
    """Return all cells as numbers, or None where one is missing, no number, or a line has another length."""
    table = _load(text)
    return table if table is not None and table.shape[1] == text.width else None


def _load(text: Text) -> Float[np.ndarray, "n D"] | None:
    try:
        return np.loadtxt(
            text.path, delimiter=text.delimiter, skiprows=_skipped(text), ndmin=2, comments=None, quotechar='"',
            encoding="utf-8-sig",
        )  # fmt: skip
    except (ValueError, OverflowError):
        return None
    except OSError as error:
        raise ReverieError(f"{text.path}: cannot be read ({error.strerror}); check its name and permissions") from None


def _skipped(text: Text) -> int:
    """Return how many lines the header is, blank ones above it included."""
    if not text.skip:
        return 0
    with text.path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file):
            if line.strip():
                return number + 1
    return 0


def _cells(text: Text) -> list[list[str]]:
    """Return every cell as text, each line with as many.

    Raises:
        ReverieError: which names the first line that is longer or shorter.
    """
    rows = []
    with text.path.open(encoding="utf-8-sig", newline="") as file:
        spaced = ((number, line.split()) for number, line in enumerate(file, 1))
        reader = csv.reader(file, delimiter=text.delimiter or ",")
        lines = spaced if text.delimiter is None else ((reader.line_num, cells) for cells in reader)
        try:
            rows = [(number, cells) for number, cells in lines if any(cell.strip() for cell in cells) or len(cells) > 1]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ReverieError(f"{text.path}: cannot be read as a table ({error}); mend that line") from None
    for number, cells in rows:
        if len(cells) != text.width:
            raise ReverieError(
                f"{text.path}: line {number} has {len(cells)} cells, the first has {text.width}; mend that line"
            )
    return [cells for _, cells in rows[text.skip :]]


def _numbers(
    fast: np.ndarray | None, cells: list[list[str]] | None, column: int, text: Text
) -> Float[np.ndarray, " n"]:
    if fast is not None:
        return fast[:, column]
    found = []
    for row in cells or []:
        cell = row[column].strip()
        if cell.lower() in MISSING:
            found.append(np.nan)
        elif is_number(cell):
            found.append(float(cell))
        else:
            where = f"column {text.names[column]!r}" if text.names else f"column {column + 1}"
            raise ReverieError(
                f"{text.path}: {where} holds text such as {cell[:20]!r}; leave it out, turn it into numbers, "
                "or name it 'label' if it holds classes"
            )
    return np.asarray(found, np.float64)


def _classes(
    fast: np.ndarray | None, cells: list[list[str]] | None, column: int, text: Text
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    name = text.names[column] if text.names else str(column)
    values = fast[:, column] if fast is not None else np.asarray([row[column].strip() for row in cells or []])
    if values.dtype.kind == "U":
        if any(value.lower() in MISSING for value in values):
            row = next(i for i, value in enumerate(values) if value.lower() in MISSING)
            raise ReverieError(f"{text.path}: row {row + 1} has no class in column {name!r}; give it one")
        if all(is_number(value) for value in values):
            values = values.astype(np.float64)
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.round(values)).any()):
        return None, None
    return coded(values, f"{text.path}: column {name!r}")


#: A number as numpy reads it, not Python's own ``1_000``.
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?|nan)\s*", re.IGNORECASE)


def is_number(cell: str) -> bool:
    """Say whether a cell is a number."""
    return _NUMBER.fullmatch(cell) is not None
