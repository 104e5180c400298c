"""Figures of an energy: both sides of log Z, and what its hidden units do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from reverie.report.figures import legend_above
from reverie.report.style import DASHES, INK, MARKERS, RULE, RUNS, blank, drawn

#: A unit that is on for less than this share of the rows, or off for less, tells them nothing.
IDLE = 0.01


@drawn
def log_z_rounds(
    temperatures: Sequence[int], ends: Mapping[str, Sequence[tuple[float, float]]], truth: float | None
) -> Figure:
    """Draw what each side says of log Z (value, standard error) against the length of the path, the truth as a line."""
    figure, axes = blank(480, 250)
    for i, (name, found) in enumerate(ends.items()):
        values, errors = np.asarray(found, float).T
        axes.errorbar(temperatures[: len(values)], values, yerr=errors, color=RUNS[i], linestyle=DASHES[i],
                      marker=MARKERS[i], markersize=5, capsize=3, linewidth=1.5, label=name)  # fmt: skip
    if truth is not None:
        axes.axhline(truth, color=INK, linewidth=1, linestyle=(0, (4, 2)), label="exact")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(temperatures), [f"{t:,}" for t in temperatures])
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("temperatures of the path")
    axes.set_ylabel("log Z, nats")
    legend_above(axes, 4)
    return figure


@drawn
def log_z_training(
    epochs: Float[np.ndarray, " v"], low: Float[np.ndarray, " v"], high: Float[np.ndarray, " v"]
) -> Figure:
    """Draw the bracket of log Z over training as a band; a line where it is exact."""
    figure, axes = blank(480, 230)
    if np.allclose(low, high, rtol=0, atol=1e-9):
        axes.plot(epochs, low, color=RUNS[0], label="exact")
    else:
        axes.fill_between(epochs, low, high, color=RUNS[0], alpha=0.25, linewidth=0)
        axes.plot(epochs, low, color=RUNS[0], linewidth=1.2, label="forwards")
        axes.plot(epochs, high, color=RUNS[1], linewidth=1.2, linestyle=DASHES[1], label="from the other side")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel("log Z, nats")
    legend_above(axes, 2)
    return figure


@drawn
def activation_histogram(means: Mapping[str, Float[np.ndarray, " d"]]) -> Figure:
    """Draw how often units are on, a histogram a layer."""
    figure, axes = blank()
    labels = [f"layer {name}" for name in means]
    colours = [RUNS[i % 6] for i in range(len(means))]
    axes.hist(list(means.values()), bins=np.linspace(0, 1, 26).tolist(), stacked=True, color=colours, label=labels)
    axes.set_xlabel("mean activation of a unit over test rows")
    axes.set_ylabel("units")
    if len(means) > 1:
        legend_above(axes, 3)
    return figure


@drawn
def activation_bars(means: Mapping[str, Float[np.ndarray, " d"]]) -> Figure:
    """Draw each unit's mean activation, sorted within its layer, with the limits of what tells nothing."""
    figure, axes = blank()
    start = 0
    for i, (name, values) in enumerate(means.items()):
        axes.bar(np.arange(start, start + values.size), np.sort(values)[::-1], width=0.85, color=RUNS[i % 6],
                 label=f"layer {name}")  # fmt: skip
        start += values.size + 2
    for limit in (IDLE, 1 - IDLE):
        axes.axhline(limit, color=RULE, linewidth=1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("units, sorted")
    axes.set_ylabel("mean activation")
    axes.set_xticks([])
    if len(means) > 1:
        legend_above(axes, 3)
    return figure
