"""What a page is made of: sections of rows of blocks, each block of a kind that the template knows how to set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from reverie.estimate import Estimate
from reverie.report import tiles
from reverie.report.style import inline_svg, signed

#: What each kind of certified number promises, in a sentence.
KINDS: Mapping[str, str] = {
    "exact": "The log-likelihood itself, to rounding.",
    "lower_bound": "In expectation the true log-likelihood is at least this: "
    "the model may be better than the number says, not worse.",
    "upper_bound": "In expectation the true log-likelihood is at most this.",
    "bracket": "The true log-likelihood lies between a lower and an upper bound, each up to its own error.",
    "estimate": "Neither a lower nor an upper bound; read the note, if there is one.",
}
SIGNS: Mapping[str, str] = {"exact": "=", "lower_bound": "≥", "upper_bound": "≤", "bracket": "∈", "estimate": "≈"}


@dataclass(frozen=True)
class Block:
    """A part of a page: `kind` names the macro of the template that sets it, `body` is what that macro reads."""

    kind: str
    body: Any
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of a page with a place in its table of contents; blocks of one row stand side by side."""

    id: str
    title: str
    lead: str = ""
    rows: list[list[Block]] = field(default_factory=list)
    level: int = 2

    def add(self, *blocks: Block | None) -> None:
        """Add a row of blocks; those that are None are left out."""
        present = [block for block in blocks if block is not None]
        if present:
            self.rows.append(present)


def digits_for(error: float | None) -> int:
    """Return how many decimals a value deserves whose error is `error`: two, or more when it is known better."""
    if error is None or not math.isfinite(error) or error <= 0:
        return 2
    return min(6, max(2, 1 - math.floor(math.log10(error))))


def data(number: float | None, digits: int = 2) -> Markup:
    """Return a number set for reading that carries its exact value for machines."""
    if number is None or not math.isfinite(number):
        return Markup("–")
    return Markup('<data value="{}">{}</data>').format(repr(float(number)), signed(number, digits))


def estimate_cell(record: Estimate) -> Markup:
    """Return a certified number on one line: sign, value, standard error."""
    digits = digits_for(record.standard_error)
    if record.low is not None and record.high is not None:
        shown = Markup("∈ [{}, {}]").format(data(record.low, digits), data(record.high, digits))
    else:
        shown = Markup("{} {}").format(SIGNS.get(record.kind, "≈"), data(record.value, digits))
    if not math.isfinite(record.standard_error):
        return Markup(shown)
    return Markup("{} ± {}").format(shown, data(record.standard_error, digits))


def figure(drawing: Figure, alt: str, caption: str = "") -> Block:
    return Block("figure", inline_svg(drawing, alt), caption)


def picture(images: np.ndarray, alt: str, caption: str = "", *, columns: int | None = None, width: int = 440) -> Block:
    """Return images side by side as one block about `width` pixels wide, each pixel a whole number of them."""
    n = len(images)
    columns = min(n, columns or max(4, math.ceil(math.sqrt(n))))
    gap = 3
    canvas = tiles.sheet(images, columns, zoom=tiles.zoom_for(images, (width - gap * columns) // columns), gap=gap)
    height, wide = canvas.shape[:2]
    body = {"uri": tiles.data_uri(canvas), "alt": alt, "width": wide, "height": height}
    return Block("picture", body, caption)


def film(stages: Sequence[tuple[str, np.ndarray]], alt: str, caption: str = "", *, width: int = 640) -> Block:
    """Return labelled strips of images, one under the other, the same rows in each."""
    zoom = tiles.zoom_for(stages[0][1], width // max(8, len(stages[0][1])))
    body = []
    for label, images in stages:
        canvas = tiles.sheet(images, len(images), zoom=zoom, gap=3)
        body.append({"label": label, "uri": tiles.data_uri(canvas), "width": canvas.shape[1], "alt": f"{alt}: {label}",
                     "height": canvas.shape[0]})  # fmt: skip
    return Block("film", body, caption)


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", *, numeric: Sequence[int] = ()
) -> Block:
    """Return a table; the columns of `numeric` are set flush right."""
    return Block("table", {"head": list(head), "rows": [list(row) for row in rows], "numeric": set(numeric)}, caption)


def facts(pairs: Sequence[tuple[str, Any]], caption: str = "") -> Block:
    """Return a list of names and values; values that are None are left out."""
    return Block("facts", [(name, value) for name, value in pairs if value is not None and value != ""], caption)
