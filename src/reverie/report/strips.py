"""Rows of a table as strips of heat: one scale for all that stand together, and missing cells that cannot be missed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from reverie.report.reading import RunView
from reverie.report.style import ACCENT, INK, RUNS, SOFT, blank, drawn

#: Steps of the colour between pale and full, and what is left of it at the palest.
_LEVELS, _PALEST = 12, 0.06
#: As the missing cells of images are.
_AMBER = RUNS[4]


class Scale(NamedTuple):
    """What pale and full stand for, column by column, and how that is told.

    Attributes:
        low, high: values of a column drawn palest and fullest.
        key: names of the two.
        words: a sentence for the caption.
    """

    low: Float[np.ndarray, " D"]
    high: Float[np.ndarray, " D"]
    key: tuple[str, str]
    words: str

    def __call__(self, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
        """Return values in [0, 1]; a column that never varies is pale."""
        width = self.high - self.low
        return (rows - self.low) / np.where(width > 0, width, 1.0)


def scale_of(run: RunView, *parts: Float[np.ndarray, "n D"]) -> Scale:
    """Return the scale for rows that are looked at together: of real values each column's own, else from 0 to 1."""
    rows = np.concatenate([part.astype(np.float64) for part in parts])
    if run.data.get("likelihood") not in ("gaussian", "mixed"):
        ends = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        return Scale(*ends, ("0", "1"), "Pale is 0, full colour 1.")
    with warnings.catch_warnings():
        # A column of which nothing is there has no lowest value, and needs none.
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = (np.nan_to_num(end(rows, axis=0)) for end in (np.nanmin, np.nanmax))
    words = "Each column has a scale of its own: pale is the lowest of its values shown here, full colour the highest."
    return Scale(low, high, ("lowest of its column", "highest"), words)


@drawn
def strips(
    rows: Float[np.ndarray, "n D"],
    scale: Scale,
    columns: Sequence[str] | None = None,
    groups: Sequence[str] = (),
) -> Figure:
    """Draw rows of a table as strips of heat on a scale, which a key above explains; missing cells are amber.

    `groups` names that many parts of the rows, of one length each, one under the other.
    """
    n, width = rows.shape
    named = columns is not None and len(columns) == width <= 40
    figure, axes = blank(400, min(440, 16 * n + (115 if named else 50)))
    present = np.isfinite(rows)
    levels = np.rint(np.clip(np.nan_to_num(scale(rows)), 0, 1) * _LEVELS)
    for level in np.unique(levels):
        # One path for all cells of a level keeps a drawing of thousands of cells small, and its colours CSS's.
        squares(axes, (levels == level) & present, alpha=_opacity(level))
    squares(axes, ~present, colour=_AMBER)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(n - 0.5, -0.5))
    axes.grid(False)
    size = n // max(1, len(groups))
    axes.set_yticks([size * (place + 0.5) - 0.5 for place in range(len(groups))], groups)
    for place in range(1, len(groups)):
        axes.axhline(size * place - 0.5, color=INK, linewidth=0.8)
    if named and columns is not None:
        axes.set_xticks(range(width), columns, rotation=90 if width > 8 else 0)
    else:
        axes.set_xlabel("column")
    _key(axes, scale, missing=not present.all())
    return figure


def _opacity(level: float) -> float:
    return _PALEST + (1 - _PALEST) * float(level) / _LEVELS


def _key(axes: Axes, scale: Scale, *, missing: bool) -> None:
    ends = zip(scale.key, (0, _LEVELS), strict=True)
    made = [Patch(facecolor=ACCENT, edgecolor=SOFT, alpha=_opacity(level), label=name) for name, level in ends]
    made += [Patch(facecolor=_AMBER, label="missing")] if missing else []
    axes.legend(handles=made, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.2)


def shaded(axes: Axes, shares: np.ndarray, levels: int = 10, full: float = 1.0) -> None:
    """Draw cells as squares, in so many steps, whose opacity is `full` times their share (0 to 1).

    Opacity rather than a colour map, so that the drawing reads on a light page and on a dark one.
    """
    steps = np.rint(np.clip(shares, 0, 1) * levels)
    for level in range(1, levels + 1):
        squares(axes, steps == level, alpha=full * level / levels)


def squares(axes: Axes, chosen: np.ndarray, alpha: float = 1.0, colour: str = ACCENT) -> None:
    i, j = np.nonzero(chosen)
    if not i.size:
        return
    half_x, half_y = 0.5, 0.42
    corners = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y), (0, 0)])
    vertices = (np.stack([j, i], axis=1)[:, None, :] + corners).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], i.size)
    axes.add_patch(PathPatch(Path(vertices, codes), facecolor=colour, edgecolor="none", alpha=alpha))
