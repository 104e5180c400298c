"""Rows of tables that nobody trains: scikit-learn's methods, and Parzen windows around rows that no model made."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from reverie import asking, class_table
from reverie import data as data_floor
from reverie.estimate import Estimate
from reverie.evaluate import baselines, classification, parzen, tables
from reverie.evaluate.claims import Claim
from reverie.evaluate.rows import Watch
from reverie.progress import Progress, Quiet
from reverie.settings import to_json
from reverie.train.provenance import provenance
from reverie.train.signals import Stop


def made(asked: Claim, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Return what `write_result` is told of a row that no run makes.

    Raises:
        Interrupted: when asked to stop; rows of the table that are done are kept.
    """
    return (_windowed if asked.baseline in parzen.SANITY else _fitted)(asked, seed, progress)


def within(one: Mapping[str, Any]) -> Estimate:
    """Return the error of a method with its Wilson interval as `low` and `high`."""
    record: Estimate = one["test"]
    return dataclasses.replace(record, low=one["low"], high=one["high"])


def within_wilson(record: Estimate) -> Estimate:
    """Return a share of rows told wrongly with its Wilson interval as `low` and `high`."""
    low, high = classification.wilson(round(record.value * record.n), record.n)
    return dataclasses.replace(record, low=low, high=high)


def sizes_in_words(name: str, rule: str | None, sizes: Mapping[str, int], fitted: int) -> str:
    learnt = f"{fitted:,} of {sizes['train']:,}" if fitted < sizes["train"] else f"{fitted:,}"
    return f"{name}, split {rule}, {learnt} / {sizes['valid']:,} / {sizes['test']:,} rows"


def _fitted(asked: Claim, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Return a method of scikit-learn, fitted to the rows of the claim's protocol."""
    refit = bool(asked.evaluation.get("refit"))
    data = data_floor.load(asked.data, binarisation="means", split_rule=asked.split_rule, refit=refit)
    y, labels = np.asarray(data.labels("train")), asked.evaluation.get("labels")
    chosen = np.arange(len(y)) if labels is None else classification.balanced(y, labels, seed)
    name, hidden = str(asked.baseline), tuple(asked.settings.get("hidden", ()))
    with _watched(asked, baselines.PARTS, progress) as watch:
        rows = class_table.labelled_rows(data, chosen)
        problem = baselines.Problem(*rows, hidden, seed, None, watch, data.refit)
        found = baselines.run(name, problem)
    test = dataclasses.replace(within(found), data_hash=data.hash, binarisation=data.binarisation, seed=seed)
    facts = data.to_json()
    sizes = {split: data.size(split) for split in ("train", "valid", "test")}
    words = sizes_in_words(data.name, facts["split_rule"], sizes, found["fitted_rows"])
    return {
        "ours": test,
        "beside": {"chosen": found["chosen"]},
        "seconds": found["seconds"],
        "protocol": f"{words}, {facts['binarisation']}, {found['title']}: {found['chosen']}",
        **_same(asked, seed),
    }


def _windowed(asked: Claim, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Return Parzen windows around rows that no model made, under the claim's protocol."""
    data = data_floor.load(asked.data, binarisation=asked.binarisation, split_rule=asked.split_rule)
    samples, rows = int(asked.evaluation["samples"]), asked.evaluation.get("rows")
    begun, name = time.perf_counter(), str(asked.baseline)
    with _watched(asked, rows or data.size("test"), progress) as watch:
        (ours,) = parzen.sanity(data, samples=samples, rows=rows, seed=seed, names=(name,), watch=watch).values()
    facts, how = data.to_json(), {"estimator": ours.estimator, **({"rows": ours.n} if ours.rows_of else {})}
    words = dataclasses.replace(asked, split_rule=facts["split_rule"], binarisation=ours.binarisation, evaluation=how)
    return {
        "ours": ours,
        "seconds": round(time.perf_counter() - begun),
        "protocol": tables.protocol(words),
        **_same(asked, seed),
    }


@contextlib.contextmanager
def _watched(asked: Claim, work: float, progress: Progress | None) -> Iterator[Watch]:
    """Have a row's progress shown, and its making stopped when Ctrl-C or SIGTERM asks."""
    said = f"table: stopped at {asked.row} ({asked.column}); the rows done are kept, the same command goes on"
    with Stop() as stop, (progress or Quiet()).task(f"{asked.row} ({asked.column})", work) as shown:
        yield asking.until_stopped(shown, stop, said)


def _same(asked: Claim, seed: int) -> dict[str, Any]:
    """Return what every such row says of how it was made."""
    return {
        "settings": to_json({**asked.settings, **asked.evaluation}),
        "seeds": [seed],
        **provenance(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
