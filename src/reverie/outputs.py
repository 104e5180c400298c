"""`--out FILE`: where arrays go, in the form of the file's ending; refused before the work, and never half written."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.errors import ReverieError

if TYPE_CHECKING:
    import numpy as np

#: What arrays can be written as.
ENDINGS = (".png", ".npy", ".csv", ".npz")
#: From here on not every whole number is a float64.
_WHOLE = 2**53


@dataclass(frozen=True)
class Target:
    """A file to be written, already known to be writable."""

    path: Path

    @staticmethod
    def check(path: str | Path, endings: Sequence[str] = ENDINGS, *, read: Sequence[str | Path] = ()) -> Target:
        """Return the target, before any work is done for it.

        Args:
            read: what the same command reads, which it must not replace.

        Raises:
            ReverieError: for another ending, a missing folder, one that cannot be written to, or a file of `read`.
        """
        place = Path(path)
        if place.suffix.lower() not in endings:
            raise ReverieError(f"out: {place} does not end in {', '.join(endings)}; the ending says what to write")
        if place.is_dir():
            raise ReverieError(f"out: {place} is a folder; name a file in it")
        if not place.parent.is_dir():
            raise ReverieError(f"out: there is no folder {place.parent}; make it, or name another")
        for source in read:
            if _holds(Path(source), place):
                raise ReverieError(
                    f"out: {place} is read by the same command ({source}) and would be lost; name another"
                )
        try:
            # Asking for permission is no proof (a read-only disk, an administrator): only writing is.
            with tempfile.TemporaryFile(dir=place.parent):
                pass
        except OSError as error:
            raise ReverieError(f"out: {place.parent} cannot be written to ({error.strerror}); name another") from None
        return Target(place)

    def write(
        self,
        array: np.ndarray,
        columns: Sequence[str] | None = None,
        limits: Callable[[], tuple[float, float] | None] = lambda: None,
        looks: Mapping[str, np.ndarray] | None = None,
        written: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    ) -> Path:
        """Write rows (n, ...) in the form of the ending, whole or not at all.

        Args:
            array: rows; a .csv gets them flat, a .png as pictures side by side, or the first of a table as text.
            columns: the names of a table's columns, where they are known.
            limits: asked, for images in a .png, which values are black and white; None where that is not known.
            looks: what a .png shows of each row instead, side by side; see `said`.
            written: gives the rows of a look as a .csv has them, such as with the names of categories.

        Raises:
            ReverieError: when the disk is full, or the rows are no pictures.
        """
        ending = self.path.suffix.lower()
        if ending == ".png":
            from reverie.report import sheets
            from reverie.report.tiles import save_grid

            looks = {"": array} if looks is None else looks
            if sheets.readable(array):
                return sheets.save_sheet({name: written(rows) for name, rows in looks.items()}, columns, self.path)
            first, *beside = looks.values()
            return save_grid(first, self.path, beside=beside, limits=limits() if array.ndim > 2 else None)
        from reverie.files import npz_bytes, write_atomic

        if ending == ".csv":
            content = csv_bytes(written(array), columns)
        else:
            content = npz_bytes({"x": array}) if ending == ".npz" else npy_bytes(array)
        write_atomic(self.path, content)
        return self.path

    def said(self, looks: Mapping[str, np.ndarray]) -> list[str]:
        """Return the line that says what a picture shows of each row; nothing of other files."""
        if self.path.suffix.lower() != ".png":
            return []
        from reverie.report import sheets

        rows = next(iter(looks.values()))
        if not sheets.readable(rows):
            return [f"of each row, from left to right: {', '.join(looks)}"]
        most = sheets.shown(looks)
        part = f"the first {most} of {len(rows):,} rows, " if len(rows) > most else ""
        return [f"{part}of each from top to bottom: {', '.join(map(sheets.short, looks))}"]


def _holds(source: Path, place: Path) -> bool:
    """Say whether `place` is the file `source`, by whatever name, or one in that folder."""
    try:
        if source.is_dir():
            return place.exists() and place.resolve().is_relative_to(source.resolve())
        return place.samefile(source)
    except OSError:
        return False


def npy_bytes(array: np.ndarray) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def csv_bytes(array: np.ndarray, columns: Sequence[str] | None = None) -> bytes:
    """Return rows as comma-separated text: numbers that read back the same, whole ones without a point, empty for NaN.

    Names are written only if there is one for each column.
    """
    import numpy as np

    rows = np.asarray(array)
    rows = rows.reshape(len(rows), -1)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if columns and len(columns) == rows.shape[1]:
        writer.writerow(columns)
    cell = _real if rows.dtype.kind in "fO" else str
    # Row by row as NumPy's own scalars: the shortest text of a float32 is not that of the float64 it becomes.
    writer.writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _real(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value != value:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else str(value)


def write_told(
    target: Target,
    told: np.ndarray,
    rows: np.ndarray,
    names: Sequence[str] = ("log_likelihood",),
    titles: Sequence[str] = (),
    more: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write what is told of each row, a score or a code; a .csv also says which row of the input it is, from 1.

    Args:
        told: (n,) or (n, d).
        rows: the input, whose missing cells a .csv counts where there are any.
        names: of the columns of `told`.
        more: further columns of a .csv.
        titles: what each row is called, such as its file; the last column of a .csv, where rows have names.
    """
    import numpy as np

    if target.path.suffix.lower() != ".csv":
        return target.write(told)
    missing = np.isnan(np.asarray(rows, np.float64).reshape(len(rows), -1)).sum(axis=1)
    columns: dict[str, np.ndarray] = {"row": np.arange(1, len(told) + 1, dtype=np.float64)}
    columns |= dict(zip(names, told.reshape(len(told), -1).T, strict=True))
    # A row that lacks cells has fewer to be unlikely in: its number is not one to compare with a whole row's.
    columns |= {"missing": missing.astype(np.float64)} if missing.any() else {}
    columns |= more or {}
    columns |= {"name": np.asarray(titles)} if titles else {}
    # As NumPy's own scalars, whose shortest text `csv_bytes` writes.
    table = np.array([list(column) for column in columns.values()], dtype=object).T
    return target.write(table, list(columns))


def ranked(order: Sequence[int], values: np.ndarray, form: str, titles: Sequence[str] = ()) -> str:
    """Return rows and their values as a line tells them, counted from 1, and by name where they have one."""
    told = [f"row {row + 1}" + (f" {titles[row]}" if titles else "") for row in order]
    return ", ".join(f"{what} ({values[row]:{form}})" for what, row in zip(told, order, strict=True))
