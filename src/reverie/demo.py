"""`reverie demo`: a VAE with a memory against a plain VAE of the same size, on real handwriting, in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from reverie import models
from reverie.data.dataset import Dataset
from reverie.progress import Progress
from reverie.run import Run, compare, train
from reverie.train.engine import parameters
from reverie.train.recipe import Brief

#: The smaller cousin of the paper's network, on 8 x 8 digits.
MEMORY: dict[str, Any] = {"latent": (16,), "hidden": ((100, 100),), "slots": (20, 10), "batch": 50, "schedule": "steps"}
EPOCHS, SAMPLES = 100, 1000


def matched_width(data: Dataset) -> int:
    """Return the least width of a plain VAE with at least as many parameters as the one with a memory."""
    with_memory = _size("mem-vae", data, MEMORY)
    width = MEMORY["hidden"][0][0]
    while _size("vae", data, plain(width)) < with_memory:
        width += 1
    return width


def plain(width: int) -> dict[str, Any]:
    """Return the arguments of the same VAE without a memory: batch-normalised ReLU layers of `width`."""
    kept = {name: value for name, value in MEMORY.items() if name not in ("slots", "hidden")}
    return {**kept, "hidden": ((width, width),), "activation": "relu", "norm": True}


def _size(model: str, data: Dataset, settings: dict[str, Any]) -> int:
    net, recipe = models.load_module(model).recipe(Brief(data, jax.random.key(0), 1.0), **settings)
    return parameters(net, recipe)


def demo(
    out: str | Path = "runs/demo", *, epochs: float = EPOCHS, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Train both, evaluate both on the same test rows, compare them in pairs, and write one report.

    Args:
        out: folder of the two runs and the report; an earlier demo's runs there are replaced.
        epochs: of each.
        seed: of both.
        progress: where progress is shown.

    Returns:
        ``runs``, ``log_likelihood`` (both records), ``difference`` and ``report`` (the path of the page).
    """
    from reverie import data as data_floor
    from reverie.report.page import write_comparison

    root, data = Path(out), data_floor.load("digits")
    settings = {"vae": plain(matched_width(data)), "mem-vae": MEMORY}
    runs: dict[str, Run] = {}
    for name, own in settings.items():
        _clear(root / name)
        runs[name] = train(name, "digits", run=root / name, seed=seed, epochs=epochs, progress=progress, **own)  # type: ignore[assignment]
    found = {name: run.evaluate(samples=SAMPLES, progress=progress)["log_likelihood"] for name, run in runs.items()}
    for run in runs.values():
        run.report(progress=progress)
    difference = compare(runs["mem-vae"], runs["vae"])
    page = write_comparison([run.path for run in runs.values()], difference, root / "report.html")
    return {
        "runs": {name: str(run.path) for name, run in runs.items()},
        "parameters": {name: run.record["parameters"] for name, run in runs.items()},
        "log_likelihood": found,
        "difference": difference,
        "report": str(page),
    }


def _clear(folder: Path) -> None:
    """Remove an earlier demo's run, and nothing else."""
    import shutil

    if (folder / "run.json").exists():
        shutil.rmtree(folder)
