"""What can be asked of how a run learns: its gradient, by every estimator that its model allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError
from reverie.evaluate import gradients as measuring
from reverie.evaluate.gradient_ways import plan
from reverie.files import to_json, write_atomic
from reverie.prob.contracts import Latent
from reverie.progress import Progress, Quiet
from reverie.trained import Trained


def gradients(
    run: Trained,
    *,
    k: int | None = None,
    rows: int = 50,
    draws: int = 400,
    only: tuple[str, ...] = (),
    split: str = "train",
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure bias and variance of the estimators of the gradient, at the run's weights and on the same rows.

    Args:
        k: samples a row (default: the run's own, 5 where it has none).
        rows: how many, drawn at random from the split; the gradient is averaged over them.
        draws: gradients of each estimator.
        only: names of estimators; default: all that the model allows.
        split: whose rows.
        seed: of the rows and of everything drawn.
        out: a .png or .svg of them side by side.
        progress: where it is told how far it is.

    Returns:
        By estimator, `evaluate.gradients.Measured` of ``P`` and of ``Q``, and ``ms``, milliseconds of one gradient.
        Kept in ``gradients.json``.

    Raises:
        ReverieError: for a model that is not directed, an unknown split or estimator, or numbers that are too small.
    """
    model = run.model
    if not isinstance(model, Latent):
        raise ReverieError(
            f"gradients: compares estimators for directed models with latents, which {run.record['model']} is not; "
            "take a run of vae, iwae, helmholtz, darn and the like"
        )
    if split not in run.data.splits:
        raise ReverieError(f"split: {split!r} is not one of {', '.join(run.data.splits)}")
    if rows < 1:
        raise ReverieError(f"rows: {rows} are too few; give 1 or more")
    k = int(run.record["settings"].get("k", 5)) if k is None else k
    x, given = _some(run, model, split, rows, seed)
    todo = plan(model, x, given, max(k, 1), only)
    with (progress or Quiet()).task(f"gradients of {run.path.name}", todo.size) as task:
        found = measuring.measure(
            model, x, given=given, k=k, draws=draws, only=only, seed=seed, progress=lambda done: task.update(done)
        )
    told = lambda one: {g: v.to_json() if g in measuring.GROUPS else v for g, v in one.items()}  # noqa: E731
    plain = {name: told(one) for name, one in found.items()}
    how = {"k": k, "rows": len(x), "draws": draws, "split": split, "seed": seed, "estimators": plain}
    write_atomic(run.path / "gradients.json", to_json(how, indent=1))
    if out is not None:
        from reverie.report.gradients import estimators
        from reverie.report.style import save

        save(estimators(plain), Path(out))
    return found


def _some(run: Trained, model: Latent, split: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return rows of a split, drawn at random, and their classes where the model wants them."""
    size = run.data.size(split)
    chosen = np.sort(np.random.default_rng([seed, size]).permutation(size)[:number])
    x = np.concatenate([run.data.rows(split, i, i + 1) for i in chosen.tolist()])
    if not getattr(model, "conditional", False):
        return x, None
    labels = run.data.labels(split)
    return x, np.eye(run.facts.classes, dtype=np.float32)[np.asarray(labels)[chosen]]
