"""Understanding rows: their range, what kind of values they hold, and the law and scale that suit them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from reverie.data.rows import pieces
from reverie.errors import ReverieError, nearest

LIKELIHOODS = ("bernoulli", "categorical", "gaussian", "counts", "mixed")
BINARISATIONS = ("dynamic", "sampled-fixed", "threshold", "as-is", "means")
#: Whole numbers with at most so many levels are taken as categories; at most so many can be.
FEW_LEVELS, MOST_LEVELS = 32, 256
#: Grey rows are drawings, not photographs, when so many of their cells are within a tenth of black or white.
DRAWN = 0.75
#: A tabular row with so many columns or more may be a picture laid out flat.
_FLAT_PICTURE = 49
#: A table of whole numbers with so many columns and so large a share of zeros may be one of counts.
_MANY, _SPARSE = 20, 0.5


@dataclass(frozen=True)
class Understanding:
    """What rows were found to be.

    Attributes:
        rows, columns: how many.
        low, high: range of all values.
        kind: ``binary`` (two values), ``grey`` (0..255, or 0..1), ``counts`` (whole numbers) or ``real``.
        ends: share of the cells within a tenth of the range's ends.
        zeros: share of the cells that are 0.
        missing: cells that are missing.
        lows, highs: range of each column (NaN where it has no value), shape (D,).
        integers: which columns hold whole numbers only, shape (D,).
    """

    rows: int
    columns: int
    low: float
    high: float
    kind: str
    ends: float
    zeros: float
    missing: int
    lows: Float[np.ndarray, " D"]
    highs: Float[np.ndarray, " D"]
    integers: Bool[np.ndarray, " D"]

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return bool(self.integers.all())

    @property
    def white(self) -> float:
        """The value that stands for 1 when these rows are grey means."""
        return 1.0 if self.high <= 1 else 255.0

    @property
    def constant(self) -> Bool[np.ndarray, " D"]:
        """Which columns have one value only."""
        return self.lows == self.highs

    @property
    def levels(self) -> int:
        """How many whole numbers the range spans."""
        return int(self.high - self.low) + 1


def understand(parts: Iterable[Any], shape: tuple[int, ...], names: Sequence[str] | None = None) -> Understanding:
    """Look at all rows, twice, a piece at a time.

    Args:
        parts: the rows of every split, each (n, D).
        shape: of one row; images of two or three axes are known to be images.
        names: of the columns, for the messages.

    Raises:
        ReverieError: for infinite values, a column or a table without any value, or rows that are all the same.
    """
    parts = tuple(parts)
    lows, highs, missing, integers = _ranges(parts, names)
    if np.isnan(lows).any():
        column = label(int(np.isnan(lows).argmax()), names)
        raise ReverieError(f"data: {column} has no value in any row; leave that column out")
    if (lows == highs).all():
        raise ReverieError("data: every row is the same, there is nothing to learn; give rows that differ")
    low, high = float(lows.min()), float(highs.max())
    two, ends, zeros = _ends(parts, low, high)
    found = (sum(len(x) for x in parts), len(lows), low, high)
    kind = "binary" if two else _kind(bool(integers.all()), lows, highs, shape)
    return Understanding(*found, kind, ends, zeros, missing, lows, highs, integers)


def label(column: int, names: Sequence[str] | None) -> str:
    """Return how a message names a column."""
    return f"column {names[column]!r}" if names else f"column {column + 1}"


def _ranges(parts: tuple[Any, ...], names: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    width = parts[0].shape[1]
    lows, highs = np.full(width, np.inf), np.full(width, -np.inf)
    missing, integers, row = 0, np.ones(width, bool), 0
    for x in parts:
        for piece in pieces(x):
            if piece.dtype.kind == "f":
                _finite(piece, row, names)
                missing += int(np.isnan(piece).sum())
                integers &= ~((np.fmod(piece, 1) != 0) & ~np.isnan(piece)).any(axis=0)
            # fmin and fmax pass over NaN without the warning that nanmin gives for an empty column.
            lows = np.fmin(lows, np.fmin.reduce(piece, axis=0).astype(np.float64))
            highs = np.fmax(highs, np.fmax.reduce(piece, axis=0).astype(np.float64))
            row += len(piece)
    empty = lows > highs
    return np.where(empty, np.nan, lows), np.where(empty, np.nan, highs), missing, integers


def _finite(piece: np.ndarray, first: int, names: Sequence[str] | None) -> None:
    bad = np.isinf(piece)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        where = f"row {first + row + 1}, {label(int(column), names)}"
        raise ReverieError(f"data: {where} is infinite; replace it by a number, or by NaN if it is missing")


def _ends(parts: tuple[Any, ...], low: float, high: float) -> tuple[bool, float, float]:
    """Return whether there are two values only, and the shares of cells by a tenth at the range's ends, and of 0."""
    two, near, zeros, seen = True, 0, 0, 0
    reach = (high - low) / 10
    for x in parts:
        for piece in pieces(x):
            known = ~np.isnan(piece) if piece.dtype.kind == "f" else np.ones((), bool)
            two = two and not (known & (piece != low) & (piece != high)).any()
            near += int((known & ((piece < low + reach) | (piece > high - reach))).sum())
            zeros += int((piece == 0).sum())
            seen += int(known.sum()) if known.ndim else piece.size
    return two, near / max(seen, 1), zeros / max(seen, 1)


def _kind(whole: bool, lows: np.ndarray, highs: np.ndarray, shape: tuple[int, ...]) -> str:
    low, high = lows.min(), highs.max()
    picture = len(shape) > 1
    flat = low == 0 and len(lows) >= _FLAT_PICTURE
    # A flat table is one of pixels when its columns share the range; heights and ages do not.
    if whole:
        pixels = high >= 200 and bool(np.mean(highs >= 128) > 0.5)
        grey = low >= 0 and high <= 255 and ((picture and high > FEW_LEVELS) or (flat and pixels))
        return "grey" if grey else "counts"
    shared = high == 1 and bool(np.mean(highs > 0.5) > 0.5)
    return "grey" if low >= 0 and high <= 1 and (picture or (flat and shared)) else "real"


@dataclass(frozen=True)
class Choice:
    """The law of the rows: its name, how grey becomes binary, model value = (stored - shift) / scale."""

    likelihood: str
    binarisation: str
    levels: int = 0
    shift: float | None = None
    scale: float | None = None
    why: str = ""


def choose(
    found: Understanding,
    likelihood: str | None = None,
    binarisation: str | None = None,
    white: float | None = None,
    usual: str | None = None,
) -> Choice:
    """Return the law that suits the rows, or the one that is asked for; shift and scale None: from training rows.

    `white` is the value that stands for 1 when rows are grey means, where that is known of them;
    `usual` is the law of rows of their kind, None where their values tell.

    Raises:
        ReverieError: for an unknown law or binarisation, or one that these rows cannot have.
    """
    for argument, value, known in (
        ("likelihood", likelihood, LIKELIHOODS),
        ("binarisation", binarisation, BINARISATIONS),
    ):
        if value is not None and value not in known:
            raise ReverieError(f"{argument}: {value!r} is not one of {', '.join(known)}{nearest(str(value), known)}")
    if binarisation == "means":
        suits = choose(found, likelihood, None, white, usual)
        return replace(suits, binarisation="means") if suits.binarisation == "dynamic" else suits
    asked = likelihood is not None
    why = "as asked" if asked else ""
    if likelihood is None:
        likelihood, why = _suits(found, binarisation, usual)
    if likelihood != "bernoulli" and binarisation not in (None, "as-is"):
        raise ReverieError(
            f"binarisation: {binarisation} makes rows binary, which a {likelihood} law does not want; "
            "leave out --likelihood, or give --binarisation as-is"
        )
    if likelihood == "categorical":
        return _categories(found, why)
    if likelihood == "counts":
        return Choice("counts", "as-is", 0, 0.0, 1.0, why)
    if likelihood in ("gaussian", "mixed"):
        return Choice(likelihood, "as-is", why=why)
    return _bernoulli(found, binarisation, why, white)


def _suits(found: Understanding, binarisation: str | None, usual: str | None) -> tuple[str, str]:
    if binarisation not in (None, "as-is"):
        return "bernoulli", "made binary"
    if usual is not None:
        whys = {"counts": "how often each word occurs", "mixed": "columns of numbers and of categories"}
        return usual, whys.get(usual, "pixels from black to white")
    if found.kind == "binary":
        return "bernoulli", "two values"
    if found.kind == "grey" and binarisation is None and found.ends >= DRAWN:
        return "bernoulli", f"{found.ends:.0%} of the pixels are nearly black or white"
    if found.kind == "counts" and found.levels <= FEW_LEVELS:
        return "categorical", f"whole numbers of {found.levels} levels"
    return "gaussian", "values between black and white" if found.kind == "grey" else "real numbers"


def _categories(found: Understanding, why: str) -> Choice:
    if not found.whole or found.levels > MOST_LEVELS:
        what = f"{found.levels:,} levels" if found.whole else "values between whole numbers"
        raise ReverieError(
            f"likelihood: categorical needs whole numbers of at most {MOST_LEVELS} levels, these rows have {what}; "
            "use gaussian"
        )
    return Choice("categorical", "as-is", found.levels, found.low, 1.0, why)


def _bernoulli(found: Understanding, binarisation: str | None, why: str, white: float | None) -> Choice:
    if found.kind == "binary":
        # In single precision, as the rows are stored, so that the larger value becomes exactly 1.
        scale = float(np.float32(found.high) - np.float32(found.low))
        return Choice("bernoulli", binarisation or "as-is", 0, found.low, scale, why)
    if found.low < 0:
        raise ReverieError(
            f"likelihood: bernoulli needs values from 0 up, the smallest here is {found.low:g}; use gaussian"
        )
    if found.high > 1 and not (found.whole and found.high <= 255):
        raise ReverieError(
            f"likelihood: bernoulli needs values in 0..1 or whole numbers in 0..255, the largest here is "
            f"{found.high:g}; use gaussian"
        )
    if binarisation == "as-is":
        raise ReverieError(
            "binarisation: rows that are not binary have no likelihood under a bernoulli law as they are; "
            "use dynamic, sampled-fixed or threshold, or --likelihood gaussian"
        )
    scale = white or (found.white if found.kind == "grey" or found.high <= 1 else found.high)
    return Choice("bernoulli", binarisation or "dynamic", 0, 0.0, scale, why)


def may_be_counts(found: Understanding, shape: tuple[int, ...]) -> bool:
    """Say whether a table looks like one of counts: wide, of whole numbers, mostly zeros."""
    wide = len(shape) == 1 and found.columns >= _MANY
    return wide and found.kind == "counts" and found.low == 0 and not found.missing and found.zeros >= _SPARSE


def sentences(
    found: Understanding, shape: tuple[int, ...], names: Sequence[str] | None = None, values: bool = True
) -> list[str]:
    """Return what was understood, a sentence each; of `values` nothing where they are codes of categories, too."""
    if len(shape) == 1:
        what = f"{shape[0]:,} column{'s' if shape[0] > 1 else ''}"
    else:
        what = f"images of {shape[0]} x {shape[1]}{' in colour' if len(shape) == 3 else ''}"
    text = {
        "binary": "binary",
        "grey": "levels of red, green and blue" if len(shape) == 3 else "grey values",
        "counts": "whole numbers",
        "real": "real numbers",
    }[found.kind]
    notes = [f"{found.rows:,} rows, {what}."]
    notes += [f"Values from {found.low:g} to {found.high:g}: {text}."] if values else []
    if found.missing:
        share = found.missing / (found.rows * found.columns)
        notes.append(f"{found.missing:,} cells are missing ({share:.1%}); they are left out of the likelihood.")
    constant = np.flatnonzero(found.constant)
    if len(constant):
        which = ", ".join(label(int(c), names).removeprefix("column ") for c in constant[:5])
        more = f" and {len(constant) - 5:,} more" if len(constant) > 5 else ""
        notes.append(f"{len(constant):,} of {found.columns:,} columns never change ({which}{more}).")
    return notes
