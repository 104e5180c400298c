"""The arrays behind a report: computed from a run once, kept in its folder, drawn by `report/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie import asking, further, masking, questioning, reading
from reverie.class_told import given_of
from reverie.errors import ReverieError, an
from reverie.evaluate import chains as watched
from reverie.evaluate import components, filling, memorising, microscope, steps, tasks, walks
from reverie.evaluate import health as examined
from reverie.evaluate import impute as imputing
from reverie.evaluate.baseline import independent_baseline
from reverie.evaluate.diagnose import diagnose, gather
from reverie.evaluate.mapped import over_rows
from reverie.files import to_json, write_atomic
from reverie.prob.abilities import Encodes, Filters, OfExemplars, OfWords, Reconstructs, Writes
from reverie.prob.contracts import Coloured, Energy, Explicit, Implicit, Judged
from reverie.prob.replying import Replying
from reverie.progress import Progress, Quiet
from reverie.showing import display, shown
from reverie.trained import Trained

#: Rows of the pictures, of the codes and units, and of the knock-out.
_SHOWN, _CODED, _KNOCKED = 40, 1000, 300
#: Units drawn, chains drawn, and after how many sweeps.
_FILTERS, _CHAINS, _SWEEPS = 100, 16, (0, 1, 10, 100, 1000)
_FRAMES = (1, 2, 5, 10, 20, 50, 100)
#: Samples shown beside their nearest training rows.
_HEALTHY = 32


def report(run: Trained, *, seed: int = 0, progress: Progress | None = None) -> Path:
    """Compute what the report shows, write ``report.html`` and return its path.

    The test log-likelihood is computed first if the run has none yet.
    """
    from reverie.report import page

    if not any(key.startswith("test/") for key in run.folder.evaluations()):
        asking.evaluate(run, progress=progress)
    steps: list[Callable[..., Any]] = [samples, units]
    steps += [codes] if isinstance(run.model, Encodes) else []
    steps += [reconstructions] if isinstance(run.model, Reconstructs) else []
    steps += [health] if isinstance(run.model, OfExemplars) else []
    steps += [imputation] if "impute" in able(run) else []
    if isinstance(run.model, Judged | Implicit):
        able_to = ((samples, Implicit), (health, Implicit), (reconstructions, Reconstructs), (codes, Encodes))
        steps = [step for step, protocol in able_to if isinstance(run.model, protocol)]
    if health in steps and not examined.tellable(run.data):
        # One section that cannot be had does not cost the page.
        steps.remove(health)
    if "memory" in able(run) and not _looked(run, seed, _KNOCKED):
        steps.append(memory)
    if walks.walkable(run.model) and run.facts.likelihood != "counts":
        steps.append(latent)
    if isinstance(run.model, Filters):
        steps.append(filters)
    if isinstance(run.model, OfWords):
        steps.append(words)
    elif isinstance(run.model, Energy):
        steps.append(chains)
    if isinstance(run.model, Energy) and isinstance(run.model, Encodes):
        steps.append(activations)
    with (progress or Quiet()).task(f"pictures of {run.path.name}", len(steps)) as task:
        for done, step in enumerate(steps, 1):
            step(run, seed=seed)
            task.update(done)
    baseline = None if isinstance(run.model, Judged | Implicit) else independent_baseline(run.data)
    findings = diagnose(gather(run.path, baseline, ended=further.ends(run.record)))
    write_atomic(run.path / "diagnoses.json", to_json(findings, indent=1))
    return page.write(run.path)


def words(run: Trained, *, seed: int = 0) -> None:
    """Keep the topics of a model of documents, and how well its codes find documents of a class."""
    reading.topics(run)
    if run.data.labels("test") is not None:
        reading.retrieve(run)


def able(run: Trained) -> set[str]:
    """Return which of encode, impute and memory the run's model can do."""
    return {verb for verb, protocol in asking.WHAT.items() if isinstance(run.model, protocol)}


def samples(run: Trained, *, seed: int = 0) -> None:
    """Keep 64 draws, means and samples."""
    given = given_of(run, 64, None)
    means, draws = tasks.samples(run.model, 64, seed=seed, given=given)
    how = {"drawn": np.asarray("cells")} if isinstance(run.model, Explicit) else {}
    run.folder.save_arrays("samples", means=display(run, means), samples=display(run, draws), **how)


def health(run: Trained, split: str = "test", *, seed: int = 0) -> dict[str, Any]:
    """Look at what the model generates beside the rows it learnt from and rows of a split it did not.

    Whether it copies training rows, misses classes, can be told from the data, or repeats itself: see
    `evaluate.health`; of a mixture over training rows also what those owe to themselves (`evaluate.memorising`).  Kept
    in ``health.json``, and what its pictures show in ``arrays/health.npz``.

    Returns:
        ``records`` (an Estimate each, by name) and ``findings`` (``level`` and ``text``, the gravest first).

    Raises:
        ReverieError: for a model that does not sample, an unknown split, validation rows that trained it (``refit``),
            or rows without distances.
    """
    asking.need_likelihood(run, "health")
    asking.need_unseen(run, split)
    if split not in run.data.splits:
        raise ReverieError(f"split: {split!r} is not one of {', '.join(run.data.splits)}")
    found = examined.look(run.model, run.data, split, seed=seed)
    records, findings = dict(found.records), list(found.findings)
    if isinstance(run.model, OfExemplars):
        more, told = memorising.look(run.model, run.data, split, seed=seed)
        order = ("problem", "warning", "ok")
        records, findings = {**records, **more}, sorted([*findings, *told], key=lambda f: order.index(f["level"]))
    arrays = dict(found.pictures)
    for name in ("samples", "neighbours"):
        arrays[name] = display(run, arrays[name][:_HEALTHY])
    run.folder.save_arrays("health", **arrays)
    record = {name: estimate.to_json() for name, estimate in records.items()}
    kept = {"split": split, "seed": seed, "weights": run.folder.weights, "records": record, "findings": findings}
    write_atomic(run.path / "health.json", to_json(kept, indent=1))
    return {"records": records, "findings": findings}


def reconstructions(run: Trained, *, seed: int = 0) -> None:
    """Keep test rows beside what the model makes of them."""
    rows, given = shown(run, _SHOWN)
    outputs = tasks.reconstructions(run.model, rows, seed=seed, given=given)
    linear = {}
    if isinstance(run.model, Judged) and hasattr(run.model, "components"):
        linear = {"linear": display(run, components.rebuilt(run.data, rows, run.model.components))}
    run.folder.save_arrays("reconstructions", inputs=display(run, rows), outputs=display(run, outputs), **linear)


def imputation(run: Trained, *, seed: int = 0) -> None:
    """Keep the filling-in of test rows, frame by frame, with its error after each iteration."""
    data = run.data
    images = len(data.shape) > 1
    rules = [f"rect:{max(1, min(data.shape[:2]) * 3 // 7)}", "half", "drop:0.6"] if images else ["drop:0.3"]
    stored = np.asarray(data.splits["test"].x[:_CODED])
    rows = masking.soft_view(data, stored)
    _, given = shown(run, len(rows))
    for rule in rules:
        known = imputing.mask_of(rule, rows, data.shape, seed=seed)
        found = imputing.impute(
            run.model, rows, known, frames=_FRAMES, seed=seed, given=given, levels=data.levels,
            centre=imputing.centre_of(data),
        )  # fmt: skip
        run.folder.save_arrays(
            f"imputation-{rule.replace(':', '-')}", inputs=display(run, rows[:_SHOWN]), masks=found.mask[:_SHOWN],
            frames=display(run, found.frames[:, :_SHOWN]), iterations=found.iterations, errors=found.errors,
            **_beside(run, rows, found.mask, found.filled),
        )  # fmt: skip


def _beside(run: Trained, rows: np.ndarray, known: np.ndarray, filled: np.ndarray) -> dict[str, np.ndarray]:
    """Return how good the filled-in cells are, beside base rates and the nearest training rows."""
    train = masking.soft_view(run.data, np.asarray(run.data.splits["train"].x[: filling.AMONG]))
    levels = run.data.column_levels if run.data.categories else (0,) * run.data.width
    spread = filling.indicators(train, levels), filling.indicators(rows, levels)
    told = np.repeat(known, np.maximum(levels, 1), axis=1)
    ways = {
        "the model": filled,
        "base rates": filling.codes(filling.base_rates(*spread, told), levels),
        f"{filling.NEIGHBOURS} nearest rows": filling.codes(filling.nearest_rows(*spread, told), levels),
    }
    unit = run.data.likelihood == "bernoulli"
    scores = [filling.mixed_quality(rows, known, way, levels) if any(levels) else
              filling.quality(rows, known, way, unit) for way in ways.values()]  # fmt: skip
    return {"ways": np.asarray(list(ways)), "scores": np.asarray(scores)}


def units(run: Trained, *, seed: int = 0) -> None:
    """Keep each latent unit's activity and KL."""
    rows, given = shown(run, _CODED)
    if not hasattr(run.model, "posterior"):
        return
    found: dict[str, Any] = {}
    pairs = zip(
        tasks.activity(run.model, rows, samples=20, seed=seed, given=given),
        tasks.unit_kl(run.model, rows, seed=seed, given=given),
        strict=True,
    )
    for layer, (activity, kl) in enumerate(pairs, 1):
        found |= {f"activity_{layer}": activity, f"kl_{layer}": kl}
    run.folder.save_arrays("units", **found)


def codes(run: Trained, *, seed: int = 0) -> None:
    """Keep a two-dimensional view of test rows' codes."""
    rows, given = shown(run, _CODED)
    labels = run.data.labels("test", 0, _CODED)
    plane, kind = tasks.codes(run.model, rows, given=given)
    found = {"codes": plane, "kind": np.asarray(kind)}
    run.folder.save_arrays("codes", **found, **({} if labels is None else {"labels": np.asarray(labels)}))


def latent(run: Trained, *, seed: int = 0) -> None:
    """Keep what the model makes of codes along its units and between rows, and where its prior's draws lie."""
    rows, given = shown(run, _CODED)
    labels = run.data.labels("test", 0, _CODED)
    found = walks.look(run.model, rows, given=given, labels=labels, seed=seed)
    found |= {name: display(run, found[name]) for name in ("walks", "lines", "ends") if name in found}
    run.folder.save_arrays("latent", **found, **({} if labels is None else {"labels": np.asarray(labels)}))


def filters(run: Trained, *, seed: int = 0) -> None:
    """Keep the units' weights and how often each is on over test rows, the most used first; deeper ones composed."""
    rows, _ = shown(run, _CODED)
    weights = np.asarray(run.model.filters())
    used = _activities(run.model, rows).mean(axis=0)
    found: dict[str, np.ndarray] = {}
    first = 0
    for layer, composed in enumerate(_composed(run.model, weights), 1):
        mine = used[first : first + len(composed)]
        first += len(composed)
        order = np.argsort(-mine, kind="stable")[:_FILTERS]
        tail = "" if layer == 1 else f"_{layer}"
        found |= {f"filters{tail}": composed[order], f"used{tail}": mine[order], f"units{tail}": order}
    run.folder.save_arrays("filters", **found)


def _activities(model: Any, rows: np.ndarray) -> np.ndarray:
    """Return how strongly the units of all layers are on, layers side by side; an energy's code is that."""
    if not hasattr(model, "layer_filters"):
        return tasks.encode(model, rows)
    return np.abs(over_rows(_layers, model, rows))


def _layers(model: Any, key: Any, x: Any, given: Any) -> Any:
    return jax.numpy.concatenate(model.layers(x))


def _composed(model: Any, first: np.ndarray) -> list[np.ndarray]:
    """Return the first layer's filters and, of a stack, each higher layer's: the filters below, weighted."""
    if hasattr(model, "layer_filters"):
        return [np.asarray(part) for part in model.layer_filters()]
    found = [first]
    for weight in getattr(model, "weights", ())[1:] if isinstance(model, Coloured) else ():
        found.append(np.asarray(weight).T @ found[-1])
    return found


def activations(run: Trained, *, seed: int = 0) -> None:
    """Keep how often each hidden unit of an energy is on over test rows, layer by layer."""
    rows, given = shown(run, _CODED)
    means = tasks.encode(run.model, rows, given=given).mean(axis=0, dtype=np.float64)
    widths = _widths(run.model) if isinstance(run.model, Coloured) else [len(means)]
    parts = np.split(means, np.cumsum(widths)[:-1]) if sum(widths) == len(means) else [means]
    run.folder.save_arrays("activations", **{f"mean_{i}": part for i, part in enumerate(parts, 1)})


def _widths(model: Any) -> list[int]:
    """Return the numbers of units of the hidden layers, from the data upwards."""

    def layers(key: Any) -> Any:
        state = model.layers(model.draw_base(key))
        return {**state, **model.draw(key, model.even, state)}

    found = jax.eval_shape(layers, jax.random.key(0))
    return [found[number].size for number in sorted(found) if number]


def chains(run: Trained, *, seed: int = 0) -> None:
    """Keep a few of the model's own chains, from the base law on, at a few numbers of sweeps."""
    found = watched.draw(run.model, _CHAINS, watched.Chain(_SWEEPS[-1]), seed=seed, frames=_SWEEPS)
    frames = np.stack([display(run, frame) for frame in found.frames])
    run.folder.save_arrays(
        "chains", frames=frames, sweeps=np.asarray(_SWEEPS), mixing=np.asarray(str(found.mixing)),
        free_energy=found.free_energy,
    )  # fmt: skip


def memory(
    run: Trained, *, data: Any = None, seed: int = 0, rows: int = _KNOCKED, progress: Progress | None = None
) -> dict[str, Any]:
    """Look into the memory of the run's model and keep what is seen in ``arrays/memory.npz``.

    Args:
        data: other sequences or questions than the test rows, as `evaluate` takes them (ntm, memn2n).
        seed, rows: of the knock-out of slots (mem-vae).
        progress: where it is shown.

    Returns:
        ``layers`` and, per layer, ``preference_<layer>`` and ``profile_<layer>`` (classes, slots), ``usage_<layer>``,
        ``entropy_<layer>``,
        ``images_<layer>`` (slots, D) and ``knockout_<layer>`` (slots, 2): the fall of the test log-likelihood when a
        slot is silenced, and its standard error.  Of a machine that writes its memory what happens at each step
        of the longest test sequence (`evaluate.steps`), drawn in ``memory.png``, and ``mechanism``; of a model that
        answers questions what each hop reads for a few of the test questions, drawn there too.
    """
    model = asking.need(run, "memory")
    if isinstance(model, Writes | Replying):
        rows_of, split = (run.data, "test") if data is None else asking.own_data(run, data)
        made = _made(run, seed, rows, "" if data is None else str(data))
        return (
            questioning.look(run, rows_of, split, made)
            if isinstance(model, Replying)
            else _steps(run, model, rows_of.rows(split), made)
        )
    if data is not None:
        raise ReverieError(
            f"data: the memory of {an(run.record['model'])} is looked into by its test rows; leave it out"
        )
    # One step for each slot, and two for each layer that is silenced as a whole.
    total = sum(block.slots.shape[0] + 2 for block in model.memories.values())
    with (progress or Quiet()).task(f"memory of {run.path.name}", total) as task:
        found = microscope.look(model, run.data, rows=rows, seed=seed, progress=task.update)
    shown_images = {name: display(run, a) if name.startswith("images_") else a for name, a in found.items()}
    run.folder.save_arrays("memory", **shown_images, made=_made(run, seed, rows))
    return shown_images


def _steps(run: Trained, model: Writes, rows: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    from reverie.report.steps import memory_over_time
    from reverie.report.style import save

    found = steps.watch(model, rows)
    run.folder.save_arrays("memory", **found, made=made)
    save(memory_over_time(found), run.path / "memory.png")
    return {"layers": np.asarray(["memory"]), **found, "mechanism": steps.mechanism(found)}


def _made(run: Trained, seed: int, rows: int, data: str = "") -> np.ndarray:
    """Return what a look into the memory was made from: weights, by their hash, seed, rows, and data of one's own."""
    return np.asarray([str(run.folder.weights), str(seed), str(rows), *filter(None, [data])])


def _looked(run: Trained, seed: int, rows: int) -> bool:
    """Say whether the folder holds the same look into the memory, of the weights that are there now."""
    if "memory" not in run.folder.array_names():
        return False
    try:
        found = run.folder.load_arrays("memory").get("made", np.zeros(0))
    except ReverieError:
        return False  # damaged: it is made anew
    return bool(np.array_equal(found, _made(run, seed, rows)))
