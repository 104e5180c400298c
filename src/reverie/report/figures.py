"""Figures of a run: pure functions from arrays to a matplotlib `Figure`, drawn without pyplot's global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from reverie.report.style import ACCENT, CLASSES, DASHES, INK, MARKERS, RULE, RUNS, SECOND, SOFT, blank, drawn, signed

#: A unit is active when the variance of its posterior mean exceeds this (Burda et al. 2016).
ACTIVE = 1e-2
#: More points than this say nothing more, and make a page heavy.
POINTS = 2000
#: Where the bands of a density begin, as shares of its greatest.
BANDS = (0.02, *np.linspace(0.1, 1.0, 10).tolist())


@dataclass(frozen=True)
class Curve:
    """What one run did over its epochs.

    Attributes:
        name: of the run.
        epochs, values: the training objective or bound, higher is better.
        label: what `values` is, such as ``bound``.
        valid_epochs, valid: log-likelihood on the validation rows, or what else `judged` names; its best is marked.
        band: the ends of the bracket that it is one end of, None where it is no bracket.
    """

    name: str
    epochs: Float[np.ndarray, " t"]
    values: Float[np.ndarray, " t"]
    label: str
    valid_epochs: Float[np.ndarray, " v"]
    valid: Float[np.ndarray, " v"]
    band: tuple[Float[np.ndarray, " v"], Float[np.ndarray, " v"]] | None = None
    judged: str = "log-likelihood"

    @property
    def best(self) -> int | None:
        """Index of the best validation, None without any."""
        return int(np.nanargmax(self.valid)) if np.isfinite(self.valid).any() else None


def beside_line(axes: Axes, x: float, text: str, *, left: bool = False) -> None:
    """Write beside the top of a vertical line at `x`."""
    axes.annotate(text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, -1),
                  textcoords="offset points", ha="right" if left else "left", va="top")  # fmt: skip


def legend_above(axes: Axes, columns: int = 2) -> None:
    """Set the legend above the axes, where nothing drawn can run through it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


@drawn
def learning_curves(curves: Sequence[Curve], unit: str = "nats") -> Figure:
    """Draw the training value (thin) and what validation rows are judged by (thick) over epochs, its best marked."""
    several = len(curves) > 1
    # Room for two lines of the legend for each of several runs.
    figure, axes = blank(480, 270 + 28 * len(curves) * several)
    for i, curve in enumerate(curves):
        colour, valid_colour = RUNS[i % len(RUNS)], RUNS[i % len(RUNS)] if several else SECOND
        who = f" {curve.name}: " if several else ""
        if curve.values.size:
            told = f"{who}{curve.label}, train"
            axes.plot(curve.epochs, curve.values, color=colour, linewidth=1, alpha=0.75, label=told)
        if curve.best is not None:
            style: dict[str, Any] = {"color": valid_colour, "linestyle": DASHES[i % len(DASHES)]}
            told = f", best {signed(curve.valid[curve.best])}" if several else ""
            what = curve.label if curve.label in ("accuracy", "minus the squared error") else curve.judged
            axes.plot(curve.valid_epochs, curve.valid, **style, label=f"{who}{what}, validation{told}")
            _mark_best(axes, curve, valid_colour, named=not several)
            if curve.band is not None:
                axes.fill_between(curve.valid_epochs, *curve.band, color=valid_colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.set_ylim(*_worth_seeing(curves))
    legend_above(axes, 1 if several else 2)
    return figure


def _mark_best(axes: Axes, curve: Curve, colour: str, *, named: bool) -> None:
    best = curve.best or 0
    x, y = curve.valid_epochs[best], curve.valid[best]
    axes.plot([x], [y], marker="o", markersize=6, color=colour, linestyle="none")
    if not named:
        return
    late = x > 0.6 * float(curve.valid_epochs[-1])
    axes.annotate(f"best {signed(y)}", (x, y), xytext=(-4 if late else 4, 8), textcoords="offset points", color=colour,
                  ha="right" if late else "left")  # fmt: skip


def cut_off(curves: Sequence[Curve]) -> bool:
    """Say whether `learning_curves` leaves out values that lie below its axis."""
    low, _ = _worth_seeing(curves)
    return any(bool((values[np.isfinite(values)] < low).any()) for c in curves for values in (c.values, c.valid))


def _worth_seeing(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return limits that show where the runs end rather than where they began, far below."""
    late, top = [], []
    for curve in curves:
        for epochs, values in ((curve.epochs, curve.values), (curve.valid_epochs, curve.valid)):
            finite = np.isfinite(values)
            if finite.any():
                start = epochs[finite].max() * 0.06
                after = values[finite & (epochs >= start)]
                late.append(after.min())
                top.append(values[finite].max())
    if not late:
        return -1.0, 0.0
    room = max(max(top) - min(late), 1e-6)
    return min(late) - 0.05 * room, max(top) + 0.14 * room


@drawn
def row_histogram(values: Float[np.ndarray, " n"], unit: str = "nats", what: str = "log-likelihood") -> Figure:
    """Draw how the rows' own log-likelihoods are spread, with their mean."""
    figure, axes = blank(480, 215)
    values = values[np.isfinite(values)]
    axes.hist(values, bins=min(40, max(5, int(np.sqrt(values.size)))), color=ACCENT, alpha=0.75)
    axes.axvline(values.mean(), color=INK, linewidth=1.2)
    beside_line(axes, values.mean(), f"mean {signed(values.mean())}")
    axes.set_xlabel(f"{what} of a row, {unit}")
    axes.set_ylabel("rows")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    return figure


@drawn
def activity_histogram(activity: Mapping[str, Float[np.ndarray, " d"]]) -> Figure:
    """Draw log10 of the variance of each unit's posterior mean, a histogram a layer, with the threshold 0.01."""
    figure, axes = blank()
    logs = {name: np.log10(np.maximum(a, 1e-12)) for name, a in activity.items()}
    low, high = min(v.min() for v in logs.values()), max(v.max() for v in logs.values())
    bins = np.linspace(min(low, -3) - 0.1, max(high, 0.5) + 0.1, 26).tolist()
    active = {name: int((activity[name] > ACTIVE).sum()) for name in logs}
    labels = [f"layer {name}: {active[name]} of {v.size} active" for name, v in logs.items()]
    axes.hist(list(logs.values()), bins=bins, stacked=True, color=[RUNS[i % 6] for i in range(len(logs))], label=labels)
    axes.axvline(np.log10(ACTIVE), color=INK, linestyle=(0, (4, 2)), linewidth=1.2, label="threshold 0.01")
    axes.set_xlabel("log10 of the variance of the unit's posterior mean")
    axes.set_ylabel("units")
    legend_above(axes)
    return figure


@drawn
def kl_bars(kl: Mapping[str, Float[np.ndarray, " d"]], unit: str = "nats") -> Figure:
    """Draw what each unit costs, KL(q, p) averaged over rows, the dearest first within each layer."""
    figure, axes = blank()
    start = 0
    for i, (name, values) in enumerate(kl.items()):
        places = start + np.arange(values.size)
        label = f"layer {name}: {np.nansum(values):.1f} {unit} in all"
        axes.bar(places, np.sort(np.nan_to_num(values))[::-1], width=0.85, color=RUNS[i % 6], label=label)
        start += values.size + 2
    axes.set_xlabel("units, sorted")
    axes.set_ylabel(f"KL divergence, {unit}")
    axes.set_xticks([])
    legend_above(axes)
    return figure


@drawn
def code_scatter(
    codes: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"] | None, class_names: Sequence[str], kind: str
) -> Figure:
    """Draw two-dimensional codes, coloured by class; each class is also named at its median."""
    figure, axes = blank(420, 380)
    shown = np.linspace(0, len(codes) - 1, min(len(codes), POINTS)).astype(int)
    codes = codes[shown]
    groups = np.zeros(len(codes), int) if labels is None else np.asarray(labels)[shown].astype(int)
    for group in np.unique(groups):
        points = codes[groups == group]
        style = {"color": CLASSES[group % 10], "marker": MARKERS[(group // 10) % len(MARKERS)]}
        axes.plot(points[:, 0], points[:, 1], linestyle="none", markersize=3.4, alpha=0.8, markeredgewidth=0, **style)
    for group in np.unique(groups) if labels is not None else ():
        name = class_names[group] if 0 <= group < len(class_names) else str(group)
        x, y = np.median(codes[groups == group], axis=0)
        box = {"boxstyle": "round,pad=0.25", "facecolor": RULE, "edgecolor": "none", "alpha": 0.9}
        axes.text(x, y, name, color=INK, ha="center", va="center", fontweight="bold", bbox=box)
    first, second = ("first principal axis", "second") if kind == "pca" else ("first latent unit", "second")
    axes.set(xlabel=first, ylabel=second)
    axes.grid(True, axis="both")
    return figure


@drawn
def code_density(draws: Float[np.ndarray, "n 2"], window: Float[np.ndarray, "2 2"]) -> Figure:
    """Draw the density of two-dimensional draws, smoothed by a Gaussian kernel of Scott's width, in a window.

    Args:
        window: least and greatest x, then y.

    Raises:
        ValueError: for draws that all lie on a line, which have no density.
    """
    from scipy.stats import gaussian_kde

    try:
        kernel = gaussian_kde(np.asarray(draws, np.float64).T)
    except np.linalg.LinAlgError:
        raise ValueError("draws on a line have no density") from None
    figure, axes = blank(420, 380)
    x, y = (np.linspace(low, high, 120) for low, high in window)
    grid = kernel(np.stack([part.ravel() for part in np.meshgrid(x, y)])).reshape(len(y), len(x))
    levels = grid.max() * np.asarray(BANDS)
    shades = [to_rgba(ACCENT, alpha) for alpha in np.linspace(0.12, 1.0, len(levels) - 1)]
    axes.contourf(x, y, grid, levels=levels, colors=shades)
    axes.set(xlabel="first latent unit", ylabel="second", xlim=window[0], ylim=window[1])
    axes.grid(True, axis="both")
    return figure


@drawn
def imputation_errors(errors: Mapping[str, Float[np.ndarray, " t"]], unit: str = "") -> Figure:
    """Draw the mean squared error on missing cells over iterations, a line for each rule of what is missing."""
    figure, axes = blank(480, 230)
    for i, (name, values) in enumerate(errors.items()):
        iterations = np.arange(1, len(values) + 1)
        axes.plot(iterations, values, color=RUNS[i % 6], linestyle=DASHES[i % len(DASHES)], label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel("mean squared error" + (f", {unit}" if unit else ""))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.12)
    legend_above(axes, 3)
    _ends(figure, axes, list(errors.values()))
    return figure


def _ends(figure: Figure, axes: Axes, curves: Sequence[np.ndarray]) -> None:
    """Write each curve's last value to its right, moved apart where two would be written over one another."""
    figure.draw_without_rendering()
    places = [float(axes.transData.transform((0.0, values[-1]))[1]) for values in curves]
    last = -math.inf
    for i in np.argsort(places).tolist():
        last = max(places[i], last + 11)
        axes.annotate(f"{curves[i][-1]:.4f}", (len(curves[i]), curves[i][-1]), xytext=(5, last - places[i]),
                      textcoords="offset points", color=RUNS[i % 6], va="center")  # fmt: skip


@drawn
def paired_rows(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], names: tuple[str, str]) -> Figure:
    """Draw two models' values of the same rows against each other; above the line the first model is better."""
    figure, axes = blank()
    shown = np.linspace(0, len(a) - 1, min(len(a), POINTS)).astype(int)
    axes.plot(b[shown], a[shown], "o", color=ACCENT, markersize=3.2, alpha=0.45, markeredgewidth=0)
    ends = [min(a.min(), b.min()), max(a.max(), b.max())]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set(xlabel=f"log-likelihood of a row, {names[1]}", ylabel=names[0])
    axes.grid(True, axis="both")
    return figure


@drawn
def paired_spread(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Figure:
    """Draw how the row-by-row differences a - b are spread, beside a line at no difference."""
    figure, axes = blank()
    gap = a - b
    axes.hist(gap, bins=min(50, max(8, int(np.sqrt(a.size)))), color=ACCENT, alpha=0.75)
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.axvline(gap.mean(), color=SECOND, linewidth=2)
    beside_line(axes, float(gap.mean()), f"mean {signed(float(gap.mean()), 3, plus=True)}", left=gap.mean() < 0)
    axes.set(xlabel="difference, row by row", ylabel="rows")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    return figure


@drawn
def intervals(labels: Sequence[str], centres: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Figure:
    """Draw paired differences with their intervals, beside a line at no difference."""
    figure, axes = blank(480, 70 + 34 * len(labels))
    for i, (centre, low, high) in enumerate(zip(centres, lows, highs, strict=True)):
        clear = low > 0 or high < 0
        axes.plot([low, high], [i, i], color=ACCENT if clear else SOFT, linewidth=3)
        axes.plot([centre], [i], "o", color=ACCENT if clear else SOFT, markersize=7)
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_yticks(range(len(labels)), [label.replace(" - ", " − ") for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.set_xlabel("difference of the log-likelihood")
    return figure
