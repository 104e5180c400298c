"""`reverie table`: published numbers against ours, and the runs that make ours, resumable on any machine.

A row's run lives in ``runs/tables/<table>/<slug>-<budget>``; what it gave is written to
``results/<table>/<slug>.json``, which is committed.  Whatever stops on the way goes on where it was.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie import models
from reverie.errors import ReverieError, nearest
from reverie.evaluate import tables, tasks
from reverie.evaluate.claims import Claim
from reverie.progress import Progress
from reverie.run import Run, load, train
from reverie.training import differences, resolve

BUDGETS = ("smoke", "cpu", "paper")
_UNIT_ROWS = 1000


def results_folder() -> Path:
    """Return where result files live: $REVERIE_RESULTS, ./results, or those that came with the package."""
    own = Path(os.environ.get("REVERIE_RESULTS", "results"))
    shipped = Path(__file__).parent / "results"
    source = Path(__file__).parents[2] / "results"
    return next((folder for folder in (own, source, shipped) if folder.is_dir()), own)


def all_claims(name: str | None = None) -> list[tuple[str, Claim]]:
    """Return (model, claim) of every discovered model, of one table if `name` is given.

    Raises:
        ReverieError: for an unknown table.
    """
    claims = [(model, claim) for model in models.discover() for claim in models.load_module(model).CLAIMS]
    known = sorted({claim.table for _, claim in claims})
    if name is not None and name not in known:
        raise ReverieError(f"table: {name!r} is not one of {', '.join(known)}{nearest(name, known)}")
    return [(model, claim) for model, claim in claims if name in (None, claim.table)]


def collect(name: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of one table, or of all: published beside what the result files hold."""
    return tables.collect(all_claims(name), results_folder(), name)


def run_table(
    name: str | None = None,
    *,
    budget: str = "cpu",
    rows: str | None = None,
    column: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train and evaluate the rows whose result is missing (or of fewer epochs), one after the other.

    Args:
        name: of the table; None is all.
        budget: ``smoke`` (seconds, to see that it runs), ``cpu`` or ``paper`` (the paper's own settings).
        rows: pattern of row names, such as ``"VAE, 1*"``; None is all.
        column: such as ``mnist``; None is all.
        seed: of the runs.
        progress: where progress is shown.

    Returns:
        The rows of the table afterwards.
    """
    if budget not in BUDGETS:
        raise ReverieError(f"budget: {budget!r} is not one of {', '.join(BUDGETS)}{nearest(budget, BUDGETS)}")
    claims = all_claims(name)
    chosen = [(m, c) for m, c in claims if rows is None or fnmatch.fnmatchcase(c.row, rows)]
    chosen = [(m, c) for m, c in chosen if column is None or c.column == column]
    if not chosen:
        raise ReverieError(f"row: no row matches {rows!r}; rows are: {'; '.join(c.row for _, c in claims)}")
    for model, claim in chosen:
        asked = tables.with_budget(claim, budget)
        if not tables.is_done(asked, tables.read_result(claim, results_folder())):
            _make(model, claim, budget, seed, progress)
    return collect(name)


def _make(model: str, claim: Claim, budget: str, seed: int, progress: Progress | None) -> None:
    asked = tables.with_budget(claim, budget)
    folder = Path("runs/tables") / claim.table / f"{tables.slug(claim)}-{budget}"
    run = _trained(model, claim, folder, asked.settings, asked.epochs, seed, budget, progress)
    found = run.evaluate(progress=progress, **asked.evaluation)
    record = run.record
    tables.write_result(
        results_folder(),
        model,
        claim,
        found[claim.metric],
        beside=_beside(run, claim),
        settings=record["settings"],
        seeds=[record["seed"]],
        epochs=_epochs_done(run),
        steps=record["segments"][-1]["to_step"],
        seconds=round(sum(segment.get("seconds") or 0.0 for segment in record["segments"])),
        budget=budget,
        commit=record["commit"],
        command=f'reverie table {claim.table} --run --budget {budget} --row "{claim.row}*"',
        hardware=record["hardware"],
        date=record["segments"][-1]["started"][:10],
        versions=record["versions"],
        protocol=tables.protocol(claim, asked.evaluation),
    )


def _trained(
    model: str, claim: Claim, folder: Path, own: Mapping[str, Any], epochs: float, seed: int, budget: str,
    progress: Progress | None,
) -> Run:  # fmt: skip
    if (folder / "checkpoint.json").exists():
        run = load(folder)
        _require_same(run, own, epochs, seed)
        return run if run.record["status"] == "finished" else run.resume(progress=progress)
    origin = None
    if claim.init_from is not None:
        source = next(c for _, c in all_claims(claim.table) if c.row == claim.init_from and c.column == claim.column)
        origin = Path("runs/tables") / claim.table / f"{tables.slug(source)}-{budget}"
    made = train(
        model, claim.data, run=folder, seed=seed, epochs=epochs, split_rule=claim.split_rule,
        binarisation=claim.binarisation, init_from=origin, progress=progress, **own,
    )  # fmt: skip
    assert isinstance(made, Run)
    return made


def _require_same(run: Run, own: Mapping[str, Any], epochs: float, seed: int) -> None:
    """Refuse to call a run by a row's name that was made with other settings, an earlier version's for example."""
    asked = resolve(run.record["model"], own, epochs=epochs, seed=seed, rows=1)
    if differ := differences(run.record, asked):
        raise ReverieError(
            f"{run.path}: made with another {', '.join(differ)} than this row asks for; move it away or delete it"
        )


def _beside(run: Run, claim: Claim) -> dict[str, str]:
    found = {"parameters": f"{run.record['parameters']:,}"}
    if "active units" in claim.beside and hasattr(run.model, "posterior"):
        # On training rows with one draw, as the authors' code counts them.
        activity = tasks.activity(run.model, run.data.rows("train", 0, _UNIT_ROWS))
        found["active units"] = "+".join(str(n) for n in tasks.active(activity))
    return found


def _epochs_done(run: Run) -> float:
    plan = run.record["plan"]
    # Those of the main stage: what pretraining did is in the settings.
    before = sum(stage["steps"] for stage in plan.get("stages", ()) if not stage["main"])
    return float(run.record["segments"][-1]["to_step"] - before) / float(plan["steps_per_epoch"])
