"""The figure of what a memory network reads: sentences of a story by hop, as in its paper, for a few questions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reverie.report.strips import shaded
from reverie.report.style import INK, SOFT, drawn

#: The smallest weight that is written; the most sentences that are drawn of a story.
_WRITTEN, _MOST = 0.05, 8
_WIDE = 46


@drawn
def attention(found: Mapping[str, Any]) -> Figure:
    """Draw, for each question, how much each hop attends to each sentence: one column a hop, the oldest sentence first.

    Args:
        found: ``questions``, ``told`` (the answers), ``right``, ``chances`` (n,), ``attention`` (n, K, S) newest first,
            and ``sentences`` (n, S), "" where there is none.
    """
    chosen = [_read(weights, names) for weights, names in zip(found["attention"], found["sentences"], strict=True)]
    heights = [len(names) + 2.2 for _, names in chosen]
    figure = Figure(figsize=(7.4, 0.24 * sum(heights)), layout="constrained")
    every = np.atleast_1d(figure.subplots(len(chosen), 1, gridspec_kw={"height_ratios": heights}))
    for n, (axes, (weights, names)) in enumerate(zip(every, chosen, strict=True)):
        _plate(axes, weights, names)
        told, right = str(found["told"][n]), str(found["right"][n])
        verdict = "" if told == right else f"; right is {right}"
        axes.set_title(f"{found['questions'][n]}?  {told} ({found['chances'][n]:.2f}){verdict}", loc="left")
    every[-1].set_xlabel("hop")
    return figure


def _read(weights: Float[np.ndarray, "K S"], names: Sequence[str]) -> tuple[Float[np.ndarray, "s K"], list[str]]:
    """Return weights and sentences that are drawn, the oldest first: those that some hop attends to most."""
    there = [place for place, name in enumerate(names) if name]
    kept = sorted(sorted(there, key=lambda place: -weights[:, place].max())[:_MOST], reverse=True)
    return weights[:, kept].T, [str(names[place]) for place in kept]


def _plate(axes: Axes, weights: Float[np.ndarray, "s K"], names: Sequence[str]) -> None:
    # Never so dark that the number in it could not be read.
    shaded(axes, weights, full=0.85)
    for (row, hop), weight in np.ndenumerate(weights):
        if weight >= _WRITTEN:
            axes.text(hop, row, f"{weight:.2f}", ha="center", va="center", color=INK, fontsize="small")
    axes.set(xlim=(-0.5, weights.shape[1] - 0.5), ylim=(max(len(names), 1) - 0.5, -0.5))
    axes.set_xticks(range(weights.shape[1]), [str(hop + 1) for hop in range(weights.shape[1])])
    axes.set_yticks(range(len(names)), [textwrap.shorten(name, _WIDE, placeholder=" ...") for name in names])
    axes.tick_params(length=0, colors=SOFT)
    axes.grid(False)
