"""From rows as they were read to a `Dataset`: law, scale, split, notes and hash."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from reverie.data import categories, counts, describe, running, sequences, stories
from reverie.data.dataset import Dataset
from reverie.data.describe import Choice, Understanding
from reverie.data.rows import Raw, Rows, hash_rows, narrow, pieces
from reverie.data.splits import OWN, RANDOM, check_rule, divide
from reverie.errors import ReverieError

#: What happens to a column that never changes, and how many are named.
_GIVEN_BACK, _NAMED = "left out of the likelihood, given back as it is", 5
#: A column rounded to single precision by more than this share of its spread is refused.
_ROUGH = 0.01


@dataclass(frozen=True)
class Wish:
    """What was asked for, None where it is left to the rows."""

    binarisation: str | None = None
    likelihood: str | None = None
    split_rule: str | None = None
    seed: int = 0
    refit: bool = False
    categories: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


def assemble(raw: Raw, name: str, source: str, wish: Wish) -> Dataset:
    """Return the data set of a person's own rows: looked at, split, given a law and a scale.

    Raises:
        ReverieError: one line that names the file, what is wrong and what to do.
    """
    check_rule(wish.split_rule, (RANDOM,) if "all" in raw.splits else (OWN,), source)
    try:
        raw = as_asked(raw, wish, source)
        splits, rule, text = divide(raw.splits, wish.seed, source, raw.groups)
        if of_answers(raw):
            return answered(replace(raw, splits=splits), name, source, wish, rule, text)
        found = describe.understand((rows.x for rows in raw.splits.values()), raw.shape, raw.columns)
        return settle(replace(raw, splits=splits), name, source, wish, found, rule, text)
    except ReverieError as error:
        # What looks at rows does not know where they come from.
        raise ReverieError(re.sub("^data:", f"{source}:", str(error))) from None


def as_asked(raw: Raw, wish: Wish, source: str) -> Raw:
    """Return rows fit for the law that is asked of them: counts that are counts, columns of numbers or categories."""
    if of_answers(raw) and not wish.categories:
        return raw
    raw = counts.as_asked(raw, wish.likelihood, wish.binarisation, source)
    return categories.as_asked(raw, wish.likelihood, wish.categories, wish.binarisation, source)


def settle(
    raw: Raw, name: str, source: str, wish: Wish, found: Understanding, rule: str, text: str, white: float | None = None
) -> Dataset:
    """Return the data set of rows in their splits, of which `found` is known."""
    choice = describe.choose(found, wish.likelihood, wish.binarisation, white, raw.likelihood)
    dtype = narrow(found.low, found.high, found.whole, bool(found.missing))
    splits = {split: Rows(rows.x.astype(dtype, copy=False), rows.y) for split, rows in raw.splits.items()}
    shape = raw.shape if choice.likelihood in (counts.LAW, categories.LAW) else _picture(raw, found)
    choice = _scaled(choice, found, splits["train"].x, shape, source, raw)
    law = [*_law(choice, found), *_left_out(choice, found, shape, raw)]
    if choice.likelihood == counts.LAW:
        law.append(counts.lengths(splits))
    elif choice.likelihood != categories.LAW and describe.may_be_counts(found, shape):
        law.append("Whole numbers, mostly zeros: if they are counts, as of words, --likelihood counts takes them so.")
    understood = describe.sentences(found, shape, raw.columns, choice.likelihood != categories.LAW)
    notes = [*understood, *raw.notes, *law, text]
    if raw.class_names:
        notes.append(f"{len(raw.class_names):,} classes: {_few(raw.class_names)}.")
    if shape != raw.shape:
        notes.append(f"Rows of {raw.shape[0]:,} pixels are shown as images of {shape[0]} x {shape[1]}.")
    raw = replace(raw, splits=splits, shape=shape, notes=tuple(notes))
    made = _dataset(raw, name, source, choice, rule, whole=not found.missing)
    made = replace(made, integers=found.integers if len(shape) == 1 else False)
    return made.joined() if wish.refit else made


def of_answers(raw: Raw) -> bool:
    """Say whether rows are to be answered: sequences, stories or running text, whose law is that of the answers."""
    return raw.likelihood in (sequences.LAW, stories.LAW, running.LAW)


def answered(raw: Raw, name: str, source: str, wish: Wish, rule: str, text: str) -> Dataset:
    """Return the data set of rows to be answered, in their splits: nothing of their law is to choose."""
    of_stories = raw.likelihood != sequences.LAW
    what = "stories, whose answers are words" if of_stories else "sequences, whose answers are bits"
    for argument, asked in (("likelihood", wish.likelihood), ("binarisation", wish.binarisation)):
        if asked not in (None, "means", raw.likelihood):
            raise ReverieError(f"{argument}: {source} has {what}; leave it out")
    splits, what = (_stories if of_stories else _sequences)(raw, source)
    made = Dataset(
        name=name, source=source, splits=splits, shape=raw.shape, likelihood=raw.likelihood,  # type: ignore[arg-type]
        binarisation="as-is", hash=hash_rows(splits, (raw.class_names,) if of_stories else None),
        class_names=raw.class_names, missing=not of_stories, split_rule=rule, inputs=raw.inputs,
        notes=(what, *raw.notes, text),
    )  # fmt: skip
    return made.joined() if wish.refit else made


def _sequences(raw: Raw, source: str) -> tuple[dict[str, Rows], str]:
    splits = {split: Rows(np.ascontiguousarray(rows.x, np.float32)) for split, rows in raw.splits.items()}
    for split, rows in splits.items():
        sequences.check(rows.x.reshape(len(rows.x), *raw.shape), raw.inputs, f"{source}: {split}")
    steps, channels = raw.shape
    what = f"{sum(len(rows.x) for rows in splits.values()):,} sequences of up to {steps:,} steps: "
    return splits, what + f"{raw.inputs} heard, {channels - raw.inputs} answered at each step."


def _stories(raw: Raw, source: str) -> tuple[dict[str, Rows], str]:
    splits = dict(raw.splits)
    stories.check(splits, source)
    if raw.likelihood == running.LAW:
        words = sum(len(rows.x) for rows in splits.values())
        return splits, f"{words:,} words of running text, a vocabulary of {len(raw.class_names or ()):,}."
    what = f"{sum(len(rows.x) for rows in splits.values()):,} questions about stories of up to {raw.shape[0] - 1} "
    return splits, what + f"sentences, {raw.shape[1]} words each; a vocabulary of {len(raw.class_names or ()):,} words."


def _dataset(raw: Raw, name: str, source: str, choice: Choice, rule: str, *, whole: bool) -> Dataset:
    """Return the data set of split rows whose law and scale are settled."""
    made = Dataset(
        name=name,
        source=source,
        splits=dict(raw.splits),
        shape=raw.shape,
        likelihood=choice.likelihood,  # type: ignore[arg-type]
        binarisation=choice.binarisation,  # type: ignore[arg-type]
        hash="",
        levels=choice.levels,
        shift=0.0 if choice.shift is None else choice.shift,
        scale=1.0 if choice.scale is None else choice.scale,
        columns=raw.columns,
        dropped=raw.dropped,
        class_names=raw.class_names,
        missing=not whole or bool((np.asarray(choice.scale) == 0).any()),
        whole=whole,
        categories=raw.categories if choice.likelihood == categories.LAW else None,
        split_rule=rule,
        notes=raw.notes,
    )
    if choice.binarisation == "sampled-fixed":
        made = replace(made, splits=_drawn_once(made))
    return replace(made, hash=hash_rows(made.splits, made.categories))


def _drawn_once(made: Dataset) -> dict[str, Rows]:
    """Return every row binarised once: stored at the two ends of its range, so that its units stay the file's."""
    if not made.resident:
        raise ReverieError(
            f"{made.source}: sampled-fixed keeps its draws in memory and these rows are read from disk; "
            "use dynamic, or raise REVERIE_RESIDENT_BYTES"
        )
    splits = {}
    for split, (x, y) in made.splits.items():
        fixed = np.empty_like(x)
        for start in range(0, len(x), 10_000):
            rows = made.rows(split, start, start + 10_000)
            fixed[start : start + 10_000] = made.restore(rows).astype(x.dtype)
        splits[split] = Rows(fixed, y)
    return splits


def _scaled(choice: Choice, found: Understanding, train: Any, shape: tuple[int, ...], source: str, raw: Raw) -> Choice:
    """Return the choice with the shift and scale of the training rows where it leaves them open (gaussian, mixed)."""
    if choice.scale is not None:
        return choice
    mean, deviation = _moments(train)
    if len(shape) > 1:
        # One scale for all pixels keeps what is brighter brighter; the border of a picture may be constant.
        total = math.sqrt(float(np.mean(deviation**2 + (mean - mean.mean()) ** 2)))
        return replace(choice, shift=float(mean.mean()), scale=total or 1.0)
    codes = np.asarray([names is not None for names in raw.categories or [None] * len(mean)])
    # A category's code is what a model sees of it; one category alone is a column that never changes.
    mean, deviation = np.where(codes, 0.0, mean), np.where(codes, ~found.constant, deviation)
    _refuse_rounding(found, np.where(codes, np.inf, deviation), source, raw.columns)
    if not deviation.any():
        return replace(choice, shift=mean, scale=np.ones_like(mean))  # type: ignore[arg-type]
    # The value as it was given: single precision would make 0.10000000149 of 0.1.
    return replace(choice, shift=np.where(found.constant, found.lows, mean), scale=deviation)  # type: ignore[arg-type]


def _moments(x: Any) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Return mean and standard deviation of each column, missing cells left out; (0, 0) for one without a value."""
    seen, total = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for piece in pieces(x):
        total += np.nansum(piece, axis=0, dtype=np.float64)
        seen += (~np.isnan(piece)).sum(axis=0)
    mean = total / np.maximum(seen, 1)
    squares = np.zeros(x.shape[1])
    for piece in pieces(x):
        squares += np.nansum((piece - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(seen, 1))


def _refuse_rounding(found: Understanding, deviation: np.ndarray, source: str, names: Any) -> None:
    largest = np.maximum(np.abs(found.lows), np.abs(found.highs))
    # A column that only the training rows never change is judged by the others.
    spread = np.where(deviation > 0, deviation, found.highs - found.lows)
    rough = np.where(found.constant, 0.0, largest * 2.0**-24 / np.maximum(spread, 1e-300)) > _ROUGH
    if rough.any():
        column = int(rough.argmax())
        raise ReverieError(
            f"{source}: {describe.label(column, names)} varies too little around {found.lows[column]:.6g} for single "
            "precision; subtract a constant from it, or --drop it"
        )


def _law(choice: Choice, found: Understanding) -> list[str]:
    text = f"Law: {choice.likelihood} ({choice.why})"
    if choice.likelihood == "bernoulli":
        how = {
            "dynamic": "each pixel drawn afresh at every visit",
            "sampled-fixed": "each pixel drawn once",
            "threshold": "cut at one half",
            "as-is": "as they are",
            "means": "grey as it is, which has no likelihood",
        }
        notes = [f"{text}; binarisation: {choice.binarisation}, {how[choice.binarisation]}."]
        if choice.scale not in (1.0, 255.0) and found.kind not in ("binary",):
            notes.append(f"Values are divided by the largest, {choice.scale:g}.")
        return notes
    notes = [f"{text}."]
    if choice.likelihood == "gaussian" and found.whole:
        notes.append("Whole numbers under a gaussian law: likelihoods are densities, not probabilities.")
    return notes


def _value(choice: Choice, raw: Raw, column: int) -> str:
    """Return how the value of a column that never changes is written."""
    names = None if raw.categories is None else raw.categories[column]
    return f"{np.asarray(choice.shift)[column]:g}" if names is None else names[0]


def _left_out(choice: Choice, found: Understanding, shape: tuple[int, ...], raw: Raw) -> list[str]:
    """Return what becomes of columns that never change under a gaussian law."""
    left = np.flatnonzero(np.asarray(choice.scale) == 0)
    if not len(left) and choice.likelihood == "gaussian" and found.constant.any():
        what = "A column" if len(shape) == 1 else "A pixel"
        return [
            f"{what} that never changes has no density: its share of the likelihood grows as a model narrows on it, "
            "so compare only models of the same rows, or leave it out."
        ]
    notes = []
    for column in left[:_NAMED]:
        where = "" if found.constant[column] else " in the training rows"
        value = f"{_value(choice, raw, int(column))}{where}"
        which = describe.label(int(column), raw.columns).replace("column", "Column", 1)
        notes.append(f"{which} is always {value}: {_GIVEN_BACK}.")
    if len(left) > _NAMED:
        notes.append(f"{len(left) - _NAMED:,} more columns never change: {_GIVEN_BACK}.")
    return notes


def _picture(raw: Raw, found: Understanding) -> tuple[int, ...]:
    """Return the shape of a row as a person sees it: a flat row of grey pixels is square if it can be."""
    width = found.columns
    side = math.isqrt(width)
    numbered = raw.columns is None or all(name[-1:].isdigit() for name in raw.columns)
    square = len(raw.shape) == 1 and found.kind == "grey" and side * side == width and numbered
    return (side, side) if square else raw.shape


def _few(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
