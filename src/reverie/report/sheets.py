"""Rows of a table as a picture: text below the names of the columns, several looks at a row one under the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reverie.report.cells import MOST, digits_of
from reverie.report.style import INK, RULE, RUNS, SOFT, blank, drawn, save

#: Lines of a sheet; and points that a letter and a line of it take.
LINES, _LETTER, _LINE, _SIZE = 64, 5.6, 14.0, 9.0
#: Stands for a cell that is not there.
_GAP = "?"


def readable(rows: np.ndarray) -> bool:
    """Say whether rows are told as text: of a table that is not too wide."""
    return rows.ndim == 2 and rows.shape[1] <= MOST


def shown(looks: Mapping[str, np.ndarray]) -> int:
    """Return how many rows a sheet has room for."""
    return LINES // len(looks)


def short(look: str) -> str:
    """Return the name of a look without what its colours are."""
    return look.split(" (")[0]


def save_sheet(looks: Mapping[str, Shaped[np.ndarray, "n D"]], columns: Sequence[str] | None, path: Path) -> Path:
    """Write the first rows as a .png and return its path; the file appears whole or not at all.

    Args:
        looks: names, and rows in the file's units, words where a column has them; one look needs no name.
        columns: names of the columns, where they are known.
    """
    return save(sheet(looks, columns), path)


@drawn
def sheet(looks: Mapping[str, Shaped[np.ndarray, "n D"]], columns: Sequence[str] | None) -> Figure:
    """Draw the first rows; what the first look lacks is amber there, and bold in the others."""
    texts = _texts([rows[: shown(looks)] for rows in looks.values()])
    n, width = texts[0].shape
    names = list(columns) if columns and len(columns) == width else [str(place + 1) for place in range(width)]
    head = ["row", *([""] if len(looks) > 1 else []), *names]
    lines = [[str(row + 1) if not place else "", *([short(look)] if len(looks) > 1 else []), *texts[place][row]]
             for row in range(n) for place, look in enumerate(looks)]  # fmt: skip
    ends = np.cumsum([max(len(line[place]) for line in [head, *lines]) + 2 for place in range(len(head))])
    figure, axes = blank(_LETTER * (ends[-1] + 2), _LINE * (len(lines) + 2.5))
    axes.set(xlim=(0, ends[-1]), ylim=(len(lines), -1.2))
    axes.set_axis_off()
    _say(axes, ends, head, -0.5, [SOFT] * len(head))
    for y, line in enumerate(lines):
        lacking = [False] * (len(head) - width) + (texts[0][y // len(looks)] == _GAP).tolist()
        first = y % len(looks) == 0
        colours = [RUNS[4] if gap and first else INK for gap in lacking]
        _say(axes, ends, line, y + 0.5, colours, bold=[gap and not first for gap in lacking])
        if first:
            axes.axhline(y, color=RULE, linewidth=0.6)
    return figure


def _say(
    axes: Axes, ends: np.ndarray, line: Sequence[str], y: float, colours: Sequence[str], bold: Sequence[bool] = ()
) -> None:
    """Write a line, each cell flush right at its end, but for the names of looks."""
    for place, (end, text, colour) in enumerate(zip(ends, line, colours, strict=True)):
        weight = "bold" if bold and bold[place] else "normal"
        how: dict[str, Any] = {"family": "DejaVu Sans Mono", "size": _SIZE, "color": colour, "weight": weight}
        axes.text(end - 1, y, text, ha="right", va="center", **how)


def _texts(looks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the cells of all looks as text, the numbers of a column with as many decimals as its spread asks for."""
    found = [np.full(rows.shape, _GAP, object) for rows in looks]
    for column in range(looks[0].shape[1]):
        parts = [rows[:, column] for rows in looks]
        numbers = [float(v) for part in parts for v in part if not isinstance(v, str) and v == v]
        whole = all(v.is_integer() for v in numbers)
        digits = 0 if whole else int(digits_of(np.asarray(np.std(numbers))))
        for part, into in zip(parts, found, strict=True):
            into[:, column] = [v if isinstance(v, str) else f"{v:.{digits}f}" if v == v else _GAP for v in part]
    return found
