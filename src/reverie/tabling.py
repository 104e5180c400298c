"""`reverie table`: published numbers against ours, and the runs that make ours, resumable on any machine.

A row's run lives in ``runs/tables/<table>/<slug>-<budget>``; what it gave is written to
``results/<table>/<slug>.json``, which is committed.  Whatever stops on the way goes on where it was.

A row is judged by `evaluate`, or where its metric is a classification error, by `classify` of its stack; rows that
are baselines are made of the rows of their data, without a run (`baseline_rows`).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie import baseline_rows, classifying, models
from reverie.baseline_rows import sizes_in_words, within, within_wilson
from reverie.errors import ReverieError, nearest
from reverie.estimate import Estimate
from reverie.evaluate import modelless, parzen, tables, task, tasks
from reverie.evaluate.claims import Claim, is_share
from reverie.evaluate.tables import BUDGETS
from reverie.progress import Progress
from reverie.run import Run, load, train
from reverie.training import differences, resolve

_UNIT_ROWS = 1000
#: What stands beside a number that few would trust alone, where a claim asks for it.
_BESIDE, _BESIDE_SAMPLES, _BESIDE_ROWS = "importance", 200, 2000


def results_folder() -> Path:
    """Return where result files live: $REVERIE_RESULTS, ./results, or those that came with the package."""
    own = Path(os.environ.get("REVERIE_RESULTS", "results"))
    shipped = Path(__file__).parent / "results"
    source = Path(__file__).parents[2] / "results"
    return next((folder for folder in (own, source, shipped) if folder.is_dir()), own)


def all_claims(name: str | None = None) -> list[tuple[str | None, Claim]]:
    """Return (model, claim) of every discovered model, then the claims of none; of one table if `name` is given.

    Raises:
        ReverieError: for an unknown table.
    """
    claims: list[tuple[str | None, Claim]] = [
        (model, claim) for model in models.discover() for claim in models.load_module(model).CLAIMS
    ]
    claims += [(None, claim) for claim in modelless.CLAIMS]
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
        The rows of the table afterwards; those that cannot be run here say why.
    """
    if budget not in BUDGETS:
        raise ReverieError(f"budget: {budget!r} is not one of {', '.join(BUDGETS)}{nearest(budget, BUDGETS)}")
    claims = all_claims(name)
    chosen = [(m, c) for m, c in claims if rows is None or fnmatch.fnmatchcase(c.row, rows)]
    chosen = [(m, c) for m, c in chosen if column is None or c.column == column]
    if not chosen:
        raise ReverieError(f"row: no row matches {rows!r}; rows are: {'; '.join(c.row for _, c in claims)}")
    for model, claim in chosen:
        if not tables.runnable(claim):
            if progress is not None:
                progress.say(f"{claim.table}, {claim.row}, {claim.column}: {tables.missing(claim)}")
            continue
        # A mean costs nothing, and what it is of may have been run again.
        result = None if claim.mean_of else tables.read_result(claim, results_folder())
        if not tables.is_done(_asked(claim, budget), result, budget):
            _make(model, claim, budget, seed, progress)
    return collect(name)


def _asked(claim: Claim, budget: str) -> Claim:
    """Return the claim on a budget; of a row that judges another's run, with what that run is made with."""
    asked = tables.with_budget(claim, budget)
    if claim.run_of is None:
        return asked
    theirs = tables.with_budget(_owner(claim)[1], budget)
    names = ("data", "split_rule", "binarisation", "settings", "epochs")
    return dataclasses.replace(asked, **{name: getattr(theirs, name) for name in names})


def _owner(claim: Claim) -> tuple[str, Claim]:
    """Return the model and the claim whose run a row judges: its own, or another row's.

    Raises:
        ReverieError: for a row that there is not.
    """
    table, row, *rest = claim.run_of or (claim.table, claim.row)
    for model, other in all_claims(table):
        if model is not None and (other.row, other.column) == (row, *(rest or [claim.column])):
            return model, other
    raise ReverieError(f"{claim.table}, {claim.row}: judges {row} of {table}, which has no such row of {claim.column}")


def _folder(claim: Claim, budget: str) -> Path:
    return Path("runs/tables") / claim.table / f"{tables.slug(claim)}-{budget}"


def _make(model: str | None, claim: Claim, budget: str, seed: int, progress: Progress | None) -> None:
    asked = _asked(claim, budget)
    if claim.mean_of is not None:
        made = _mean(claim)
    elif claim.baseline:
        made = baseline_rows.made(asked, seed, progress)
    else:
        made = _judged(*_owner(claim), claim, asked, budget, seed, progress)
    tables.write_result(
        results_folder(), model, claim, **made, budget=budget,
        command=f'reverie table {claim.table} --run --budget {budget} --row "{claim.row}*"',
    )  # fmt: skip


def _judged(
    model: str, owner: Claim, claim: Claim, asked: Claim, budget: str, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Return what `write_result` is told of a row that a run makes: trained, then evaluated or classified."""
    run = _trained(model, owner, asked, _folder(owner, budget), seed, budget, progress)
    classes = claim.metric == "classification_error"
    ours, more = (_classified if classes else _evaluated)(run, asked, seed, progress)
    record = run.record
    seconds = sum(segment.get("seconds") or 0.0 for segment in record["segments"])
    return {
        "ours": ours,
        "beside": _beside(run, asked),
        "settings": {**record["settings"], **more.get("settings", {})},
        "seeds": [record["seed"]],
        "epochs": _epochs_done(run),
        "steps": record["segments"][-1]["to_step"],
        "seconds": round(seconds + more.get("seconds", 0.0)),
        "commit": record["commit"],
        "hardware": record["hardware"],
        "date": record["segments"][-1]["started"][:10],
        "versions": record["versions"],
        "protocol": more["protocol"],
    }


def _mean(claim: Claim) -> dict[str, Any]:
    """Return what `write_result` is told of a row that is the mean of others.

    Raises:
        ReverieError: naming those that are not there yet.
    """
    table, column = claim.mean_of or ("", "")
    others = [other for _, other in all_claims(table) if other.column == column and other.not_run is None]
    found = [(other.row, tables.read_result(other, results_folder())) for other in others]
    if lacking := [row for row, result in found if result is None]:
        raise ReverieError(
            f"{claim.table}, {claim.row}: needs {', '.join(lacking)}; first: "
            f'reverie table {table} --run --column "{column}"'
        )
    results = [result for _, result in found if result is not None]
    last = max(results, key=lambda result: result["date"])
    records = [result["ours"] for result in results]
    return {
        "ours": Estimate.mean_of(records), "protocol": f"mean of {len(records)} rows of table {table}, {column}",
        "seconds": sum(result["seconds"] or 0 for result in results),
        **{name: last[name] for name in ("settings", "seeds", "epochs", "commit", "hardware", "date", "versions")},
    }  # fmt: skip


def _evaluated(run: Run, asked: Claim, seed: int, progress: Progress | None) -> tuple[Estimate, dict[str, Any]]:
    """Return the certified number of a run under the row's protocol, and that in words."""
    # What was counted for one row of a table holds for the others of its run: nothing of it is drawn.
    known = run.folder.evaluations().get(f"test/{task.ESTIMATOR}", {}) if is_share(asked.metric) else {}
    if asked.metric in known:
        ours = Estimate.from_json(known[asked.metric])
    else:
        ours = run.evaluate(progress=progress, **asked.evaluation)[asked.metric]
    if is_share(asked.metric):
        return within_wilson(ours), {"protocol": tables.protocol(asked)}
    how = {"estimator": ours.estimator, **({"rows": ours.n} if ours.rows_of else {})}
    taken = _taken(run.record["data"])
    if asked.metric == parzen.NAME:
        # Windows see grey rows grey, whatever training saw.
        taken["binarisation"] = ours.binarisation
    words = tables.protocol(dataclasses.replace(asked, **taken, evaluation=how))
    return ours, {"protocol": words}


def _taken(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run's data were split and binarised, whoever chose it."""
    how = data["binarisation"]
    # Test rows of grey data are drawn once, whatever training saw.
    return {"split_rule": data["split_rule"], "binarisation": "dynamic (test rows drawn once)" if how == "dynamic"
            else how}  # fmt: skip


def _classified(run: Run, asked: Claim, seed: int, progress: Progress | None) -> tuple[Estimate, dict[str, Any]]:
    """Return the error of the run's stack as a classifier, in its Wilson interval, and how it was made."""
    found = classifying.classify(run, baselines="none", seed=seed, progress=progress, **asked.evaluation)
    (one,) = [one for one in found["results"] if one["method"] == f"fine-tuned/seed-{seed}"]
    net = load(one["run"])
    how, data = _taken(run.record["data"]), net.record["data"]
    rows = sizes_in_words(data["name"], how["split_rule"], found["rows"], one["fitted_rows"])
    words = f"{rows}, stack learnt from {how['binarisation']} rows, classifier from {data['binarisation']}"
    return within(one), {
        "protocol": words, "seconds": one["seconds"],
        "settings": {"classifier": {**net.record["settings"], "epochs": net.record["plan"]["epochs"]}},
    }  # fmt: skip


def _trained(
    model: str, claim: Claim, asked: Claim, folder: Path, seed: int, budget: str, progress: Progress | None
) -> Run:
    own, epochs = asked.settings, asked.epochs
    if epochs is None:
        raise ReverieError(f"{claim.table}, {claim.row}: its paper's epochs are not known; give --budget cpu")
    if (folder / "checkpoint.json").exists():
        run = load(folder)
        _require_same(run, own, epochs, seed)
        return run if run.record["status"] == "finished" else run.resume(progress=progress)
    origin = None
    if claim.init_from is not None:
        source = next(c for _, c in all_claims(claim.table) if c.row == claim.init_from and c.column == claim.column)
        origin = _folder(source, budget)
    made = train(
        model, asked.data, run=folder, seed=seed, epochs=epochs, split_rule=asked.split_rule,
        binarisation=asked.binarisation, init_from=origin, progress=progress, **own,
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
    if _BESIDE in claim.beside:
        rows = claim.evaluation.get("rows", _BESIDE_ROWS)
        record = run.evaluate(estimator=_BESIDE, samples=_BESIDE_SAMPLES, rows=rows)["log_likelihood"]
        found[_BESIDE] = f"{record.estimator} {record.value:.2f} ± {record.standard_error:.2f} ({record.n:,} rows)"
    return found


def _epochs_done(run: Run) -> float:
    plan = run.record["plan"]
    # Those of the main stage: what pretraining did is in the settings.
    before = sum(stage["steps"] for stage in plan.get("stages", ()) if not stage["main"])
    return float(run.record["segments"][-1]["to_step"] - before) / float(plan["steps_per_epoch"])
