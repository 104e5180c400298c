"""Tables of mixed columns, the law ``mixed``: a column holds numbers, or categories that have names.

Stored is a category's code, its place among the sorted names; what is written back is its name.  The rule: a column
with text is one of categories, and so, in such a table, is one of two different numbers, which has no density worth
the name; any other is one of numbers, unless it is asked for by name.  Text that differs from row to row, an identifier
or a remark, says nothing of other rows and is refused; so is text among numbers, which mostly is a slip.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from reverie.data.cells import CLASS_COLUMNS, is_missing, is_number, written
from reverie.data.describe import label
from reverie.data.rows import Categories, Doubt, Raw, Rows
from reverie.errors import ReverieError, nearest

LAW = "mixed"
#: Text of more different values is taken for an identifier, and so is one of more than `FEW` in over half of the rows.
MOST, FEW = 100, 10
#: Categories that a note names; different whole numbers up to which one says that they could be categories.
_NAMED = 12
#: Numbers and dates as they are often written, which are no categories.
_COMMAS = re.compile(r"[^\d\s]?\s*[+-]?\d[\d.]*,\d[\d,]*\s*[^\d\s]?")
_DATES = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")


def of_text(cells: Sequence[str]) -> tuple[Float[np.ndarray, " n"], tuple[str, ...], Doubt | None]:
    """Return the codes of a column's cells (NaN where missing), the names, and why they may be no categories.

    Args:
        cells: stripped; one at least holds text.
    """
    there = np.asarray([not is_missing(cell) for cell in cells], bool)
    names, codes = np.unique(np.asarray(cells)[there], return_inverse=True)
    found = np.full(len(cells), np.nan)
    found[there] = codes
    words, count = [str(name) for name in names if not is_number(str(name))], int(there.sum())
    doubt = _no_names(words)
    if doubt is None and 2 * sum(is_number(cell) for cell, here in zip(cells, there, strict=True) if here) > count:
        row = list(cells).index(words[0]) + 1
        doubt = Doubt(f"holds numbers, and text such as {words[0][:20]!r} in row {row}", "mend or empty that cell")
    elif doubt is None and (len(names) > MOST or (len(names) > FEW and 2 * len(names) > count)):
        what = f"holds text such as {words[0][:20]!r}, {len(names):,} different ones in {count:,} rows"
        doubt = Doubt(f"{what}, too many for categories", "name it 'label' if it holds classes")
    return found, tuple(map(str, names)), doubt


def _no_names(words: Sequence[str]) -> Doubt | None:
    """Return what a column holds whose text is numbers with commas, or dates; None where it is neither."""
    if all(_COMMAS.fullmatch(word) for word in words):
        return Doubt(f"holds numbers with commas, such as {words[0]!r}", "write them with points, as 3.2")
    if all(_DATES.fullmatch(word) for word in words):
        return Doubt(f"holds dates, such as {words[0]!r}", "give numbers such as days or years")
    return None


def as_asked(raw: Raw, likelihood: str | None, asked: Sequence[str], binarisation: str | None, where: str) -> Raw:
    """Return rows whose columns are numbers or categories, where text or whoever asks makes them mixed.

    Args:
        likelihood, binarisation: as asked, None where nothing is.
        asked: columns of numbers to be taken as categories, or of text to be taken so whatever it looks like.
        where: what a message names.

    Raises:
        ReverieError: for text that is no category or is asked to be numbers, or a column that is not there.
    """
    chosen = {_place(name, raw, where) for name in asked}
    if not (raw.categories or chosen or likelihood == LAW):
        return raw
    if len(raw.shape) != 1:
        raise ReverieError(f"{where}: images have no columns; {LAW} and --categories are for tables")
    other = likelihood if likelihood not in (None, LAW) else None
    if other is None and binarisation not in (None, "as-is", "means"):
        other = binarisation
    if other is not None:
        which = label(next((c for c, names in enumerate(raw.categories or ()) if names), min(chosen, default=0)),
                      raw.columns)  # fmt: skip
        raise ReverieError(f"{where}: {which} holds categories, which {other} does not take; leave that option out")
    _refuse({column: doubt for column, doubt in raw.doubts.items() if column not in chosen}, raw, where)
    return _mixed(raw, chosen)


def _refuse(doubts: Mapping[int, Doubt], raw: Raw, where: str) -> None:
    """Refuse all columns of text that may be no categories, in one line that can be taken back in one go."""
    if not doubts:
        return
    told = [(label(column, raw.columns), *doubt) for column, doubt in doubts.items()]
    one = len(told) == 1
    why = "; ".join(f"{which} {what}" + ("" if one else f" ({mend})") for which, what, mend in told)
    first, them = (f"{told[0][2]}, ", "it") if one else ("", "them")
    names = shlex.quote(",".join(_names(raw)[column] for column in doubts))
    raise ReverieError(
        f"{where}: {why}; {first}leave {them} out (--drop {names}), or take {them} as categories (--categories {names})"
    )


def _names(raw: Raw) -> tuple[str, ...]:
    """Return how options call the columns: by name, or by number from 1."""
    return raw.columns or tuple(str(c + 1) for c in range(raw.shape[-1]))


def _place(name: str, raw: Raw, where: str) -> int:
    columns = _names(raw)
    if name not in columns:
        hint = nearest(name, columns) or f" (it has {', '.join(columns[:_NAMED])})"
        hint = "; it holds classes: give it another name" if name.lower() in CLASS_COLUMNS else hint
        raise ReverieError(f"categories: {where} models no column {name!r}{hint}")
    return columns.index(name)


def _mixed(raw: Raw, chosen: set[int]) -> Raw:
    """Return rows with codes in all columns that are of categories."""
    splits = {split: np.array(rows.x[:], np.float64) for split, rows in raw.splits.items()}
    categories, notes = list(raw.categories or [None] * raw.shape[0]), []
    for column, names in enumerate(categories):
        if names is None:
            values = np.unique(np.concatenate([x[:, column] for x in splits.values()]))
            values = values[~np.isnan(values)]
            if column not in chosen and len(values) != 2:
                notes += _could_be(label(column, raw.columns), values)
                notes += _counts_rows(label(column, raw.columns), values, sum(len(x) for x in splits.values()))
                continue
            categories[column] = tuple(map(written, values))
            for x in splits.values():
                there = ~np.isnan(x[:, column])
                x[there, column] = np.searchsorted(values, x[there, column])
        notes.append(
            _told(label(column, raw.columns), categories[column] or (), names is None and column not in chosen)
        )
    rows = {split: Rows(x, raw.splits[split].y) for split, x in splits.items()}
    return replace(raw, splits=rows, categories=tuple(categories), likelihood=LAW, notes=(*raw.notes, *notes))


def _told(which: str, names: Sequence[str], two: bool) -> str:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    many = "1 category" if len(names) == 1 else f"{len(names)} categories"
    return f"C{which[1:]}: {many} ({shown}){', two numbers' if two else ''}."


def _could_be(which: str, values: np.ndarray) -> list[str]:
    """Return what is said of a column of few whole numbers, which are taken as numbers."""
    if not 2 < len(values) <= _NAMED or (values != np.round(values)).any():
        return []
    name = which.removeprefix("column ").strip("'")
    return [
        f"C{which[1:]}: {len(values)} whole numbers, taken as numbers; --categories {name} takes them as categories."
    ]


def _counts_rows(which: str, values: np.ndarray, rows: int) -> list[str]:
    """Return what is said of a column of numbers that counts the rows."""
    if rows < 20 or len(values) != rows or not np.array_equal(values, values[0] + np.arange(rows)):
        return []
    name = shlex.quote(which.removeprefix("column ").strip("'"))
    return [
        f"C{which[1:]} counts the rows: if it is an identifier, it says nothing of others; --drop {name} leaves it out."
    ]


def recoded(
    x: Float[np.ndarray, "n D"], own: Categories | None, known: Categories | None, columns: Sequence[str] | None,
    where: str,
) -> Float[np.ndarray, "n D"]:  # fmt: skip
    """Return new rows of a table with the codes that its categories had in training.

    Args:
        x: rows as read, with codes where `own` names categories.
        own, known: names of the categories there, and in training; None where all columns hold numbers.
        where: what a message names.

    Raises:
        ReverieError: for text in a column of numbers, or a category that training did not have.
    """
    x = np.array(x, np.float64)
    for column in range(x.shape[1]):
        mine, theirs = (None if names is None else names[column] for names in (own, known))
        which = label(column, columns)
        if theirs is None and mine is not None:
            word = next(name for name in mine if not is_number(name))
            raise ReverieError(f"{where}: {which} holds text such as {word[:20]!r}, and numbers in training; mend it")
        if theirs is not None:
            there = ~np.isnan(x[:, column])
            x[there, column] = _codes(x[there, column], mine, theirs, np.flatnonzero(there), f"{where}: {which}")
    return x


def _codes(
    values: np.ndarray, mine: tuple[str, ...] | None, theirs: tuple[str, ...], rows: np.ndarray, where: str
) -> np.ndarray:
    """Return the codes of training of a column's values: codes of `mine`, or numbers where that is None."""
    by_name: Mapping[str, int] = {name: code for code, name in enumerate(theirs)}
    by_number = {float(name): code for name, code in by_name.items() if is_number(name)}
    found = np.empty(len(values))
    for i, value in enumerate(values):
        name = written(value) if mine is None else mine[int(value)]
        code = by_name.get(name, by_number.get(float(name)) if is_number(name) else None)
        if code is None:
            known = f" (it has {', '.join(theirs[:_NAMED])}{', ...' if len(theirs) > _NAMED else ''})"
            raise ReverieError(
                f"{where} has no category {name[:40]!r} in training, which row {rows[i] + 1} holds"
                f"{nearest(name, theirs)}{known}; mend that cell, or empty it"
            )
        found[i] = code
    return found


def named(x: Float[np.ndarray, "n D"], categories: Categories | None) -> np.ndarray:
    """Return rows as they stand in a file: names of categories in place of codes, NaN where a cell is missing."""
    if categories is None:
        return x
    found = np.asarray(x, np.float64).astype(object)
    for column, names in enumerate(categories):
        if names is not None:
            codes = np.asarray(x[:, column], np.float64)
            places = np.clip(np.rint(np.nan_to_num(codes)), 0, len(names) - 1).astype(int)
            found[:, column] = [
                names[place] if code == code else np.nan for code, place in zip(codes, places, strict=True)
            ]
    return found
