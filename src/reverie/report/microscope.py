"""The memory microscope's figures: what a model's memory prefers, holds and cannot do without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from reverie.report.figures import legend_above
from reverie.report.style import ACCENT, INK, RULE, SECOND, SOFT, blank, drawn

#: More slots than this cannot be read as bars; those that matter most are shown.
_BARS = 40


def top_slots(preference: Float[np.ndarray, "classes slots"], count: int = 3) -> list[list[tuple[int, float]]]:
    """Return for every class the slots it attends to most, as (slot, mean attention), the strongest first.

    This is the table of Li, Zhu & Zhang, *Learning to Generate with Memory*, ICML 2016.
    """
    order = np.argsort(-preference, axis=1, kind="stable")[:, :count]
    return [[(int(slot), float(row[slot])) for slot in slots] for row, slots in zip(preference, order, strict=True)]


@drawn
def preference_map(preference: Float[np.ndarray, "classes slots"], class_names: Sequence[str]) -> Figure:
    """Draw the mean attention of each class (rows) to each slot (columns), from none to the most."""
    from matplotlib.collections import PolyCollection

    classes, slots = preference.shape
    figure, axes = blank(480, 50 + 17 * classes)
    most = max(float(np.nanmax(preference)), 1e-12)
    levels = np.clip(np.nan_to_num(preference) / most, 0, 1)
    i, j = (index.ravel() for index in np.indices(preference.shape))
    square = np.array([(-0.5, -0.46), (0.5, -0.46), (0.5, 0.46), (-0.5, 0.46)])
    cells = np.stack([j, i], axis=1)[:, None, :] + square
    for level in np.unique(np.rint(levels * 20)):
        # Opacity rather than a colour map, so that the drawing reads on a light page and on a dark one.
        chosen = np.rint(levels.ravel() * 20) == level
        axes.add_collection(PolyCollection(cells[chosen], facecolors=ACCENT, alpha=0.03 + 0.97 * float(level) / 20))
    axes.set(xlim=(-0.5, slots - 0.5), ylim=(classes - 0.5, -0.5), ylabel="class")
    axes.set_xlabel(f"slot (full colour: {most:.2f})")
    names = [class_names[c] if c < len(class_names) else str(c) for c in range(classes)]
    axes.set_yticks(range(classes), names)
    axes.set_xticks(range(0, slots, max(1, -(-slots // 24))))
    axes.grid(False)
    return figure


def similarity(profile: Float[np.ndarray, "classes slots"]) -> Float[np.ndarray, "classes classes"]:
    """Return the correlation of every two classes' mean normalised attention; 0 with a class that never varies."""
    centred = profile - profile.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = centred / np.where(lengths > 1e-12, lengths, 1.0) * (lengths > 1e-12)
    return unit @ unit.T


@drawn
def class_graph(profile: Float[np.ndarray, "classes slots"], class_names: Sequence[str]) -> Figure:
    """Draw the classes as a graph: the more alike their attention, the nearer and the stronger the line between them.

    Places are the two leading eigenvectors of the centred correlations (classical scaling; the paper's springs find
    places of the same kind, but others at each run).  Each class is joined to the two it resembles most.
    """
    from matplotlib.collections import LineCollection

    alike = similarity(profile)
    centre = np.eye(len(alike)) - 1 / len(alike)
    values, vectors = np.linalg.eigh(centre @ alike @ centre)
    places = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    places = places[:, ::-1] / max(float(np.abs(places).max()), 1e-12)
    others = np.where(np.eye(len(alike), dtype=bool), -np.inf, alike)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, : min(2, len(alike) - 1)]
    joined = sorted({(min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row if alike[i, j] > 0})
    figure, axes = blank(380, 320)
    strength = np.array([alike[i, j] for i, j in joined])
    lines = [places[[i, j]] for i, j in joined]
    axes.add_collection(LineCollection(lines, colors=ACCENT, linewidths=1 + 3 * strength, alpha=0.35))
    for c, (x, y) in enumerate(places):
        name = class_names[c] if c < len(class_names) else str(c)
        box = {"boxstyle": "round,pad=0.3", "facecolor": RULE, "edgecolor": "none"}
        axes.text(x, y, name, color=INK, ha="center", va="center", fontweight="bold", bbox=box)
    low, high = places.min(axis=0) - 0.2, places.max(axis=0) + 0.2
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure


@drawn
def knockout_bars(knockout: Float[np.ndarray, "slots 2"], unit: str = "nats") -> Figure:
    """Draw how far the test log-likelihood falls when a slot is silenced, with two standard errors."""
    figure, axes = blank(480, 230)
    order = np.argsort(-np.nan_to_num(knockout[:, 0], nan=-np.inf), kind="stable")[:_BARS]
    falls, errors = knockout[order].T
    places = np.arange(order.size)
    axes.bar(places, falls, color=ACCENT, alpha=0.8, width=0.8)
    axes.errorbar(places, falls, yerr=2 * np.nan_to_num(errors), fmt="none", ecolor=INK, elinewidth=1, capsize=1.5)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.set_xticks(places, [str(slot) for slot in order], rotation=90 if order.size > 15 else 0)
    axes.tick_params(axis="x", labelsize=8 if order.size > 15 else 9)
    left_out = len(knockout) - order.size
    axes.set_xlabel("slot" + (f" (the {order.size} that matter most; {left_out} more)" if left_out else ""))
    axes.set_ylabel(f"fall of the log-likelihood, {unit}")
    return figure


@drawn
def entropy_histogram(entropy: Float[np.ndarray, " n"], slots: int) -> Figure:
    """Draw how concentrated attention is, row by row: 0 is one slot alone, log(slots) is all alike."""
    figure, axes = blank()
    most = np.log(slots)
    axes.hist(entropy, bins=np.linspace(0, max(most, float(entropy.max())), 31).tolist(), color=ACCENT, alpha=0.8)
    axes.axvline(most, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"all slots alike, {most:.2f}")
    axes.axvline(entropy.mean(), color=SECOND, linewidth=2, label=f"mean {entropy.mean():.2f}")
    axes.set_xlabel("entropy of attention, nats")
    axes.set_ylabel("rows")
    legend_above(axes)
    return figure


@drawn
def usage_bars(usage: Float[np.ndarray, " slots"]) -> Figure:
    """Draw the mean attention each slot gets, the most used first."""
    figure, axes = blank()
    axes.bar(np.arange(usage.size), np.sort(usage)[::-1], color=ACCENT, alpha=0.8, width=0.85)
    axes.axhline(float(usage.mean()), color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.annotate("mean", (1.0, float(usage.mean())), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set_xlabel("slots, most used first")
    axes.set_ylabel("mean attention")
    axes.set_xticks([])
    return figure
