"""Published against ours: the claims of all models joined with the result files that were committed.

A result is ``results/<table>/<slug>.json``: the claim it answers, our certified number, and all that made it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reverie import settings as settings_floor
from reverie.data.named import catalogue
from reverie.errors import ReverieError, nearest
from reverie.estimate import Estimate
from reverie.evaluate.claims import NOTES, Claim, is_share
from reverie.files import write_making_folder

FORMAT = 1
#: Where the rows of no model are claimed.
OTHERS = "evaluate.modelless"
BUDGETS = ("smoke", "cpu", "paper")
#: What makes a claim the same claim; `published` too, so that a mended number is not met with an old result unseen.
IDENTITY = ("table", "row", "column", "data", "split_rule", "binarisation", "metric", "published")
_MADE = ("epochs", "steps", "seconds", "budget", "commit", "command", "hardware", "date")


def slug(claim: Claim) -> str:
    """Return a claim's file name within its table: row and column, in plain letters."""
    text = unicodedata.normalize("NFKD", f"{claim.row} {claim.column}").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def result_path(claim: Claim, results: str | Path = "results") -> Path:
    """Return where a claim's result lies."""
    return Path(results) / claim.table / f"{slug(claim)}.json"


def protocol(claim: Claim, evaluation: Mapping[str, Any] | None = None) -> str:
    """Return the protocol of a row in words: data, split, binarisation, estimator."""
    if is_share(claim.metric):
        return ", ".join(filter(None, (claim.data, claim.split_rule and f"split {claim.split_rule}")))
    how = {**claim.evaluation, **(evaluation or {})}
    estimator = "-".join(str(how[key]) for key in ("estimator", "samples") if key in how)
    rows = f"{how['rows']} rows" if "rows" in how else None
    # Likelihoods of rows binarised otherwise compare with none; windows see rows as they are.
    drawn = claim.binarisation or (None if claim.metric == "parzen" else "binarisation not stated")
    parts = [claim.data, claim.split_rule and f"split {claim.split_rule}", drawn, estimator, rows]
    return ", ".join(part for part in parts if part)


def missing(claim: Claim) -> str:
    """Return why a row without a result has none."""
    if claim.not_run:
        return f"not run: {claim.not_run}"
    return "not run" if runnable(claim) else "not run: the data are not at hand"


def runnable(claim: Claim) -> bool:
    """Say whether a row can be run here."""
    here = not claim.at_hand_only or any(entry.name == claim.data and entry.here for entry in catalogue())
    return claim.not_run is None and here


def write_result(
    results: str | Path,
    model: str | None,
    claim: Claim,
    ours: Estimate,
    *,
    beside: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: Iterable[int] = (),
    epochs: float = math.nan,
    steps: int | None = None,
    seconds: float | None = None,
    budget: str | None = None,
    commit: str | None = None,
    command: str | None = None,
    hardware: str | None = None,
    date: str | None = None,
    versions: Mapping[str, str] | None = None,
    protocol: str | None = None,
) -> Path:
    """Write our number for a claim, with all that made it, and return the file.

    Args:
        beside: our values of what the claim lists beside, such as active units.
        settings: of the recipe, all of them: a budget's differ from the paper's.
        seeds: of the runs that `ours` averages.
        epochs, steps: done, of which the claim says how many the paper did.
        seconds: that training took.
    """
    made = {
        "beside": dict(beside or {}),
        "settings": dict(settings or {}),
        "seeds": list(seeds),
        "epochs": epochs if math.isfinite(epochs) else None,
        "steps": steps,
        "seconds": seconds,
        "budget": budget,
        "commit": commit,
        "command": command,
        "hardware": hardware,
        "date": date,
        "versions": dict(versions or {}),
        "protocol": protocol,
    }
    record = {
        "format": FORMAT,
        "claim": {"model": model, **{name: getattr(claim, name) for name in IDENTITY}},
        "ours": ours.to_json(),
        "paper_epochs": claim.epochs,
        **made,
    }
    path = result_path(claim, results)
    write_making_folder(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def read_result(claim: Claim, results: str | Path = "results") -> dict[str, Any] | None:
    """Return a claim's result, None where there is none yet.

    Raises:
        ReverieError: when the file is damaged, newer, or answers another claim.
    """
    path = result_path(claim, results)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, answered, ours = record["format"], record["claim"], Estimate.from_json(record["ours"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ReverieError(
            f"{path}: no result file, or a damaged one; take it from the repository or delete it"
        ) from None
    if version > FORMAT:
        raise ReverieError(f"{path}: format {version} is newer than this reverie reads ({FORMAT}); update reverie")
    other = [name for name in IDENTITY if answered.get(name) != getattr(claim, name)]
    if other:
        raise ReverieError(f"{path}: answers another claim (its {', '.join(other)} differ); delete it and run it again")
    return {**record, "ours": ours}


def collect(
    claims: Iterable[tuple[str | None, Claim]], results: str | Path = "results", name: str | None = None
) -> list[dict[str, Any]]:
    """Return the rows of one table, or of all, in the order of the claims.

    Args:
        claims: (model, claim) pairs of all models, and of none (None).
        results: folder of the result files.
        name: of a table.

    Returns:
        A mapping a row: ``model`` (None of a row that no model makes), the claim's ``table``, ``row``, ``column``,
        ``published`` and ``source`` (None where no figure was read), ``kind``, ``metric``, ``better`` (``larger`` or
        ``smaller``), ``beside``, ``paper_epochs``, ``protocol`` and ``notes`` (footnotes by name); ``missing``, why it
        has no result, None where it has; and, None until it was run, ``ours`` (an Estimate's record), ``ours_beside``,
        ``seeds`` (how many), ``epochs``, ``steps``, ``seconds``, ``budget``, ``commit``, ``command``, ``hardware``,
        ``date``.

    Raises:
        ReverieError: for an unknown table, two claims that share a file, or a damaged result.
    """
    pairs = list(claims)
    tables = dict.fromkeys(claim.table for _, claim in pairs)
    if name is not None and name not in tables:
        raise ReverieError(f"table: {name!r} is not one of {', '.join(tables)}{nearest(name, tables)}")
    _require_distinct(pairs)
    return [_row(model, claim, read_result(claim, results)) for model, claim in pairs if name in (None, claim.table)]


def _require_distinct(pairs: list[tuple[str | None, Claim]]) -> None:
    seen: dict[Path, str] = {}
    for model, claim in pairs:
        path = result_path(claim)
        if path in seen:
            raise ReverieError(
                f"{model or OTHERS}: its claim {claim.row!r} ({claim.column}) shares the file {path} with one of "
                f"{seen[path]}; "
                "give the rows different names"
            )
        seen[path] = model or OTHERS


def _row(model: str | None, claim: Claim, result: Mapping[str, Any] | None) -> dict[str, Any]:
    made = result or {}
    ours = made.get("ours")
    row = {name: getattr(claim, name) for name in ("table", "row", "column", "published", "source", "kind", "metric")}
    known = {name: made.get(name) for name in _MADE}
    return {
        "model": model,
        **row,
        "better": "smaller" if is_share(claim.metric) else "larger",
        "missing": missing(claim) if result is None else None,
        "notes": {name: NOTES[name] for name in claim.notes},
        "beside": dict(claim.beside),
        "paper_epochs": claim.epochs,
        "protocol": made.get("protocol") or protocol(claim),
        "ours": None if ours is None else ours.to_json(),
        "ours_beside": made.get("beside"),
        "seeds": None if result is None else len(made.get("seeds") or ()) or None,
        **known,
    }


def is_done(claim: Claim, result: Mapping[str, Any] | None, budget: str | None = None) -> bool:
    """Say whether a result did what `claim`, taken on a budget, asks for.

    A result did the epochs, of which the last step may fall short of a whole one.  Where nothing learns by epochs the
    budget it was made on is as large.
    """
    if result is None:
        return False
    if claim.epochs is None:
        made = result.get("budget")
        return budget is None or (made in BUDGETS and BUDGETS.index(made) >= BUDGETS.index(budget))
    return (result.get("epochs") or 0.0) > 0.999 * claim.epochs - 1e-6


def with_budget(claim: Claim, budget: str) -> Claim:
    """Return the claim as a budget runs it: its settings, epochs, evaluation and binarisation overridden.

    Raises:
        ReverieError: for a budget that the claim does not know.
    """
    if budget not in claim.budgets and budget != "paper":
        names = [*claim.budgets] or ["paper"]
        raise ReverieError(f"budget: {budget!r} is not one of {', '.join(names)}{nearest(budget, names)}")
    changes = dict(claim.budgets.get(budget, {}))
    own = {name: changes.pop(name, getattr(claim, name)) for name in ("epochs", "evaluation", "binarisation")}
    return dataclasses.replace(claim, settings=settings_floor.merge(claim.settings, changes), **own)
