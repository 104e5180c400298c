"""Draws from an energy by chains of its own: how long, from where, how hot, and a picture of them over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError, an
from reverie.evaluate.chains import SWEEPS, Chain, Drawn, draw
from reverie.evaluate.log_z import Kept
from reverie.prob.contracts import Energy, OfLengths
from reverie.trained import Trained

#: Chains and columns of a picture.
_ROWS, _COLUMNS = 8, 10


def chain_of(run: Trained, asked: Mapping[str, Any]) -> Chain | None:
    """Return the chain that is asked for, None for a model that needs none.

    Args:
        asked: ``sweeps``, ``start``, ``tempered`` and ``picture``, each None where nothing was said.

    Raises:
        ReverieError: for such options of a model without chains, or values that make no sense.
    """
    model = run.model
    given = {name: value for name, value in asked.items() if value is not None}
    if not isinstance(model, Energy) or getattr(model, "conditional", False):
        for name in given:
            raise ReverieError(f"{name}: {an(run.record['model'])} draws rows without such a chain; leave it out")
        return None
    if isinstance(model, OfLengths):
        for name in {"tempered", "start", "picture"} & set(given):
            raise ReverieError(
                f"{name}: chains of {an(run.record['model'])} have documents of different lengths, which neither swap "
                "nor make a picture, and begin at the base law; leave it out"
            )
    if given.get("tempered", 2) < 2:
        raise ReverieError(f"tempered: {given['tempered']} replicas have no neighbours to swap with; give 2 or more")
    return Chain(given.get("sweeps", SWEEPS), given.get("start", "base"), given.get("tempered", 1))


def by_chains(
    run: Trained, n: int, chain: Chain, *, seed: int, picture: bool = False, watch: Callable[[int], None] | None = None,
    model: Energy | None = None,
) -> Drawn:  # fmt: skip
    """Return the ends of n chains of `model` (the run's), with frames for a picture if one is wanted."""
    rows = run.data.rows("test", 0, n) if chain.start == "data" else None
    frames = columns(chain.sweeps) if picture else ()
    return draw(run.model if model is None else model, n, chain, seed=seed, rows=rows, frames=frames, watch=watch)


def columns(sweeps: int) -> list[int]:
    """Return after how many sweeps a picture shows the chains: the start, then each about as much later again."""
    return [0, *np.unique(np.geomspace(1, sweeps, _COLUMNS - 1).round().astype(int)).tolist()]


def save_picture(path: str | Path, frames: np.ndarray, shape: Sequence[int]) -> Path:
    """Write the first chains of `frames` (f, n, D) as a picture: a row for each chain, later sweeps to the right."""
    from reverie.report.tiles import save_grid

    shown = np.moveaxis(frames[:, :_ROWS], 0, 1)
    return save_grid(shown.reshape(-1, *shape), path, columns=len(frames))


def kept_log_z(run: Trained, *, any_plan: bool = False, say: Callable[[str], None] | None = None) -> Kept:
    """Return the file of what is known of log Z of the run's weights."""
    return Kept(run.path / "log_z.json", str(run.folder.weights), any_plan=any_plan, say=say)
