"""Which columns make a row odd: what `reverie score` tells of a table beside the likelihoods of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reverie.asking import new_rows
from reverie.data.describe import label
from reverie.errors import ReverieError, an
from reverie.evaluate import blame as blaming
from reverie.evaluate.blame import Blame
from reverie.evaluate.measure import view
from reverie.prob.abilities import Blames
from reverie.trained import Trained

#: Columns that are blamed, at most.
NAMED = 3


def able(run: Trained) -> bool:
    """Say whether the columns of the run's rows can be blamed: of a table, by a model that says cell by cell."""
    return isinstance(run.model, Blames) and len(run.facts.shape) == 1


def blame(run: Trained, x: Any) -> Blame:
    """Return how much each cell of a file or array of rows surprises beyond what its column usually does, in nats.

    Args:
        x: rows in the file's own units.

    Raises:
        ReverieError: for a model that does not say cells one by one, or rows of images.
    """
    if not able(run):
        raise ReverieError(
            f"blame: {an(run.record['model'])} of {run.facts.name} says no cells one by one; train a nade, made or "
            "orderless-nade on a table"
        )
    found = blaming.surprises(run.model, view(run.facts, new_rows(run, x)))
    return Blame(found - _usual(run))


def blame_or_why(run: Trained, x: Any) -> tuple[Blame | None, str]:
    """Return the same, or None and why not: nothing of models that cannot, a line where the run's data are gone."""
    if not able(run):
        return None, ""
    try:
        return blame(run, x), ""
    except ReverieError as error:
        return None, f"no columns are blamed, for want of the run's own rows: {error}"


def _usual(run: Trained) -> np.ndarray:
    """Return each column's usual surprise, computed once for the run's weights and kept."""
    weights = str(run.folder.weights)
    if "blame" in run.folder.array_names():
        kept = run.folder.load_arrays("blame")
        if str(kept["weights"]) == weights:
            return kept["usual"]
    found = blaming.usual(run.model, run.data)
    run.folder.save_arrays("blame", usual=found, weights=np.asarray(weights))
    return found


def told(run: Trained, rows: np.ndarray, found: Blame) -> dict[str, np.ndarray]:
    """Return the columns of a file of scores: each row's excess, and the columns to blame with their cells."""
    names, values = _names(run), run.facts.named(np.asarray(rows, np.float64))
    # Of a row without a known cell nothing surprises, and nothing does not.
    columns: dict[str, np.ndarray] = {"excess": np.where(np.isnan(found.cells).all(axis=1), np.nan, found.rows)}
    place = np.arange(len(rows))
    for rank, column in enumerate(found.columns.T[:NAMED], 1):
        own = found.cells[place, column]
        there = ~np.isnan(own)
        columns[f"blame_{rank}"] = np.where(there, np.asarray(names, object)[column], "")
        columns[f"blame_{rank}_value"] = np.where(there, values[place, column].astype(object), "")
        columns[f"blame_{rank}_excess"] = own
    return columns


def odd(run: Trained, rows: np.ndarray, found: Blame, order: Sequence[int]) -> list[dict[str, Any]]:
    """Return of some rows, numbered from 1, the columns to blame, those that surprise more than usual."""
    names, values = _names(run), run.facts.named(np.asarray(rows, np.float64))
    told = []
    for row in order:
        chosen = [c for c in found.columns[row][:NAMED].tolist() if found.cells[row, c] > 0]
        blamed = [{"column": names[c], "value": values[row, c], "excess": float(found.cells[row, c])} for c in chosen]
        told.append({"row": int(row) + 1, "excess": float(found.rows[row]), "blame": blamed})
    return told


def lines(told: Sequence[dict[str, Any]], titles: Sequence[str] = ()) -> list[str]:
    """Return the lines that tell odd rows."""
    said = ["most anomalous (rows from 1; nats of surprise beyond the usual, and the columns to blame):"]
    for one in told:
        why = ", ".join(f"{b['column']} = {_short(b['value'])} ({b['excess']:+.1f})" for b in one["blame"])
        title = f" {titles[one['row'] - 1]}" if titles else ""
        said.append(f"  row {one['row']}{title} ({one['excess']:+.1f}): {why or 'no single column'}")
    return said


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):.6g}"


def _names(run: Trained) -> list[str]:
    data = run.facts
    return [data.columns[c] if data.columns else label(c, None) for c in range(data.width)]
