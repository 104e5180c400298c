"""The verbs that look around, train, compare and share; `reverie VERB --help` prints the docstrings."""

from __future__ import annotations

import fnmatch
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from reverie import listing, outputs, progress, train_command
from reverie.console import Answer, Wide
from reverie.errors import ReverieError, nearest
from reverie.options import Device, Folder, Minutes, Model, OutWeights, load, written

#: As `train` takes it, and `data`, so that one sees what training would.
Likelihood = Annotated[
    Literal["bernoulli", "categorical", "gaussian", "counts", "mixed", "words"] | None,
    Parameter(help="Law of the rows [default: what suits the data]; words: running text, word by word."),
]
Categories = Annotated[
    str | None,
    Parameter(metavar="NAMES", help="Columns of numbers that are categories, commas between [default: those of text]."),
]
Drop = Annotated[str | None, Parameter(metavar="NAMES", help="Columns to leave out of a table, commas between.")]


def demo(
    *, out: Annotated[Path, Parameter(metavar="DIR", help="Folder of its runs and its page.")] = Path("runs/demo")
) -> Answer:
    """Train a VAE and a VAE with a memory on handwritten digits, and compare them: a minute and a half.

    Example: reverie demo
    """
    from reverie.demo import demo as show

    found = show(out, progress=progress.for_stderr())
    numbers = [f"{name:8} test log-likelihood {record}" for name, record in found["log_likelihood"].items()]
    return Answer(found, [*numbers, *listing.differences(found["difference"]), f"report: {found['report']}"])


def models() -> Answer:
    """List what can be trained: family, capabilities, paper.

    Example: reverie models
    """
    return listing.list_models()


def data(
    source: Annotated[str | None, Parameter(name="NAME", help="A name or a file: say what it is.")] = None,
    /,
    *,
    likelihood: Likelihood = None,
    categories: Categories = None,
    drop: Drop = None,
) -> Answer:
    """List the data sets that have a name and how to bring your own; or say what is understood of one.

    Example: reverie data table.csv
    """
    for option, value in (("likelihood", likelihood), ("categories", categories), ("drop", drop)):
        if source is None and value is not None:
            raise ReverieError(f"{option}: {value} of what? name it: reverie data FILE --{option} {value}")
    if source is None:
        return listing.list_data()
    return listing.understood(source, likelihood=likelihood, categories=_names(categories), drop=_names(drop))


def _names(listed: str | None) -> tuple[str, ...] | None:
    return None if listed is None else tuple(name.strip() for name in listed.split(",") if name.strip())


def runs(
    *folders: Annotated[Path, Parameter(name="DIR", help="Runs, or folders of them [default: runs, and this one].")],
) -> Answer:
    """List the runs here or in other folders: model, data, progress, status and test number.

    Example: reverie runs
    """
    return listing.list_runs(folders)


def train(
    model: Model,
    /,
    *,
    data: Annotated[
        str, Parameter(metavar="NAME|FILE", help="A name of `reverie data`, a file, a folder of images or texts.")
    ],
    task: Annotated[
        str | None, Parameter(metavar="N|N-M", help="Of a set of tasks, such as babi [default: all].")
    ] = None,
    run: Annotated[Path | None, Parameter(metavar="DIR", help="Run folder [default: runs/<model>-<data>-<n>].")] = None,
    seed: Annotated[int | None, Parameter(help="Of everything random in the run [default: 0].")] = None,
    seeds: Annotated[int | None, Parameter(help="Train so many runs; tell their mean and 95 % interval.")] = None,
    epochs: Annotated[
        float | None, Parameter(help="How long, in passes over the rows [default: the preset's].")
    ] = None,
    steps: Annotated[int | None, Parameter(help="How long, in steps.")] = None,
    minutes: Minutes = None,
    config: Annotated[Path | None, Parameter(metavar="FILE.toml", help="Settings; they go over presets.")] = None,
    preset: Annotated[
        list[str] | None, Parameter(metavar="NAME", help="Preset of the model; the last one wins.")
    ] = None,
    device: Device = None,
    init_from: Annotated[Path | None, Parameter(metavar="DIR", help="Go on from another run's weights.")] = None,
    binarisation: Annotated[
        Literal["dynamic", "sampled-fixed", "threshold", "as-is", "means"] | None,
        Parameter(help="How grey becomes binary; means: not at all, for classifiers [default: what suits]."),
    ] = None,
    split_rule: Annotated[str | None, Parameter(metavar="NAME", help="A named split of the data.")] = None,
    likelihood: Likelihood = None,
    data_seed: Annotated[int, Parameter(help="Of the split of your own data.")] = 0,
    refit: Annotated[bool, Parameter(help="Learn from the validation rows, too, once all is chosen.")] = False,
    categories: Categories = None,
    drop: Drop = None,
    **arguments: Any,
) -> Answer:
    """Train a model and print its run folder.

    The options of a model are its recipe's arguments: `reverie train MODEL --help` tells them.  Defaults give way to
    presets, presets to --config, and --config to options.

    Example: reverie train vae --data digits --epochs 20
    """
    options = {
        "data": data if task is None else _of_task(data, task), "run": run, "seed": seed, "seeds": seeds,
        "epochs": epochs, "steps": steps, "minutes": minutes, "config": config,
        "preset": tuple(preset) if preset else None, "device": device, "init_from": init_from,
        "binarisation": binarisation, "split_rule": split_rule, "likelihood": likelihood, "data_seed": data_seed,
        "refit": refit, "categories": _names(categories), "drop": _names(drop),
    }  # fmt: skip
    return train_command.run_training(model, options, arguments)


def _of_task(data: str, task: str) -> str:
    """Return the name of one task, or some, of a set: the set's, a colon, and their numbers."""
    from reverie.data.babi import SETS

    if data not in SETS:
        raise ReverieError(f"--task: {data} is no set of tasks ({', '.join(SETS)}); leave it out")
    return f"{data}:{task}"


def resume(
    folder: Folder,
    /,
    *,
    epochs: Annotated[float | None, Parameter(help="In total, past the plan if more [default: the plan].")] = None,
    minutes: Minutes = None,
    device: Device = None,
) -> Answer:
    """Go on with a run that was stopped or killed, to the same weights as if it had not been.

    Example: reverie resume runs/vae-digits-1
    """
    return train_command.run_resuming(folder, epochs=epochs, minutes=minutes, device=device)


def compare(
    *folders: Annotated[Path, Parameter(name="DIR", help="Run folders, two or more.")],
    estimator: Annotated[
        str | None, Parameter(metavar="NAME", help="Such as importance-1000 [default: the best that all have].")
    ] = None,
    out: Annotated[Path | None, Parameter(metavar="FILE.html", help="Write a page that compares them, too.")] = None,
) -> Answer:
    """Compare runs on the same test rows: paired differences with 95 % intervals.

    Example: reverie compare runs/vae-digits-1 runs/mem-vae-digits-1
    """
    if len(folders) < 2:
        raise ReverieError(f"compare: {len(folders) or 'no'} run given; name two or more folders")
    target = None if out is None else outputs.Target.check(out, (".html",))
    from reverie.run import compare as compared

    found = compared(*folders, estimator=estimator)
    if target is None:
        return Answer(found, listing.differences(found))
    from reverie.report.page import write_comparison

    page = write_comparison(folders, found, target.path)
    return Answer({**found, "out": page}, [*listing.differences(found), str(page)])


def table(
    name: Annotated[str | None, Parameter(name="NAME", help="Which table [default: all].")] = None,
    /,
    *,
    run: Annotated[bool, Parameter(help="Train and evaluate what is missing; goes on where it stopped.")] = False,
    budget: Annotated[Literal["smoke", "cpu", "paper"], Parameter(help="How much of the paper's epochs.")] = "cpu",
    row: Annotated[str | None, Parameter(metavar="PATTERN", help="Only these rows, such as 'VAE*'.")] = None,
    column: Annotated[str | None, Parameter(metavar="NAME", help="Only this column, such as mnist.")] = None,
) -> Answer:
    """Set what papers published beside what was reached here, row by row.

    Example: reverie table iwae
    """
    from reverie import tabling

    if run:
        tabling.run_table(name, budget=budget, rows=row, column=column, progress=progress.for_stderr())
    found = [r for r in tabling.collect(name) if column is None or r["column"] == column]
    kept = [r for r in found if row is None or fnmatch.fnmatchcase(str(r["row"]), row)]
    if not found:
        known = dict.fromkeys(str(r["column"]) for r in tabling.collect(name))
        raise ReverieError(f"column: none is called so{nearest(column or '', known)} (there is {', '.join(known)})")
    if not kept:
        known = dict.fromkeys(str(r["row"]) for r in tabling.collect(name))
        raise ReverieError(f"table: no row is called so{nearest(row or '', known)} (there is {', '.join(known)})")
    from reverie.report.tables import notes, plain, rich_tables

    return Answer({"rows": kept, "notes": notes(kept)}, [Wide(plain(kept), partial(rich_tables, kept))])


def export(folder: Folder, /, *, out: OutWeights) -> Answer:
    """Write the weights by name, to be read with NumPy alone.

    Example: reverie export runs/vae-digits-1 --out weights.npz
    """
    target = outputs.Target.check(out, (".npz",))
    return written(load(folder).export(target.path))


def cite(model: Model, /) -> Answer:
    """Print the BibTeX entry of a model's paper.

    Example: reverie cite mem-vae
    """
    from reverie.models import load_module

    paper = load_module(model).PAPER
    return Answer({"model": model, "bibtex": paper.bibtex}, [paper.bibtex])
