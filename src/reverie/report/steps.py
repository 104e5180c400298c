"""The figure of a machine's memory over time, as in the Neural Turing Machine's paper: six plates, one clock."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reverie.report.strips import shaded
from reverie.report.style import INK, SOFT, drawn

#: Weights that are seen, and the most slots that are drawn.
_SEEN, _MOST = 0.05, 64


def used(found: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Return the first and the number of the neighbouring slots (the memory is a ring) that hold every weight seen."""
    both = np.concatenate([found["writes"], found["reads"]], axis=1)
    places = np.flatnonzero(both.max(axis=(0, 1)) > _SEEN)
    slots = both.shape[2]
    if not len(places):
        return 0, min(slots, _MOST)
    # The largest gap between neighbours on the ring is what is left out.
    gaps = np.diff(np.append(places, places[0] + slots))
    start = places[(int(gaps.argmax()) + 1) % len(places)]
    return int(start), min(int(slots - gaps.max() + 1), slots, _MOST)


@drawn
def memory_over_time(found: Mapping[str, np.ndarray]) -> Figure:
    """Draw inputs, adds and write weightings on the left; outputs, reads and read weightings on the right.

    Time goes to the right in all of them.
    """
    start, count = used(found)
    ring = (start + np.arange(count)) % found["writes"].shape[2]
    heads = lambda name: np.concatenate([head[:, ring] for head in found[name].swapaxes(0, 1)], axis=1)  # noqa: E731
    plates = [
        [("inputs", found["heard"]), ("adds", found["adds"]), ("write weightings", heads("writes"))],
        [("outputs", found["answers"]), ("reads", found["got"]), ("read weightings", heads("reads"))],
    ]
    heights = [max(len(rows.T) for _, rows in pair) for pair in zip(*plates, strict=True)]
    figure = Figure(figsize=(9.2, 7.2), layout="constrained")
    every = figure.subplots(3, 2, sharex=True, gridspec_kw={"height_ratios": [max(12, min(h, 40)) for h in heights]})
    for column, pairs in enumerate(plates):
        for row, (name, values) in enumerate(pairs):
            _plate(every[row][column], name, values, _ends(name, values))
    _asked(every, found["targets"])
    for axes in every[2]:
        _slots(axes, ring, len(found["writes"][0]) if axes is every[2][0] else len(found["reads"][0]))
        axes.set_xlabel("step")
    return figure


def _ends(name: str, values: np.ndarray) -> tuple[float, float]:
    """Return what pale and full stand for: weights and chances go from 0 to 1, vectors as far as they do."""
    if name in ("outputs", "write weightings", "read weightings"):
        return 0.0, 1.0
    return min(0.0, float(np.nanmin(values))), max(1e-12, float(np.nanmax(values)))


def _plate(axes: Axes, name: str, values: Float[np.ndarray, "T C"], ends: tuple[float, float]) -> None:
    low, high = ends
    shaded(axes, (np.nan_to_num(values.T) - low) / (high - low))
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(values.shape[1] - 0.5, -0.5), yticks=[])
    scale = "" if (low, high) == (0.0, 1.0) else f" ({low:.1f} to {high:.1f})".replace("-", "−")
    axes.set_title(f"{name}{scale}")
    axes.grid(False)


def _asked(every: np.ndarray, targets: np.ndarray) -> None:
    """Mark the first step at which something is asked for."""
    asked = ~np.isnan(targets).all(axis=1)
    if asked.any() and asked.argmax():
        for axes in every.ravel():
            axes.axvline(int(asked.argmax()) - 0.5, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))


def _slots(axes: Axes, ring: np.ndarray, heads: int) -> None:
    places = np.arange(0, len(ring), max(1, len(ring) // 8))
    every = [(head * len(ring) + place, str(ring[place])) for head in range(heads) for place in places]
    if heads == 1:
        axes.set_yticks([place for place, _ in every], [name for _, name in every])
    for head in range(1, heads):
        axes.axhline(head * len(ring) - 0.5, color=SOFT, linewidth=0.8)
    axes.set_ylabel("slot" if heads == 1 else f"slots of {heads} heads")
