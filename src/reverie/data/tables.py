"""Tables in text: .csv with or without a header, and .amat, numbers between spaces."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reverie.data import describe
from reverie.data.categories import of_text
from reverie.data.cells import CLASS_COLUMNS, is_missing, is_number
from reverie.data.classes import coded
from reverie.data.rows import Doubt, Raw, Rows
from reverie.errors import ReverieError, nearest

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


def read_csv(path: Path, only: Sequence[str] | None = None, drop: Sequence[str | int] = ()) -> Raw:
    """Read a table; a column named as in `CLASS_COLUMNS` becomes the classes, one with text codes of categories.

    Args:
        path: the file, UTF-8.
        only: columns to read, in this order, ignoring others (new rows for a trained model).
        drop: columns to leave out, by name (by number from 1 where they have none) or by place from 0.

    Raises:
        ReverieError: for no row, rows of unequal length, no such column, or a file that cannot be read.
    """
    text = sniff(path)
    names = None if text.names is None else [name.strip() for name in text.names]
    out = {_place(column, names, text) for column in drop}
    wanted, classes = _wanted(path, names, text.width, only, out)
    fast = _fast(text)
    cells = None if fast is not None else _cells(text)
    found = [_column(fast, cells, c, text) for c in wanted]
    table = np.stack([values for values, _, _ in found], axis=1)
    y, class_names = None, None
    if classes is not None:
        y, class_names = _classes(fast, cells, classes, text)
        if y is None:
            # A column of real numbers is a measurement, whatever its name.
            found.append(_column(fast, cells, classes, text))
            table, wanted = np.column_stack([table, found[-1][0]]), [*wanted, classes]
    columns = None if names is None else tuple(names[c] for c in wanted)
    categories = tuple(categories for _, categories, _ in found) if any(c for _, c, _ in found) else None
    doubts = {place: doubt for place, (_, _, doubt) in enumerate(found) if doubt is not None}
    notes = (*text.notes, *_nones(cells, [c for c, (_, names, _) in zip(wanted, found, strict=True) if names], text))
    notes += (f"Left out: {', '.join(describe.label(c, names) for c in sorted(out))}.",) if out else ()
    return Raw(
        {"all": Rows(table, y)}, (table.shape[1],), columns, class_names, notes, None, categories, doubts,
        tuple(sorted(out)),
    )  # fmt: skip


def read_amat(path: Path) -> Raw:
    """Read numbers between spaces, a row a line."""
    table = _load(Text(path, None, None, 0, 0))
    if table is None:
        raise ReverieError(f"{path}: not a table of numbers between spaces; every line needs as many numbers")
    return Raw({"all": Rows(table)}, (table.shape[1],))


def sniff(path: Path) -> Text:
    """Return what the first lines of a table say of it: its delimiter, width, and whether it names its columns."""
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
    header = _names(first, cells[1:])
    notes: tuple[str, ...] = ()
    numbered = [cell.strip() for cell in first if cell.strip()]
    if not header and len(numbered) > 2 and len(numbered) >= len(first) - 1:
        begins = numbered[0] in ("0", "1")
        header = begins and numbered == [str(i + int(numbered[0])) for i in range(len(numbered))]
        if header:
            notes = ("The first line counts the columns; it is taken as their names.",)
    if not header:
        if not all(is_number(cell) or is_missing(cell) for cell in first):
            notes = ("The first line holds numbers; it is taken as a row, not as the columns' names.",)
        return Text(path, delimiter, None, len(first), 0, notes)
    names = tuple(name.strip() or f"unnamed {i + 1}" for i, name in enumerate(first))
    double = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if double is not None:
        raise ReverieError(f"{path}: two columns are named {double!r}; give every column a name of its own")
    if len(cells) == 1:
        raise ReverieError(f"{path}: the file has no row below its header; give one row a line")
    return Text(path, delimiter, names, len(names), 1, notes)


def _names(first: list[str], below: list[list[str]]) -> bool:
    """Say whether the first line names the columns: it holds text where numbers stand below it, or no number at all."""
    words = [c for c, cell in enumerate(first) if not is_number(cell) and not is_missing(cell)]
    if not any(map(is_number, first)):
        return bool(words)
    under = [[row[c] for row in below if c < len(row) and not is_missing(row[c])] for c in words]
    return any(cells and all(map(is_number, cells)) for cells in under)


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


def _place(column: str | int, names: Sequence[str] | None, text: Text) -> int:
    """Return where a column to be left out stands."""
    if isinstance(column, int):
        return column
    known = tuple(names or map(str, range(1, text.width + 1)))
    if column not in known:
        hint = nearest(column, known) or f" (it has {', '.join(known[:12])})"
        raise ReverieError(f"drop: {text.path} has no column {column!r}{hint}")
    return known.index(column)


def _wanted(
    path: Path, names: list[str] | None, width: int, only: Sequence[str] | None, out: Collection[int]
) -> tuple[list[int], int | None]:
    """Return which columns are data and which one holds classes."""
    if names is not None and only is not None:
        lacking = [name for name in only if name not in names]
        if lacking:
            raise ReverieError(f"{path}: has no column {lacking[0]!r}, which the model was trained on; add it")
        return [names.index(name) for name in only], None
    found = [i for i, name in enumerate(names or ()) if name.lower() in CLASS_COLUMNS and i not in out]
    if len(found) > 1:
        both = " and ".join(repr(name) for i, name in enumerate(names or ()) if i in found[:2])
        raise ReverieError(f"{path}: columns {both} both look like classes; rename one of them, or --drop it")
    data = [i for i in range(width) if i not in found and i not in out]
    if not data:
        besides = "besides the classes" + (" and what is left out" if out else "")
        raise ReverieError(f"{path}: has no column {besides}; add the columns to be modelled")
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


def _column(
    fast: np.ndarray | None, cells: list[list[str]] | None, column: int, text: Text
) -> tuple[Float[np.ndarray, " n"], tuple[str, ...] | None, Doubt | None]:
    """Return a column's numbers, or the codes and names of its categories, and what may be wrong with these."""
    if fast is not None:
        return fast[:, column], None, None
    own = [row[column].strip() for row in cells or []]
    if not all(is_number(cell) or is_missing(cell) for cell in own):
        return of_text(own)
    return np.asarray([np.nan if is_missing(cell) else float(cell) for cell in own], np.float64), None, None


def _nones(cells: list[list[str]] | None, columns: list[int], text: Text) -> list[str]:
    """Return what is said of columns of text in which a word stands for a missing value that may be a category."""
    notes = []
    for column in columns:
        if count := sum(row[column].strip().lower() == "none" for row in cells or []):
            which = describe.label(column, text.names)
            notes.append(f"C{which[1:]}: 'none' in {count:,} cells is taken as missing; a category needs another word.")
    return notes


def _classes(
    fast: np.ndarray | None, cells: list[list[str]] | None, column: int, text: Text
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    name = text.names[column] if text.names else str(column)
    values = fast[:, column] if fast is not None else np.asarray([row[column].strip() for row in cells or []])
    if values.dtype.kind == "U":
        if any(map(is_missing, values)):
            row = next(i for i, value in enumerate(values) if is_missing(value))
            raise ReverieError(
                f"{text.path}: row {row + 1} has no class in column {name!r}; give it one, or --drop {name}"
            )
        if all(is_number(value) for value in values):
            values = values.astype(np.float64)
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.round(values)).any()):
        return None, None
    return coded(values, f"{text.path}: column {name!r}")
