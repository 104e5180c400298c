"""`reverie train MODEL`: the verb whose options are the chosen model's own, read from the signature of its recipe."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from reverie import further, models, progress, settings, values
from reverie.console import Answer, tell
from reverie.errors import Interrupted, ReverieError
from reverie.options import load

#: A dotted name, adam.epsilon, is no identifier; in the signature that cyclopts reads it is spelt with this.
_DOT = "__"
#: Letters that the form of an option may have in a terminal of 80 columns, where longer ones would break inside a word;
#: choices that need more are told in the help, as `cyclopts` tells those of other verbs.
_ROOM = 24

LENGTHS = ("epochs", "steps", "minutes")


def model_of(tokens: Sequence[str], valued: frozenset[str]) -> str | None:
    """Return the MODEL among the words after `train`, None where there is none.

    Args:
        tokens: the words.
        valued: the options that take the next word as their value; those of a model are not known before the model.
    """
    words = [
        w for before, w in zip(("", *tokens), tokens, strict=False) if not w.startswith("-") and before not in valued
    ]
    known = models.discover()
    return next((word for word in words if word in known), words[0] if words else None)


def with_arguments(command: Callable[..., Answer], model: str) -> Callable[..., Answer]:
    """Return `command` as cyclopts should see it for one model: with the arguments of its recipe as options.

    Raises:
        ReverieError: for an unknown model.
    """
    module = models.load_module(model)
    described = settings.describe(module.recipe)
    group = Group(f"Arguments of {model}", help=f"Presets: {', '.join(module.PRESETS)}.", sort_key=10)
    spelt = {name.replace(".", _DOT): setting for name, setting in described.items()}

    def call(*words: Any, **options: Any) -> Answer:
        given = {spelt[name].name: options.pop(name) for name in list(options) if name in spelt}
        return command(*words, **options, **{name: value for name, value in given.items() if value is not None})

    signature = inspect.signature(command)
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *(_option(name, setting, group) for name, setting in spelt.items())]
    )
    call.__doc__, call.__annotations__ = command.__doc__, {}
    return call


def _option(name: str, setting: settings.Setting, group: Group) -> inspect.Parameter:
    form, choices = setting.form, ""
    if "|" in form and len(form) > _ROOM:
        form, choices = "CHOICE", f"[choices: {form.replace('|', ', ')}] "
    help_ = f"{setting.help} {choices}[default: {values.text(setting.default) or 'none'}]".strip()
    common: dict[str, Any] = {"name": setting.flag, "help": help_, "group": group, "show_default": False}
    # Text is taken as it comes: `settings.bind` reads it, as it reads a TOML file's.
    kind: Any = Annotated[str | None, Parameter(**common, metavar=form, allow_leading_hyphen=True)]
    if setting.type is bool:
        kind = Annotated[bool | None, Parameter(**common, negative="--no-" + setting.flag.removeprefix("--"))]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def refuse_without_value(words: Sequence[str], model: str) -> None:
    """Refuse an option of a model that lacks its value, which would otherwise take the next option for it.

    Raises:
        ReverieError: naming what the value looks like.
    """
    described = settings.describe(models.load_module(model).recipe).values()
    forms = {setting.flag: setting.form for setting in described if setting.type is not bool}
    for word, after in zip(words, (*words[1:], "--"), strict=True):
        # A negative number has one hyphen.
        if word in forms and after.startswith("--"):
            raise ReverieError(f"{word}: needs a value after it, {forms[word]}; see `reverie train {model} --help`")


def run_training(model: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> Answer:
    """Train, and say where the run is.

    Args:
        model: its name.
        options: arguments of `run.train` other than the recipe's.
        given: arguments of the recipe.

    Raises:
        ReverieError: for options that contradict each other, before anything is read.
    """
    asked = {name: value for name, value in options.items() if value is not None}
    _consistent(asked)
    choose_device(asked.get("device"))
    settings.bind(models.load_module(model).recipe, given)
    from reverie.run import train

    began = time.monotonic()
    try:
        runs = train(model, progress=progress.for_stderr(), **asked, **given)
    except Interrupted as stopped:
        if "minutes" in asked and time.monotonic() - began >= 60.0 * asked["minutes"]:
            return out_of_time(stopped)
        raise
    return _several(runs) if isinstance(runs, list) else _one(runs)


def _consistent(asked: Mapping[str, Any]) -> None:
    # Minutes are when to stop for now, not how long the plan is.
    lengths = [f"--{name}" for name in ("epochs", "steps") if name in asked]
    if len(lengths) > 1:
        raise ReverieError(f"{' and '.join(lengths)}: each says how long; give one of them")
    if "seed" in asked and "seeds" in asked:
        raise ReverieError("--seed and --seeds: one says which seed, the other how many; give one of them")
    for name in (*LENGTHS, "seeds"):
        if name in asked and not asked[name] > 0:
            raise ReverieError(f"--{name}: {asked[name]:g} is not more than 0")
    for name, what in (("config", "file"), ("init_from", "run folder")):
        if name in asked and not Path(asked[name]).exists():
            raise ReverieError(f"--{name.replace('_', '-')}: there is no {what} {asked[name]}")


def _one(run: Any) -> Answer:
    found = summary(run)
    if found["validation"] is not None:
        note = found["validation"].note
        tell(f"validation {_judged(found['validation'])}" + (f"; {note}" if note else ""))
    if (hint := further.hint(run)) is not None:
        tell(hint)
    tell(f"next: reverie evaluate {run.path}")
    return Answer(found, [str(run.path)])


def _judged(judge: Any) -> str:
    """Return what validation rows are judged by, and the number; an error as itself, though less of it is chosen."""
    from reverie.estimate import of_windows

    if judge.unit == "nats":
        return f"{'Parzen windows' if of_windows(judge.to_json()) else 'log-likelihood'} {judge}"
    if judge.estimator.startswith("-"):
        judge = dataclasses.replace(judge, value=-judge.value, estimator=judge.estimator[1:])
    return f"{judge.estimator} {judge}"


def summary(run: Any) -> dict[str, Any]:
    """Return what is told of a run that was trained: folder, status and best validation record."""
    from reverie.estimate import Estimate

    records = [line["valid"] for line in run.journal() if isinstance(line.get("valid"), Mapping)]
    found = [Estimate.from_json(dict(record)) for record in records]
    best = max(found, key=lambda e: e.value if math.isfinite(e.value) else -math.inf, default=None)
    return {"run": str(run.path), "status": run.record.get("status"), "validation": best}


def _several(runs: list[Any]) -> Answer:
    found, metric, name = [], "", ""
    for run in runs:
        # The first number is the one that counts: the likelihood, or what a task is judged by.
        metric, estimate = next(iter(run.evaluate(progress=progress.for_stderr()).items()))
        found.append(estimate)
        name = metric.replace("log_", "log-").replace("_", " ")
        tell(f"{run.path}  test {name} {estimate}")
        if (hint := further.hint(run)) is not None:
            tell(hint)
    total, d = over_seeds([estimate.value for estimate in found]), 4 if found[0].unit == "fraction" else 2
    record = {"runs": [str(run.path) for run in runs], metric: {**total, "records": found}}
    spread = "" if total["low"] is None else f", 95 % interval [{total['low']:.{d}f}, {total['high']:.{d}f}]"
    said = f"test {name} over {len(runs)} seeds: {total['value']:.{d}f} {found[0].unit}{spread}"
    return Answer(record, [*(str(run.path) for run in runs), said])


def over_seeds(numbers: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95 % interval of one number over seeds, by Student's t: seeds are few.

    It tells how far another seed would move the number, not another test set: that is each record's own
    ``standard_error``.
    """
    from scipy.stats import t

    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n < 2:
        return {"value": mean, "standard_error": None, "low": None, "high": None, "level": 0.95, "seeds": n}
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (n - 1) / n)
    reach = float(t.ppf(0.975, n - 1)) * error
    return {
        "value": mean,
        "standard_error": error,
        "low": mean - reach,
        "high": mean + reach,
        "level": 0.95,
        "seeds": n,
    }


def out_of_time(stopped: Interrupted) -> Answer:
    """A budget of minutes that is used up is what was asked for, not a failure."""
    tell(str(stopped))
    run = None if stopped.run is None else str(stopped.run)
    return Answer({"run": run, "status": "stopped", "validation": None}, [run] if run else [])


def run_resuming(folder: Path, *, epochs: float | None, minutes: float | None, device: str | None) -> Answer:
    """Go on with a run; a finished one stays as it is."""
    choose_device(device)
    run = load(folder)
    before = run.record.get("status")
    began = time.monotonic()
    try:
        run = run.resume(epochs, minutes=minutes, device=device, progress=progress.for_stderr())
    except Interrupted as stopped:
        if minutes is not None and time.monotonic() - began >= 60.0 * minutes:
            return out_of_time(stopped)
        raise
    if before == "finished" and epochs is None:
        tell(f"{run.path}: finished already, nothing to do; --epochs TOTAL goes past the plan")
    return _one(run)


def choose_device(device: str | None) -> None:
    """Choose the platform before jax is imported, where jax could otherwise start on another one.

    Raises:
        ReverieError: for no device that there could be.
    """
    if device is None:
        return
    form = re.fullmatch(r"(cpu|gpu|cuda|tpu)(?::(\d+))?|all", device)
    if form is None:
        raise ReverieError(f"--device: {device!r} is not cpu, gpu, cpu:N, gpu:N or all")
    if form[1] == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        if form[2]:
            os.environ["JAX_NUM_CPU_DEVICES"] = form[2]
