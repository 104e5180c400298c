"""Data: a name, a path or arrays in, a `Dataset` out.

The names can be listed without importing JAX; it is imported when rows are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.errors import ReverieError, nearest

if TYPE_CHECKING:
    import numpy as np

    from reverie.data.dataset import Dataset
    from reverie.data.named import Entry

__all__ = ["catalogue", "entry", "load", "load_array"]


def catalogue() -> list[Entry]:
    """Return what `reverie data` lists: the data sets that have a name, each with `here`."""
    from reverie.data.named import catalogue as entries

    return entries()


def entry(name: str) -> Entry | None:
    """Return the data set that has this name, or is a task of other sizes (``copy:120``); None where there is none."""
    from reverie.data.named import entry as found

    return found(name)


def load(
    spec: Any,
    *,
    binarisation: str | None = None,
    likelihood: str | None = None,
    split_rule: str | None = None,
    seed: int = 0,
    refit: bool = False,
    categories: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
) -> Dataset:
    """Return a data set, ready to be trained on.

    Args:
        spec: a name of `catalogue`, a path (.csv, .npy, .npz, .amat or a folder of images), an array (n, D) or
            (n, height, width[, 3]), or a mapping with ``train``, ``valid`` and ``test`` arrays and classes
            ``train_labels`` ...; one that lacks is held out of ``train``.  Documents are word counts of
            ``scipy.sparse`` (.npz or a matrix), a folder of .txt files, a .txt file with one a line, or lists of texts.
            Sequences to be answered are a .jsonl or an .npz (`sequences`), a task such as ``copy`` or ``copy:120``, or
            a function that draws one from a ``numpy.random.Generator``; stories with questions a .txt or a .jsonl.
        binarisation: ``dynamic``, ``sampled-fixed``, ``threshold``, ``as-is``, or ``means`` (grey as it is, for what
            needs no likelihood); None for what suits.
        likelihood: ``bernoulli``, ``categorical``, ``gaussian``, ``counts``, ``mixed`` or, of running text, ``words``;
            None for what suits.
        split_rule: a named split of a named set; None for the default.
        seed: of the random split of own data.
        refit: the validation rows train, too: for settings that are chosen already.
        categories: names of columns of numbers that are categories (the law is then ``mixed``), and of columns of text
            that look like none and are all the same.
        drop: names of columns of a table in text to leave out (their numbers, from 1, where they have no names).

    Raises:
        ReverieError: one line that names the file or the argument, says what is wrong and what to do.
    """
    from reverie.data.build import Wish, assemble

    wish = Wish(binarisation, likelihood, split_rule, _seed(seed), refit, tuple(categories or ()), tuple(drop or ()))
    if isinstance(spec, str | Path):
        named = entry(spec) if isinstance(spec, str) else None
        if named is not None:
            return _named(named, wish)
        return _of_path(Path(spec).expanduser(), str(spec), tuple(known.name for known in catalogue()), wish)
    from reverie.data import own

    if wish.drop:
        own.refuse_drop("data")
    if callable(spec):
        from reverie.data import sequences

        return assemble(
            sequences.from_function(spec, wish.seed), _slug(getattr(spec, "__name__", "task")), "data", wish
        )
    if isinstance(spec, Mapping):
        return assemble(own.from_mapping(spec, "data"), "arrays", "data", wish)
    return assemble(own.from_array(spec, "data"), "array", "data", wish)


def load_array(path: str | Path) -> np.ndarray:
    """Return the numbers of a file as they lie there (masks, inputs): .npy, .npz of one array, .csv or an image."""
    from reverie.data.like import load_array as read

    return read(path)


def _named(entry: Entry, wish: Any) -> Dataset:
    from dataclasses import replace

    from reverie.data import build, describe, own
    from reverie.data.splits import check_rule

    if wish.drop:
        own.refuse_drop(entry.name)
    rule = check_rule(wish.split_rule, entry.rules, entry.name)
    if wish.binarisation is None and wish.likelihood in (None, "bernoulli"):
        wish = replace(wish, binarisation=entry.binarisation)
    raw, text = entry.raw(rule)
    raw = build.as_asked(raw, wish, entry.name)
    name = entry.name.replace(":", "-")
    if build.of_answers(raw):
        return build.answered(raw, name, entry.name, wish, rule, text)
    if wish.binarisation == "means" and entry.binarisation is not None:
        raw = replace(raw, likelihood="bernoulli")
    found = describe.understand([rows.x for rows in raw.splits.values()], entry.shape, raw.columns)
    # A rule may give a row twice; the default split gives every row once.
    found = replace(found, rows=sum(entry.rows))
    return build.settle(raw, entry.name, entry.name, wish, found, rule, text, entry.white)


def _of_path(path: Path, asked: str, names: tuple[str, ...], wish: Any) -> Dataset:
    from reverie.data import own, running
    from reverie.data.build import assemble

    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise ReverieError(f"data: no file or folder {asked}; check the path")
        raise ReverieError(
            f"data: {asked!r} is neither a name nor a path here{nearest(asked, names)} (names: {', '.join(names)})"
        )
    name = _slug(path.resolve().stem)
    if wish.likelihood != running.LAW:
        return assemble(own.read(path, wish.drop), name, asked, wish)
    if wish.drop:
        own.refuse_drop(asked)
    return assemble(running.read(path), name, asked, wish)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data"


def _seed(seed: Any) -> int:
    if not isinstance(seed, int) or seed < 0:
        raise ReverieError(f"seed: {seed!r} is not a seed; give a whole number from 0 up")
    return seed
