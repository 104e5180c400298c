"""The verbs that use and judge a run; `reverie VERB --help` prints the docstrings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from reverie import class_answer, listing, outputs, progress, train_command
from reverie.console import WRONG, Answer, tell
from reverie.errors import Interrupted, ReverieError
from reverie.options import TABLES, Class, Device, Folder, Input, Minutes, OutRows, OutTable, Seed, load, written


def evaluate(
    folder: Folder,
    /,
    *,
    split: Annotated[Literal["train", "valid", "test"], Parameter(help="Which rows of the run's data.")] = "test",
    data: Annotated[Path | None, Parameter(metavar="FILE", help="Other rows, instead of a split.")] = None,
    estimator: Annotated[
        Literal["importance", "elbo", "ais", "exact", "parzen", "prior"] | None,
        Parameter(help="How [default: what suits the model]."),
    ] = None,
    samples: Annotated[
        int | None, Parameter(help="Draws (chains of ais) a row, windows, orderings [default: the estimator's].")
    ] = None,
    rows: Annotated[int | None, Parameter(help="So many rows, drawn at random [default: all].")] = None,
    minutes: Annotated[float | None, Parameter(help="Stop after so long; the same command goes on.")] = None,
    temperatures: Annotated[int | None, Parameter(help="Of ais [default: its own].")] = None,
    tolerance: Annotated[
        float | None, Parameter(help="Nats between the two sides of an energy's log Z that are close enough.")
    ] = None,
    variance: Annotated[
        float | None, Parameter(help="Of noise around what a model generates, by ais [default: of none, or chosen].")
    ] = None,
    sets: Annotated[int | None, Parameter(help="Generated sets of parzen, whose spread is told [1].")] = None,
    draws: Annotated[bool | None, Parameter(help="Windows of parzen around draws rather than means.")] = None,
    dequantise: Annotated[bool | None, Parameter(help="Grey levels of parzen spread over their width.")] = None,
    health: Annotated[
        bool, Parameter(help="Look at samples, too: copies, missing classes, collapse.", negative=())
    ] = False,
    strict: Annotated[bool, Parameter(help="Exit with status 1 where a number is marked UNRELIABLE.")] = False,
    seed: Seed = 0,
) -> Answer:
    """Say how good a model is: a certified log-likelihood, with its kind and its errors.

    A generator without a likelihood is judged by Parzen windows, which rank models badly, or by ais of its rows with
    noise.

    Example: reverie evaluate runs/vae-digits-1 --samples 1000
    """
    own = {"temperatures": temperatures, "tolerance": tolerance, "variance": variance, "sets": sets,
           "draws": draws or None, "dequantise": dequantise or None}  # fmt: skip
    more = {name: value for name, value in own.items() if value is not None}
    how = {"estimator": estimator, "samples": samples, "rows": rows, "minutes": minutes, "seed": seed, **more}
    run = load(folder)
    found = run.evaluate(split, data=data, progress=progress.for_stderr(), **how)
    doubted = any("UNRELIABLE" in (record.note or "") for record in found.values())
    shown = [f"{name} {record}" + (f"\n  {record.note}" if record.note else "") for name, record in found.items()]
    log_z = run.log_z()
    if log_z is not None:
        shown += log_z.lines()
    seen, refused = _looked(run, split, seed) if health else ({}, False)
    shown += [f"{finding['level']:7} {finding['text']}" for finding in seen.get("findings", ())]
    rest = {**({} if log_z is None else {"log_z": log_z}), **({"health": seen} if health else {})}
    return Answer({**found, **rest}, shown, status=WRONG if refused else int(strict and doubted))


def _looked(run: Any, split: str, seed: int) -> tuple[dict[str, Any], bool]:
    """Return the look at a run's samples and whether it was refused, in one line: that costs the numbers nothing."""
    try:
        return run.health(split, seed=seed), False
    except ReverieError as refused:
        tell(f"reverie: {refused}")
        return {"error": str(refused)}, True


def sample(
    folder: Folder,
    /,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"], help="How many.")] = 64,
    out: OutRows,
    seed: Seed = 0,
    class_: Class = None,
    mean: Annotated[bool, Parameter(help="The mean of each draw rather than the draw, smoother to look at.")] = False,
    sweeps: Annotated[int | None, Parameter(help="Of an energy's chain from its start to a draw [1000].")] = None,
    start: Annotated[
        Literal["base", "data"] | None, Parameter(help="Where an energy's chains begin [base]; data: the test rows.")
    ] = None,
    tempered: Annotated[
        int | None, Parameter(metavar="REPLICAS", help="So many temperatures of an energy that swap places.")
    ] = None,
    picture: Annotated[
        Path | None, Parameter(metavar="FILE.png", help="Chains over time: a row each, later sweeps to the right.")
    ] = None,
) -> Answer:
    """Draw new rows, in the file's own units and columns.

    Example: reverie sample runs/vae-digits-1 -n 64 --out samples.png
    """
    target, run = outputs.Target.check(out), load(folder)
    seen = None if picture is None else outputs.Target.check(picture, (".png",)).path
    chain = {"sweeps": sweeps, "start": start, "tempered": tempered, "picture": seen}
    chain = {name: value for name, value in chain.items() if value is not None}
    rows = run.sample(number, seed=seed, label=class_, mean=mean, progress=progress.for_stderr(), **chain)
    facts = run.facts
    path = target.write(rows, facts.columns, lambda: _limits(run), written=facts.named if mean else facts.filed)
    return written(path, rows=number, **({} if seen is None else {"picture": seen}))


def _limits(run: Any) -> tuple[float, float] | None:
    """Return which values are black and white in a picture of real values: those of the training rows."""
    from reverie import showing

    return showing.limits(run)


def impute(
    folder: Folder,
    /,
    *,
    input: Input,
    mask: Annotated[
        str, Parameter(metavar="FILE|RULE", help="1 where known; or nan, drop:0.6, rect:12, half.")
    ] = "nan",
    out: OutRows,
    iterations: Annotated[int, Parameter(help="How often the model decodes its own guess; an energy's sweeps.")] = 100,
    seed: Seed = 0,
    class_: Class = None,
    draw: Annotated[
        bool, Parameter(help="One draw of all missing cells together, not their means (orderless models).", negative=())
    ] = False,
) -> Answer:
    """Fill in what is missing; a .csv gets whole numbers in columns that held no others in training.

    A .png shows each row as it was known (what was not is amber), filled in and, where it is known, in truth; the first
    rows of a table as text.

    Example: reverie impute runs/vae-table-1 --input table.csv --mask nan --out filled.csv
    """
    target, run = outputs.Target.check(out, read=(input, mask)), load(folder)
    from reverie.completing import completed

    found = completed(run, input, mask, iterations=iterations, seed=seed, label=class_, draw=draw)
    looks, facts = found.looks(), run.facts

    def said(rows: Any) -> Any:
        return facts.filed(rows, found.given) if rows is found.rows else facts.named(rows)

    path = target.write(found.rows, facts.columns, lambda: _limits(run), looks, said)
    return Answer({"out": path, "rows": len(found.rows)}, [*target.said(looks), str(path)])


def reconstruct(
    folder: Folder,
    /,
    *,
    input: Input,
    out: OutRows,
    errors: Annotated[
        Path | None, Parameter(metavar="FILE", help="Each row's squared error too: .csv, .npy, .npz, by its ending.")
    ] = None,
    seed: Seed = 0,
    class_: Class = None,
) -> Answer:
    """Give back each row as the model sees it, without its noise; the worst given back are the odd ones out.

    A .png shows each row beside what is given back.

    Example: reverie reconstruct runs/autoencoder-digits-1 --input noisy.npy --out clean.png --errors errors.csv
    """
    target = outputs.Target.check(out, read=(input,))
    told = None if errors is None else outputs.Target.check(errors, TABLES, read=(input,))
    if errors is not None and errors.resolve() == out.resolve():
        raise ReverieError(f"errors: {errors} is where the rows go (--out); name another")
    run = load(folder)
    from reverie.asking import new_rows
    from reverie.data.like import titles
    from reverie.rebuilding import rebuilt

    rows = new_rows(run, input)
    found, squares = rebuilt(run, rows, seed=seed, label=class_)
    looks = {"given": rows.reshape(found.shape), "given back": found}
    path = target.write(found, run.facts.columns, lambda: _limits(run), looks)
    worst = (-squares).argsort(kind="stable")[:5].tolist()
    names = titles(input)
    said = f"worst (rows from 1): {outputs.ranked(worst, squares, '.4g', names)}"
    files = {"out": path}
    if told is not None:
        files["errors"] = outputs.write_told(told, squares, rows, ["squared_error"], names)
    return Answer(
        {**files, "rows": len(squares), "worst": [row + 1 for row in worst]},
        [said, *target.said(looks), *map(str, files.values())],
    )


def encode(
    folder: Folder, /, *, input: Input, out: OutTable, class_: Class = None
) -> Answer:  # fmt: skip
    """Give each row its code: the posterior means of the latent layers.

    A .csv has the row, its code and, of a folder, the name of its file, as `score` has.

    Example: reverie encode runs/vae-table-1 --input table.csv --out codes.npy
    """
    target, run = outputs.Target.check(out, TABLES, read=(input,)), load(folder)
    from reverie.asking import new_rows
    from reverie.data.like import titles

    rows = new_rows(run, input)
    codes = run.encode(rows, label=class_)
    names = [f"h{i}" for i in range(codes.shape[1])]
    return written(outputs.write_told(target, codes, rows, names, titles(input)), rows=len(codes))


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

    Of a table, nade, made and orderless-nade also say which columns make a row odd.

    Example: reverie score runs/vae-table-1 --input table.csv --out scores.csv
    """
    target, run = outputs.Target.check(out, TABLES, read=(input,)), load(folder)
    from reverie import blaming
    from reverie.asking import new_rows
    from reverie.data.like import titles
    from reverie.estimate import of_windows

    rows = new_rows(run, input)
    values, record = run.score(rows, samples=samples, seed=seed, progress=progress.for_stderr())
    name = "parzen" if of_windows(record.to_json()) else "log_likelihood"
    names = titles(input)
    blame, why = blaming.blame_or_why(run, rows)
    more = None if blame is None else blaming.told(run, rows, blame)
    path = outputs.write_told(target, values, rows, [name], names, more)
    # A row without a known cell has no score, NaN, which sorts last.
    lowest = [row for row in values.argsort(kind="stable")[:5].tolist() if values[row] == values[row]]
    said = [f"lowest (rows from 1): {outputs.ranked(lowest, values, '.2f', names)}"]
    found = {"out": path, "rows": len(values), name: record, "lowest": [row + 1 for row in lowest]}
    if blame is not None:
        found["anomalous"] = blaming.odd(run, rows, blame, (-blame.rows).argsort(kind="stable")[:5].tolist())
        said += blaming.lines(found["anomalous"], names)
    said += [why] if why else []
    return Answer(found, [f"mean {record}", *filter(None, [record.note]), *said, str(path)])


def memory(
    folder: Folder,
    /,
    *,
    data: Annotated[
        str | None, Parameter(metavar="NAME|FILE", help="Other sequences or questions [default: the test rows].")
    ] = None,
    seed: Seed = 0,
) -> Answer:
    """Look into a memory: which slots each class prefers, how they are used, what is lost without them.

    Of a machine that writes its memory (ntm): what it writes, where, and what it reads again at each step of the
    longest test sequence; of a memory network (memn2n): which sentences each hop reads.  Both are drawn in memory.png.

    Example: reverie memory runs/mem-vae-digits-1
    """
    run = load(folder)
    return listing.memory(run.memory(data=data, seed=seed, progress=progress.for_stderr()), run)


def classify(
    folder: Folder,
    /,
    *,
    data: Annotated[
        str | None, Parameter(metavar="NAME|FILE", help="Labelled rows of the same columns [default: the run's own].")
    ] = None,
    binarisation: Annotated[
        Literal["means", "dynamic", "threshold"],
        Parameter(help="Grey pixels as they are, drawn afresh at every visit (augmentation), or cut."),
    ] = "means",
    epochs: Annotated[float | None, Parameter(help="Of fine-tuning [default: 30, and 6,000 steps at least].")] = None,
    seed: Annotated[int | None, Parameter(help="Of the fine-tuning [default: 0].")] = None,
    seeds: Annotated[int | None, Parameter(help="Fine-tune so often; tell their mean and 95 % interval.")] = None,
    labels: Annotated[int | None, Parameter(help="Learn from so many labelled rows, as many of each class.")] = None,
    rate: Annotated[float | None, Parameter(help="Learning rate of Adam [default: 0.001].")] = None,
    dropout: Annotated[float | None, Parameter(help="Share of the features left out at a step [default: 0].")] = None,
    input_dropout: Annotated[float | None, Parameter(help="Share of the inputs left out [default: 0].")] = None,
    decay: Annotated[float | None, Parameter(help="Of the weights [default: 0].")] = None,
    from_scratch: Annotated[bool, Parameter(help="The same network from random weights: the control.")] = False,
    refit: Annotated[bool, Parameter(help="Learn from the validation rows, too, once all is chosen.")] = False,
    baselines: Annotated[
        str, Parameter(metavar="all|none|NAMES", help="Of logistic, knn, svm, mlp, features; commas between.")
    ] = "all",
    minutes: Minutes = None,
    device: Device = None,
) -> Answer:
    """Fine-tune the run's features to tell classes apart; test errors beside logistic regression, k-NN, SVM and a net.

    The network is a run of its own in DIR/classifier; the same command goes on where it was stopped.

    Example: reverie classify runs/dbm-digits-1 --baselines logistic,knn
    """
    if seed is not None and seeds is not None:
        raise ReverieError("--seed and --seeds: one says which seed, the other how many; give one of them")
    train_command.choose_device(device)
    own = {"rate": rate, "dropout": dropout, "input_dropout": input_dropout, "decay": decay}
    run, began = load(folder), time.monotonic()
    try:
        found = run.classify(
            data=data, binarisation=binarisation, epochs=epochs, seed=seed or 0, seeds=seeds, labels=labels,
            from_scratch=from_scratch, refit=refit, baselines=baselines, minutes=minutes, device=device,
            progress=progress.for_stderr(), **{name: value for name, value in own.items() if value is not None},
        )  # fmt: skip
    except Interrupted as stopped:
        if minutes is not None and time.monotonic() - began >= 60.0 * minutes:
            return train_command.out_of_time(stopped)
        raise
    nets = [load(Path(net)) for net in found["runs"] if str(run.path) not in found["runs"]]
    return class_answer.answer(found, folder, nets)


def report(folder: Folder, /, *, seed: Seed = 0) -> Answer:
    """Write one HTML page with numbers, curves and pictures, that opens without a network.

    Example: reverie report runs/vae-digits-1
    """
    return written(load(folder).report(seed=seed, progress=progress.for_stderr()))
