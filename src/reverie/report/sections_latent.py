"""The sections on the latent: where codes and draws of the prior lie, walks along units, lines between rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reverie.report import blocks, figures, strips
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView
from reverie.report.style import signed

#: Walks of a table that are shown, each a handful of strips of heat.
_TABLED = 4


def plane(run: RunView) -> list[Block]:
    """Return codes of two numbers by class, and beside them the density of the prior's draws, in one window.

    Of a model that gives rows no codes it is the density alone.
    """
    arrays = run.arrays("latent")
    points, prior = arrays.get("points", np.zeros((0, 2))), arrays.get("prior")
    if prior is None or not np.isfinite(points).all() or not np.isfinite(prior).all():
        return []
    both = np.concatenate([points, prior])
    low, high = both.min(axis=0), both.max(axis=0)
    room = 0.15 * np.where(high > low, high - low, 1.0)
    window = np.stack([low - room, high + room], axis=1)
    try:
        density = figures.code_density(prior, window)
    except ValueError:
        return []
    name, where = f"Density of {len(prior)} draws of the prior", f"density of {len(prior):,} of its draws, smoothed."
    if not len(points):
        return [blocks.figure(density, name, f"Where the prior of the two numbers lies: {where}")]
    scatter = figures.code_scatter(points, arrays.get("labels"), run.class_names, "latent")
    scatter.axes[0].set(xlim=window[0], ylim=window[1])
    drawn = bool(arrays.get("drawn", False))
    what = "A draw of each test row's code" if drawn else "The code of each test row"
    by = ", by class." if "labels" in arrays else "."
    return [
        blocks.figure(scatter, f"Scatter of {len(points)} codes{by}", f"{what}{by}"),
        blocks.figure(
            density, name,
            f"Where the prior lies: {where} "
            "Rows where it is pale are seldom generated; what it generates where there are no rows is unlike them.",
        ),
    ]  # fmt: skip


def latent(run: RunView) -> Section | None:
    """Return walks along units and lines between codes; of two numbers that no row has, their density."""
    walks, lines, ends = (run.pictures("latent", name) for name in ("walks", "lines", "ends"))
    if walks is None and lines is None:
        return None
    section = Section("latent", "Walks through the code", "Means of x at codes that no row has.")
    if walks is not None:
        section.add(_strips(run, list(walks), _units(run), "Walks along units", _walk_words(run, walks.shape[1])))
    if lines is not None:
        parts, names = list(lines), [f"line {i}" for i in range(1, len(lines) + 1)]
        words = "Along the straight line between two draws of the prior, from one to the other."
        if ends is not None:
            parts = [np.concatenate([end[:1], line, end[1:]]) for end, line in zip(ends, lines, strict=True)]
            words = (
                "Along the straight line between the codes of two test rows, which stand at either end; "
                "next to each is what its own code gives."
            )
        section.add(_strips(run, parts, names, "Lines between codes", words))
    if "points" not in run.arrays("latent"):
        # Where rows have codes the density stands beside these.
        section.add(*plane(run))
    return section


def _units(run: RunView) -> list[str]:
    arrays = run.arrays("latent")
    pairs = zip(arrays["units"], arrays["reach"], strict=True)
    return [f"unit {unit + 1}: {signed(low, 1)} to {signed(high, 1)}" for unit, (low, high) in pairs]


def _walk_words(run: RunView, steps: int) -> str:
    own = "ends" in run.arrays("latent")
    whose = "codes of the test rows" if own else "draws of the prior"
    first = "The units that vary most over test rows" if own else "The first units of the noise"
    return (
        f"{first}, each moved in {steps} steps from 2 standard deviations below the mean of the {whose} to 2 above, as "
        f"far as any of these reach; the other units stay as they are in the one nearest to that mean."
    )


def _strips(run: RunView, parts: Sequence[np.ndarray], names: list[str], alt: str, words: str) -> Block:
    """Return rows of images under one another, or of a table strips of heat in named groups."""
    if len(run.shape) > 1:
        return blocks.film(list(zip(names, parts, strict=True)), alt, words, width=540)
    rows = np.concatenate(parts[:_TABLED])
    scale = strips.scale_of(run, rows)
    drawing = strips.strips(rows, scale, run.data.get("columns"), names[:_TABLED])
    return blocks.figure(drawing, alt, f"{words} From top to bottom in each group. {scale.words}")
