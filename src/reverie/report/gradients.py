"""Estimators of a gradient side by side: how far a draw lies from what it is an estimate of, and how far its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reverie.report.style import ACCENT, RUNS, SECOND, SOFT, drawn

_GROUPS = {"P": "P, what generates", "Q": "Q, what infers"}
_TARGETS = {"elbo": "the ELBO", "bound": "the k-sample bound", "wake": "−KL(p | q)", "dreams": "log q of dreams"}


@drawn
def estimators(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw noise (dots) and bias (diamonds, with two standard errors) of every estimator, for P and for Q.

    Args:
        found: by estimator, ``P`` and ``Q`` with ``noise``, ``bias``, ``bias_low``, ``bias_high``, ``target``.
    """
    names = list(found)
    figure = Figure(figsize=(700 / 72, (86 + 23 * len(names)) / 72), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, group in ((left, "P"), (right, "Q")):
        _panel(axes, [found[name][group] for name in names])
        axes.set_title(_GROUPS[group])
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    figure.supxlabel("in lengths of the gradient that is estimated", fontsize=9.5, color=SOFT)
    return figure


def _panel(axes: Axes, ways: Sequence[Mapping[str, Any]]) -> None:
    axes.set_xscale("log")
    axes.grid(axis="x")
    floor = 0.5 * min(w["noise"] or 1.0 for w in ways)
    floor = min([floor, *(0.7 * w["bias_high"] for w in ways if w["bias_high"] > 0)])
    axes.axvline(1.0, color=SOFT, linewidth=0.8)
    rows = range(len(ways))
    axes.plot([w["noise"] for w in ways], rows, "o", color=ACCENT, markersize=6, label="noise of one draw")
    shown = [(w, y) for w, y in zip(ways, rows, strict=True) if w["biased"]]
    unseen = [(w, y) for w, y in zip(ways, rows, strict=True) if not w["biased"]]
    for way, y in shown:
        axes.plot([max(way["bias_low"], floor), way["bias_high"]], [y, y], color=SECOND, linewidth=1.4)
    axes.plot([w["bias"] for w, _ in shown], [y for _, y in shown], "D", color=SECOND, markersize=6, label="bias")
    axes.plot([max(w["bias_high"], floor) for w, _ in unseen], [y for _, y in unseen], "<", color=RUNS[2], markersize=6,
              fillstyle="none", label="no bias shown: at most")  # fmt: skip
    for way, y in zip(ways, rows, strict=True):
        axes.annotate(_TARGETS[way["target"]], (0.0, y), xycoords=("axes fraction", "data"), xytext=(3, 3),
                      textcoords="offset points", color=SOFT, fontsize=7)  # fmt: skip
    axes.set_xlim(left=0.15 * floor)
