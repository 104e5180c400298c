"""A run in the hand: train, load, and everything that can be asked of a trained model.  Arrays in, arrays and
records out; the command line is a thin layer over this file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie import (
    asking,
    blaming,
    classifying,
    completing,
    learning,
    models,
    picturing,
    questioning,
    reading,
    rebuilding,
    run_data,
    training,
)
from reverie import data as data_floor
from reverie.compile_cache import keep_compilations
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError, an
from reverie.estimate import Estimate
from reverie.evaluate import arena
from reverie.evaluate.blame import Blame
from reverie.evaluate.log_z import LogZ
from reverie.prob.contracts import Implicit, Judged
from reverie.progress import Progress
from reverie.train.folder import RunFolder
from reverie.train.parallel import configure
from reverie.trained import Trained


def train(
    model: str,
    data: Any,
    *,
    run: str | Path | None = None,
    seed: int = 0,
    seeds: int | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    config: str | Path | None = None,
    preset: str | tuple[str, ...] | None = None,
    device: str | None = None,
    init_from: str | Path | None = None,
    binarisation: str | None = None,
    split_rule: str | None = None,
    likelihood: str | None = None,
    data_seed: int = 0,
    refit: bool = False,
    categories: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run | list[Run]:
    """Train a model and return its run, or a list of runs with `seeds`.

    Args:
        model: a name of `reverie models`, such as ``"mem-vae"``.
        data: a catalogue name, a path, or an array of rows.
        run: folder to train in; default ``runs/<model>-<data>-<n>``.
        seed: of everything random in the run.
        seeds: train this many runs, with seeds `seed`, `seed` + 1, ..., in ``<run>/seed-<n>`` where `run` is given;
            those that are there already are gone on with, so that the same call finishes what was stopped.
        epochs, steps: how long (one of them).
        minutes: past which the run stops, saved and resumable.
        config: a TOML file of settings.
        preset: names of the model's presets, later ones over earlier.
        device: ``cpu``, ``gpu``, ``cpu:N`` or ``all``.
        init_from: a run whose weights (and optimiser, if it fits) are gone on from.
        binarisation, split_rule, likelihood, data_seed: how the data are taken.
        refit: the validation rows train, too, and nothing is chosen on them: last or averaged weights count.
        categories: names of columns of numbers that are categories, or of columns of text that look like none.
        drop: names of columns of a table to leave out; new rows may have them or not.
        progress: where progress is shown.
        settings: arguments of the model's recipe.

    Raises:
        ReverieError: one line that says what is wrong and what to do.
        Interrupted: when asked to stop; the run is saved.
        NonFinite: when a loss is not finite; the last good checkpoint is kept.
    """
    if epochs is not None and steps is not None:
        raise ReverieError("epochs, steps: give one of them")
    configure(device)
    keep_compilations()
    binarisation = _taken(model, binarisation)
    arguments: dict[str, Any] = {
        "binarisation": binarisation, "split_rule": split_rule, "likelihood": likelihood, "seed": data_seed,
        "refit": refit, **({"categories": list(categories)} if categories else {}),
        **({"drop": list(drop)} if drop else {}),
    }  # fmt: skip
    dataset = data_floor.load(data, **arguments)
    if progress is not None:
        for note in dataset.notes:
            progress.say(note)
    presets = (preset,) if isinstance(preset, str) else tuple(preset or ())

    def one(number: int, folder: str | Path | None) -> Run:
        plan = training.resolve(
            model, settings, presets=presets, config=config, epochs=epochs, steps=steps, seed=number,
            rows=dataset.size("train"),
        )  # fmt: skip
        begun = None if seeds is None or folder is None else _begun(Path(folder), plan, dataset)
        if begun is not None:
            return begun.resume(minutes=minutes, device=device, progress=progress)
        # What the recipe or the other run's weights refuse is refused before a folder exists.
        model_, recipe = plan.build(dataset)
        origin = None if init_from is None else load(init_from)
        if origin is not None:
            origin.going_on(model_, recipe)
        place = RunFolder.create(model, dataset.name, path=folder)
        asked = {**arguments, **_source(place, data, dataset)}
        training.start(plan, dataset, place, asked, minutes=minutes, init_from=origin, device=device, progress=progress)
        return Run(place, data=dataset)

    if seeds is None:
        return one(seed, run)
    if seeds < 1:
        raise ReverieError(f"seeds: {seeds} is not a number of runs; give 1 or more")
    return [one(seed + i, None if run is None else Path(run) / f"seed-{seed + i}") for i in range(seeds)]


def _taken(model: str, binarisation: str | None) -> str | None:
    """Return how grey rows are taken: as they are where the model needs no likelihood of them, unless one asks.

    Raises:
        ReverieError: for grey rows as they are under a model that needs their likelihood.
    """
    without = issubclass(models.model_class(model), Judged | Implicit)
    if binarisation == "means" and not without:
        raise ReverieError(
            f"binarisation: means have no likelihood, by which {an(model)} learns; use dynamic or threshold"
        )
    return "means" if without and binarisation is None else binarisation


def _begun(folder: Path, plan: training.Plan, dataset: Dataset) -> Run | None:
    """Return the run of a group that an earlier call began, None where there is none yet.

    Raises:
        ReverieError: for a run of another plan or of other data.
    """
    if not (folder / "checkpoint.json").exists():
        return None
    run = load(folder)
    if differ := training.differences(run.record, plan, dataset.hash):
        raise ReverieError(
            f"{folder}: made with another {', '.join(differ)}; give the same command as before, or another --run"
        )
    return run


def _source(place: RunFolder, data: Any, dataset: Dataset) -> dict[str, Any]:
    if isinstance(data, str) and data_floor.entry(data) is not None:
        return {"source": data}
    if isinstance(data, str | Path):
        return {"source": str(Path(data).resolve())}
    return {"source": run_data.keep_arrays(place, dataset), "in_folder": True}


def load(folder: str | Path) -> Run:
    """Return the run in `folder`.

    Raises:
        ReverieError: when there is no run, or a damaged or newer one.
    """
    keep_compilations()
    return Run(RunFolder(Path(folder)))


class Run(Trained):
    """A trained (or half trained) model in its folder, and everything that can be asked of it."""

    def resume(self, epochs: float | None = None, *, minutes: float | None = None, device: str | None = None,
               progress: Progress | None = None) -> Run:  # fmt: skip
        """Go on from the checkpoint to the planned end, or to `epochs` in total; return the run."""
        configure(device)
        plan = training.read_plan(self.record)
        training.go_on(plan, self.data, self.folder, epochs=epochs, minutes=minutes, device=device, progress=progress)
        return Run(self.folder, data=self.data)

    def evaluate(self, split: str = "test", **how: Any) -> dict[str, Estimate]:
        """Return certified numbers on a split; see `asking.evaluate` for the arguments."""
        return asking.evaluate(self, split, **how)

    def sample(self, n: int, **how: Any) -> np.ndarray:
        """Draw n rows in the file's own units, shape ``(n, *shape)``; see `asking.sample`."""
        return asking.sample(self, n, **how)

    def impute(self, x: Any, mask: Any = None, **how: Any) -> np.ndarray:
        """Return x with its missing cells filled in, in the file's own units; see `completing.impute`."""
        return completing.impute(self, x, mask, **how)

    def reconstruct(self, x: Any, **how: Any) -> np.ndarray:
        """Return each row as the model gives it back, in the file's own units; see `rebuilding.reconstruct`."""
        return rebuilding.reconstruct(self, x, **how)

    def reconstruction_errors(self, x: Any, **how: Any) -> np.ndarray:
        """Return the squared error of each row given back; see `rebuilding.reconstruction_errors`."""
        return rebuilding.reconstruction_errors(self, x, **how)

    def encode(self, x: Any, **how: Any) -> np.ndarray:
        """Return the code of each row, shape (n, d); see `asking.encode`."""
        return asking.encode(self, x, **how)

    def score(self, x: Any, **how: Any) -> asking.Scores:
        """Return a certified log-likelihood for each row; see `asking.score`."""
        return asking.score(self, x, **how)

    def blame(self, x: Any) -> Blame:
        """Return how much each cell surprises beyond what is usual in its column; see `blaming.blame`."""
        return blaming.blame(self, x)

    def log_z(self) -> LogZ | None:
        """Return what is known of log Z of the weights (energies that were evaluated), else None."""
        return asking.log_z(self)

    def health(self, split: str = "test", **how: Any) -> dict[str, Any]:
        """Look for copies, missing classes and collapse among the samples; see `picturing.health`."""
        return picturing.health(self, split, **how)

    def ask(self, story: Any, question: str, **how: Any) -> dict[str, Any]:
        """Answer a question about a story (`questioning.ask`)."""
        return questioning.ask(self, story, question, **how)

    def memory(self, **how: Any) -> dict[str, Any]:
        """Look into the memory: preferences of classes, slots, usage, knock-out; see `picturing.memory`."""
        return picturing.memory(self, **how)

    def report(self, **how: Any) -> Path:
        """Draw the pictures and write one page that opens offline; return its path; see `picturing.report`."""
        return picturing.report(self, **how)

    def gradients(self, **how: Any) -> dict[str, dict[str, Any]]:
        """Compare estimators of the gradient at these weights: noise and bias; see `learning.gradients`."""
        return learning.gradients(self, **how)

    def classify(self, **how: Any) -> dict[str, Any]:
        """Fine-tune the stack to tell classes apart, beside baselines; see `classifying.classify`."""
        return classifying.classify(self, **how)

    def topics(self, words: int = 10, **how: Any) -> dict[str, Any]:
        """Return the top words of every unit, and what units say together; see `reading.topics`."""
        return reading.topics(self, words, **how)

    def retrieve(self, query: Any = None, **how: Any) -> dict[str, Any]:
        """Return the documents nearest to a query by their codes; see `reading.retrieve`."""
        return reading.retrieve(self, query, **how)

    def export(self, path: str | Path) -> Path:
        """Write the weights by name to an .npz."""
        return asking.export(self, path)


for _verb in ("evaluate", "sample", "encode", "score", "export"):
    # What `help(run.evaluate)` shows is where the arguments are told.
    getattr(Run, _verb).__doc__ = getattr(asking, _verb).__doc__
for _verb in ("health", "memory", "report"):
    getattr(Run, _verb).__doc__ = getattr(picturing, _verb).__doc__
Run.impute.__doc__ = completing.impute.__doc__
for _verb in ("reconstruct", "reconstruction_errors"):
    getattr(Run, _verb).__doc__ = getattr(rebuilding, _verb).__doc__
for _verb in ("topics", "retrieve"):
    getattr(Run, _verb).__doc__ = getattr(reading, _verb).__doc__
Run.blame.__doc__ = blaming.blame.__doc__
Run.classify.__doc__ = classifying.classify.__doc__
Run.gradients.__doc__ = learning.gradients.__doc__


def compare(*runs: Run | str | Path, estimator: str | None = None) -> dict[str, Any]:
    """Compare runs on the same test rows: paired differences with 95 % intervals.

    Args:
        estimator: such as ``importance-1000``; default: what all of them have for most rows, the best of it.

    Raises:
        ReverieError: when data, split, binarisation, measure, rows or unit differ, saying which.
    """
    return arena.compare([run.path if isinstance(run, Run) else Path(run) for run in runs], estimator=estimator)
