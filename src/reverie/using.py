"""The verbs that use and judge a run; `reverie VERB --help` prints the docstrings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from reverie import listing, outputs, progress
from reverie.console import Answer
from reverie.options import TABLES, Class, Folder, Input, OutRows, OutTable, Seed, load, written


def evaluate(
    folder: Folder,
    /,
    *,
    split: Annotated[Literal["train", "valid", "test"], Parameter(help="Which rows of the run's data.")] = "test",
    data: Annotated[Path | None, Parameter(metavar="FILE", help="Other rows, instead of a split.")] = None,
    estimator: Annotated[
        Literal["importance", "elbo", "ais", "exact"] | None, Parameter(help="How [default: what suits the model].")
    ] = None,
    samples: Annotated[int | None, Parameter(help="Draws (chains of ais) a row [default: the estimator's].")] = None,
    rows: Annotated[int | None, Parameter(help="So many rows, drawn at random [default: all].")] = None,
    minutes: Annotated[float | None, Parameter(help="Stop after so long; the same command goes on.")] = None,
    temperatures: Annotated[int | None, Parameter(help="Of ais [default: its own].")] = None,
    tolerance: Annotated[
        float | None, Parameter(help="Nats between the two sides of an energy's log Z that are close enough.")
    ] = None,
    strict: Annotated[bool, Parameter(help="Exit with status 1 where a number is marked UNRELIABLE.")] = False,
    seed: Seed = 0,
) -> Answer:
    """Say how good a model is: a certified log-likelihood, with its kind and its errors.

    Example: reverie evaluate runs/vae-digits-1 --samples 1000
    """
    own = {"temperatures": temperatures, "tolerance": tolerance}
    more = {name: value for name, value in own.items() if value is not None}
    how = {"estimator": estimator, "samples": samples, "rows": rows, "minutes": minutes, "seed": seed, **more}
    found = load(folder).evaluate(split, data=data, progress=progress.for_stderr(), **how)
    doubted = any("UNRELIABLE" in (record.note or "") for record in found.values())
    shown = [f"{name} {record}" + (f"\n  {record.note}" if record.note else "") for name, record in found.items()]
    return Answer(found, shown, status=int(strict and doubted))


def sample(
    folder: Folder,
    /,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"], help="How many.")] = 64,
    out: OutRows,
    seed: Seed = 0,
    class_: Class = None,
    mean: Annotated[bool, Parameter(help="The mean of each draw rather than the draw, smoother to look at.")] = False,
) -> Answer:
    """Draw new rows, in the file's own units and columns.

    Example: reverie sample runs/vae-digits-1 -n 64 --out samples.png
    """
    target, run = outputs.Target.check(out), load(folder)
    rows = run.sample(number, seed=seed, label=class_, mean=mean)
    path = target.write(rows, run.facts.columns, lambda: _limits(run))
    return written(path, rows=number)


def _limits(run: Any) -> tuple[float, float] | None:
    """Return which values are black and white in a picture of real values: those of the training rows."""
    from reverie import picturing

    return picturing.limits(run)


def impute(
    folder: Folder,
    /,
    *,
    input: Input,
    mask: Annotated[
        str, Parameter(metavar="FILE|RULE", help="1 where known; or nan, drop:0.6, rect:12, half.")
    ] = "nan",
    out: OutRows,
    iterations: Annotated[int, Parameter(help="How often the model decodes its own guess.")] = 100,
    seed: Seed = 0,
    class_: Class = None,
) -> Answer:
    """Fill in what is missing.

    Example: reverie impute runs/vae-table-1 --input table.csv --mask nan --out filled.csv
    """
    target, run = outputs.Target.check(out, read=(input, mask)), load(folder)
    filled = run.impute(input, mask, iterations=iterations, seed=seed, label=class_)
    return written(target.write(filled, run.facts.columns, lambda: _limits(run)), rows=len(filled))


def encode(
    folder: Folder, /, *, input: Input, out: OutTable, class_: Class = None
) -> Answer:  # fmt: skip
    """Give each row its code: the posterior means of the latent layers.

    Example: reverie encode runs/vae-table-1 --input table.csv --out codes.npy
    """
    target = outputs.Target.check(out, TABLES, read=(input,))
    codes = load(folder).encode(input, label=class_)
    return written(target.write(codes, [f"h{i}" for i in range(codes.shape[1])]), rows=len(codes))


def score(
    folder: Folder,
    /,
    *,
    input: Input,
    out: OutTable,
    samples: Annotated[int | None, Parameter(help="Draws a row [default: 1000].")] = None,
    seed: Seed = 0,
) -> Answer:
    """Give each row a certified log-likelihood: the lowest are the odd ones out.

    Example: reverie score runs/vae-table-1 --input table.csv --out scores.csv
    """
    target, run = outputs.Target.check(out, TABLES, read=(input,)), load(folder)
    from reverie.asking import new_rows

    rows = new_rows(run, input)
    values, record = run.score(rows, samples=samples, seed=seed, progress=progress.for_stderr())
    path = outputs.write_scores(target, values, rows)
    lowest = values.argsort(kind="stable")[:5].tolist()
    said = "lowest (rows from 0): " + ", ".join(f"row {row} ({values[row]:.2f})" for row in lowest)
    found = {"out": path, "rows": len(values), "log_likelihood": record, "lowest": lowest}
    return Answer(found, [f"mean {record}", said, str(path)])


def memory(folder: Folder, /, *, seed: Seed = 0) -> Answer:
    """Look into a memory: which slots each class prefers, how they are used, what is lost without them.

    Example: reverie memory runs/mem-vae-digits-1
    """
    run = load(folder)
    return listing.memory(run.memory(seed=seed, progress=progress.for_stderr()), run)


def report(folder: Folder, /, *, seed: Seed = 0) -> Answer:
    """Write one HTML page with numbers, curves and pictures, that opens without a network.

    Example: reverie report runs/vae-digits-1
    """
    return written(load(folder).report(seed=seed, progress=progress.for_stderr()))
