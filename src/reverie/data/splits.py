"""Splits: which rows train, which choose, which judge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from reverie.data.rows import Rows, take
from reverie.errors import ReverieError, nearest

#: Share of the rows held out for validation, and for the test.
HELD_OUT = 0.1
#: Rules for own data: seeded at random, or as the file brings them.
RANDOM, OWN = "random", "own"


def check_rule(rule: str | None, known: Mapping[str, object] | tuple[str, ...], name: str) -> str:
    """Return the rule asked for, or the first one.

    Raises:
        ReverieError: for a rule that `name` has not, with the nearest one that it has.
    """
    if rule is None:
        return next(iter(known))
    if rule not in known:
        raise ReverieError(f"split_rule: {name} has no {rule!r}{nearest(rule, known)} (it has {', '.join(known)})")
    return rule


def permutation(n: int, *seed: int) -> Int[np.ndarray, " n"]:
    """Return ``numpy.random.default_rng(seed).permutation(n)``, the one source of every seeded split."""
    return np.random.default_rng(seed[0] if len(seed) == 1 else list(seed)).permutation(n)


def cut(index: Int[np.ndarray, " n"], train: int, valid: int) -> dict[str, Int[np.ndarray, " m"]]:
    """Return the first `train` places of `index`, the next `valid`, and the rest, as train, valid and test."""
    return {"train": index[:train], "valid": index[train : train + valid], "test": index[train + valid :]}


def part(rows: Rows, index: Int[np.ndarray, " m"]) -> Rows:
    """Return some rows with their classes."""
    return Rows(take(rows.x, index), None if rows.y is None else rows.y[index])


def divide(
    splits: Mapping[str, Rows], seed: int, where: str, groups: Int[np.ndarray, " n"] | None = None
) -> tuple[dict[str, Rows], str, str]:
    """Split rows that come in one piece by a seed, 80/10/10; take what a file brings, and hold out what it lacks.

    Args:
        groups: of rows in one piece, numbers of what is not divided; about as many rows are held out then.

    Returns:
        train, valid and test; the name of the rule; a sentence that says what was done.

    Raises:
        ReverieError: for too few rows.
    """
    if "all" not in splits:
        return _complete(splits, seed, where)
    rows = splits["all"]
    n = len(rows.x)
    if n < 3:
        count = "one row" if n == 1 else f"{n} rows"
        raise ReverieError(f"{where}: has {count}; give at least three, one each to train, choose and test")
    held = max(1, round(HELD_OUT * n))
    places = cut(permutation(n, seed), n - 2 * held, held) if groups is None else _whole(groups, seed, where)
    sizes = " / ".join(f"{len(index):,}" for index in places.values())
    what = "rows" if groups is None else "questions, stories kept whole,"
    text = f"Split at random with seed {seed}: {sizes} {what} to train, choose and test."
    return {split: part(rows, index) for split, index in places.items()}, RANDOM, text


def _whole(groups: Int[np.ndarray, " n"], seed: int, where: str) -> dict[str, Int[np.ndarray, " m"]]:
    """Return train, valid and test rows, each group in one of them."""
    names = np.unique(groups)
    if len(names) < 3:
        raise ReverieError(
            f"{where}: has {len(names)} stories; give at least three, one each to train, choose and test"
        )
    held = max(1, round(HELD_OUT * len(names)))
    places = cut(names[permutation(len(names), seed)], len(names) - 2 * held, held)
    return {split: np.flatnonzero(np.isin(groups, some)) for split, some in places.items()}


def _complete(splits: Mapping[str, Rows], seed: int, where: str) -> tuple[dict[str, Rows], str, str]:
    done, lacking = dict(splits), [split for split in ("valid", "test") if split not in splits]
    n = len(done["train"].x)
    held = max(1, round(HELD_OUT * n))
    if n <= held * len(lacking):
        raise ReverieError(f"{where}: train has {n} rows, too few to hold out {' and '.join(lacking)}; give more rows")
    order = permutation(n, seed)
    for i, split in enumerate(lacking):
        done[split] = part(splits["train"], order[i * held : (i + 1) * held])
    if lacking:
        # What stays to train keeps the file's order: it is shuffled each epoch anyway.
        done["train"] = part(splits["train"], np.sort(order[len(lacking) * held :]))
    sizes = " / ".join(f"{len(done[split].x):,}" for split in ("train", "valid", "test"))
    more = f", {' and '.join(lacking)} held out of train with seed {seed}" if lacking else ""
    text = f"Split as the file brings it{more}: {sizes} rows to train, choose and test."
    return {split: done[split] for split in ("train", "valid", "test")}, OWN, text
