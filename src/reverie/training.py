"""From a request to a trained run folder: settings are resolved, data read, the recipe built, the engine run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from reverie import further, models, settings
from reverie.arrays import named_leaves
from reverie.data.dataset import Dataset
from reverie.errors import Interrupted, NonFinite, ReverieError, nearest
from reverie.progress import Progress, Quiet
from reverie.train import checkpoint
from reverie.train.engine import parameters
from reverie.train.fit import Fit
from reverie.train.folder import RunFolder, provenance
from reverie.train.parallel import mesh_of
from reverie.train.recipe import Brief, Recipe
from reverie.train.signals import Stop

#: Folded into the run's key for the initial weights.
_INIT = 0


@dataclass(frozen=True)
class Plan:
    """A request, resolved: everything that decides the weights of a run."""

    model: str
    settings: dict[str, Any]
    presets: tuple[str, ...]
    epochs: float
    seed: int
    steps: int | None = None

    def build(self, data: Dataset) -> tuple[Any, Recipe]:
        """Return the untrained model and its recipe."""
        key = jax.random.fold_in(jax.random.key(self.seed), _INIT)
        module = models.load_module(self.model)
        if data.likelihood == "mixed" and not models.takes_mixed(self.model):
            able = ", ".join(name for name in models.discover() if models.takes_mixed(name))
            raise ReverieError(
                f"likelihood: {self.model} has no law of numbers and categories side by side ({data.name}); train one "
                f"that has: {able}"
            )
        models.require_kind(self.model, data)
        model, recipe = module.recipe(Brief(data, key, self.epochs), **self.settings)
        return model, _unchosen(recipe) if data.refit else recipe

    def total_steps(self, data: Dataset, recipe: Recipe, epochs: float | None = None) -> int:
        """Return the planned steps of the main stage, whose `recipe` it is: an earlier one may have another batch."""
        if self.steps is not None and epochs is None:
            return self.steps
        return Brief(data, jax.random.key(0), epochs or self.epochs).steps(recipe.batch)


def _unchosen(recipe: Recipe) -> Recipe:
    """Return the recipe, and those that follow it, without a choice by validation: those rows are learnt from."""

    def following(model: Any, data: Dataset, carry: Any) -> tuple[Any, Recipe]:
        assert recipe.next is not None
        model, after = recipe.next(model, data, carry)
        return model, _unchosen(after)

    select = "last" if recipe.select == "best" else recipe.select
    return dataclasses.replace(recipe, select=select, validate=None, next=None if recipe.next is None else following)


def stages_of(model: Any, recipe: Recipe, data: Dataset) -> list[Recipe]:
    """Return the recipes of a chain, the main one's `epochs` None.

    The chain is walked with untrained weights: lengths and players do not depend on what was learnt.
    """
    found = [recipe]
    while recipe.next is not None:
        model, recipe = recipe.next(model, data, recipe.carry)
        found.append(recipe)
    return found


def stage_steps(recipe: Recipe, data: Dataset, steps: int) -> int:
    """Return the planned steps of a stage, `steps` those of the main one."""
    return steps if recipe.epochs is None else Brief(data, jax.random.key(0), recipe.epochs).steps(recipe.batch)


def resolve(
    model: str,
    given: Mapping[str, Any],
    *,
    presets: tuple[str, ...] = (),
    config: str | Path | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    rows: int,
) -> Plan:
    """Merge defaults < presets < config file < arguments into a plan.

    Args:
        rows: training rows, to turn `steps` into epochs for the schedules.

    Raises:
        ReverieError: for an unknown model, preset, key or argument, each naming the nearest valid one.
    """
    if not 0 <= seed < 2**32:
        raise ReverieError(f"seed: {seed} is not a seed; give a whole number from 0 to {2**32 - 1}")
    module = models.load_module(model)
    merged: dict[str, Any] = {**module.PRESETS["fast"]}
    for name in presets:
        if name not in module.PRESETS:
            valid = ", ".join(module.PRESETS)
            raise ReverieError(f"preset: {model} has no {name!r}{nearest(name, module.PRESETS)} (it has {valid})")
        merged = settings.merge(merged, module.PRESETS[name])
    merged = settings.merge(settings.merge(merged, read_config(config)), given)
    planned = merged.pop("epochs")
    bound = settings.bind(module.recipe, merged)
    if steps is not None:
        planned = steps * bound.get("batch", rows) / rows
    wanted = epochs if epochs is not None else planned
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not wanted > 0:
        raise ReverieError(f"epochs: {wanted!r} is not a positive number")
    planned = float(wanted)
    return Plan(model, bound, presets, planned, seed, steps)


def read_config(path: str | Path | None) -> dict[str, Any]:
    """Return the keys of a TOML recipe file."""
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ReverieError(f"config: no file {path}; give the path of a TOML file") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReverieError(f"config: {path} cannot be read as TOML ({error}); mend that line") from None


def start(
    plan: Plan,
    data: Dataset,
    folder: RunFolder,
    arguments: Mapping[str, Any],
    *,
    minutes: float | None = None,
    init_from: Any = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Train a fresh run in `folder`; `init_from` is a `Run` whose weights and optimiser are gone on from."""
    model, recipe = plan.build(data)
    optimisers = None
    origin = None
    if init_from is not None:
        model, optimisers, origin = init_from.going_on(model, recipe)
    steps = plan.total_steps(data, stages_of(model, recipe, data)[-1])
    with _only_writer(folder):
        folder.must_be_fresh()
        _update(folder, **_record(plan, data, arguments, recipe, model, steps, origin, device))
        _train(plan, data, folder, model, recipe, steps, minutes, progress, device, optimisers=optimisers)


def go_on(
    plan: Plan,
    data: Dataset,
    folder: RunFolder,
    *,
    epochs: float | None = None,
    minutes: float | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> bool:
    """Resume the run in `folder` from its checkpoint; return False when there was nothing left to do.

    Raises:
        NonFinite: for a run that stopped at a step that was not finite: training repeats itself bit for bit.
        ReverieError: without a checkpoint, for less than is done already, or past a plan that ended at rate 0.
    """
    record = folder.read()
    if record.get("non_finite"):
        raise NonFinite(f"{folder.path}: resuming would stop again at {record['reason']}")
    if epochs:
        further.require_rate(folder.path, record, epochs)
    model, recipe = plan.build(data)
    stages = stages_of(model, recipe, data)
    steps = plan.total_steps(data, stages[-1], epochs) if epochs else int(record["plan"]["steps"])
    with _only_writer(folder):
        meta = checkpoint.peek(folder.path)
        if meta is None:
            raise ReverieError(f"{folder.path}: no checkpoint to resume from; start over with `reverie train`")
        stage = stages[meta["stage"]]
        done = int(meta["total_step"]) - int(meta["before"]) if stage.epochs is None else 0
        if record["status"] == "finished" and (stage.epochs is not None or steps <= done):
            return False
        if steps < done:
            raise ReverieError(f"epochs: the run is at step {done} already; ask for more than {steps} steps")
        folder.put_evaluations_by(int(meta["total_step"]))
        if progress is not None:
            total = sum(stage_steps(each, data, steps) for each in stages)
            progress.say(further.whence(record, int(meta["total_step"]), total, len(stages)))
        _train(plan, data, folder, model, recipe, steps, minutes, progress, device, resume=meta)
    return True


def _train(
    plan: Plan,
    data: Dataset,
    folder: RunFolder,
    model: Any,
    recipe: Recipe,
    steps: int,
    minutes: float | None,
    progress: Progress | None,
    device: str | None,
    *,
    optimisers: Any = None,
    resume: Mapping[str, Any] | None = None,
) -> None:
    deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
    stage, before = 0, 0
    stages = stages_of(model, recipe, data)
    total = sum(stage_steps(each, data, steps) for each in stages)
    task = (progress or Quiet()).task(f"{plan.model} on {data.name}", total)
    with Stop() as stop, _segment(folder, steps, resume, device), task:
        while True:
            wanted = stage_steps(recipe, data, steps)
            if len(stages) > 1 and progress is not None and (resume is None or stage >= resume["stage"]):
                progress.say(f"stage {stage + 1} of {len(stages)}: {recipe.name or plan.model}, {wanted:,} steps")
            fit = Fit(
                model, recipe, data, plan.seed + stage, wanted, folder, lambda: stop.asked, task.update, deadline,
                optimisers, mesh_of(device), stage, before,
            )  # fmt: skip
            here = resume is None or stage >= resume["stage"]
            if resume is not None and stage == resume["stage"]:
                fit.restore()
            if here and fit.run() == "stopped":
                raise Interrupted(
                    f"stopped at step {fit.before + int(fit.state.step)}; go on with: reverie resume {folder.path}",
                    run=folder.path,
                )
            if recipe.next is None:
                return
            carry = fit.state.carry if here else recipe.carry
            model, recipe = recipe.next(fit.kept.model if here else model, data, carry)
            stage, before, optimisers = stage + 1, before + wanted, None


def _only_writer(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Lock the folder; of several JAX processes only the first writes, and so only it locks."""
    return folder.lock() if jax.process_index() == 0 else contextlib.nullcontext()


def _update(folder: RunFolder, **fields: Any) -> None:
    if jax.process_index() == 0:
        folder.update(**fields)


@contextlib.contextmanager
def _segment(folder: RunFolder, steps: int, resume: Mapping[str, Any] | None, device: str | None) -> Iterator[None]:
    """Record in run.json when this stretch of training began, how it ended and how long it took."""
    record = folder.read() if jax.process_index() == 0 else {"plan": {}}
    began, first = time.time(), int(resume["total_step"]) if resume else 0
    segment = {"from_step": first, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
               "device": device or jax.default_backend(), "planned_steps": steps}  # fmt: skip
    segments = [*record.get("segments", []), segment]
    _update(folder, status="running", reason=None, segments=segments, plan={**record["plan"], "steps": steps})
    status = "failed"
    reason: str | None = "unexpected error"
    more: dict[str, Any] = {}
    try:
        yield
        status, reason = "finished", None
    except Interrupted as stopped:
        status, reason = "stopped", str(stopped)
        raise
    except ReverieError as wrong:
        reason = str(wrong)
        more = {"non_finite": True} if isinstance(wrong, NonFinite) else {}
        raise
    finally:
        # A full disk that ended the run cannot take this record either; the first error is the one to show.
        with contextlib.nullcontext() if status == "finished" else contextlib.suppress(ReverieError):
            meta = checkpoint.peek(folder.path) or {"total_step": first}
            segment |= {"to_step": int(meta["total_step"]), "seconds": round(time.time() - began, 2)}
            _update(folder, status=status, reason=reason, segments=segments, **more)


def _record(
    plan: Plan, data: Dataset, arguments: Mapping[str, Any], recipe: Recipe, model: Any, steps: int, origin: Any,
    device: str | None,
) -> dict[str, Any]:  # fmt: skip
    stages = stages_of(model, recipe, data)
    batch = stages[-1].batch
    named = [{"name": s.name, "steps": stage_steps(s, data, steps), "main": s.epochs is None} for s in stages]
    return {
        "model": plan.model,
        "settings": settings.to_json(plan.settings),
        "presets": list(plan.presets),
        "data": data.to_json(),
        "data_arguments": dict(arguments),
        "seed": plan.seed,
        "plan": {"epochs": plan.epochs, "steps": steps, "batch": batch, "steps_per_epoch": data.size("train") / batch,
                 "asked_steps": plan.steps, "stages": named},
        "parameters": parameters(model, *stages),
        "select": recipe.select,
        "init_from": origin,
        "exact": jax.default_backend() == "cpu",
        "segments": [],
        "status": "running",
        "reason": None,
        **provenance(),
    }  # fmt: skip


def differences(record: Mapping[str, Any], plan: Plan, data_hash: str | None = None) -> list[str]:
    """Return the names of what a recorded run was made with and `plan` (on data of `data_hash`) would not be."""
    now = {**settings.to_json(plan.settings), "model": plan.model, "epochs": plan.epochs, "seed": plan.seed}
    then = {**record["settings"], "model": record["model"], "epochs": record["plan"]["epochs"], "seed": record["seed"]}
    differ = [name for name, value in now.items() if then.get(name) != value]
    return differ + ["data set"] * (data_hash is not None and record["data"]["hash"] != data_hash)


def read_plan(record: Mapping[str, Any]) -> Plan:
    """Return the plan that a run.json records."""
    module = models.load_module(record["model"])
    bound = settings.bind(module.recipe, settings.from_json(record["settings"]))
    plan = record["plan"]
    return Plan(record["model"], bound, tuple(record["presets"]), plan["epochs"], record["seed"], plan["asked_steps"])


def check_same(origin: Path, theirs: Any, ours: Any) -> None:
    """Refuse weights of another shape than the model's.

    Raises:
        ReverieError: naming the first leaf that differs.
    """
    have = {name: leaf.shape for name, leaf in named_leaves(theirs)}
    for name, leaf in named_leaves(ours):
        if have.get(name) != leaf.shape:
            raise ReverieError(
                f"init-from: {origin} does not fit: {name} is {have.get(name, 'not there')}, here {leaf.shape}; "
                "give the same widths and data"
            )
